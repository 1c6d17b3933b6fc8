package peer

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// The bounds of one frame's messages. A sender cuts its frames far below them
// (conn.go); a receiver that sees more closes the connection.
const (
	maxMessages = 1 << 16
	maxEntries  = 1 << 18 // of all messages of a frame together
)

// errTruncated means that a message ends before what it announces.
var errTruncated = errors.New("truncated")

// AppendMessages appends the wire form of msgs to dst (docs/format/wire.md).
func AppendMessages(dst []byte, msgs []Message) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(msgs)))
	for i := range msgs {
		dst = appendMessage(dst, &msgs[i])
	}
	return dst
}

// DecodeMessages reads what AppendMessages wrote. It checks every length before
// it allocates. The messages keep b: their data points into it.
func DecodeMessages(b []byte) ([]Message, error) {
	d := decoder{b: b, entries: maxEntries}
	n := d.count(maxMessages, minMessage)
	msgs := make([]Message, n)
	for i := range msgs {
		d.message(&msgs[i])
		if d.err != nil {
			return nil, fmt.Errorf("message %d of %d: %w", i+1, n, d.err)
		}
	}
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes follow the last message", len(d.b))
	}
	return msgs, d.err
}

// minMessage is the length of the shortest message: a ping.
const minMessage = 4

func appendMessage(dst []byte, m *Message) []byte {
	dst = append(dst, byte(m.Kind))
	dst = binary.AppendUvarint(dst, uint64(m.Group))
	dst = binary.AppendUvarint(dst, uint64(m.From))
	dst = binary.AppendUvarint(dst, uint64(m.To))
	switch m.Kind {
	case KindRaft:
		return appendRaft(dst, m)
	case KindFeed:
		return appendFeed(dst, m.Feed)
	case KindAnswer:
		a := m.Answer
		dst = binary.AppendUvarint(dst, a.Seq)
		dst = binary.AppendUvarint(dst, uint64(a.Term))
		dst = binary.AppendUvarint(dst, uint64(a.Last))
		dst = binary.AppendUvarint(dst, a.Generation)
		return append(dst, bits(a.Reject))
	case KindRefusal:
		return append(dst, byte(m.Refusal))
	case KindHung, KindUnready:
		return binary.AppendUvarint(dst, uint64(m.Term))
	case KindHeld:
		return binary.AppendUvarint(dst, uint64(m.Index))
	case KindPosition:
		return binary.AppendUvarint(binary.AppendUvarint(dst, uint64(m.Term)), uint64(m.Index))
	case KindEnroll, KindEnrolled, KindRetire, KindRetired:
		return append(dst, m.Enroll.Witness[:]...)
	case KindGoodbye, KindPing, KindPong:
		return dst
	}
	panic(fmt.Sprintf("message of kind %d has no wire form", m.Kind))
}

func appendFeed(dst []byte, f *Feed) []byte {
	dst = append(dst, bits(f.BaseCommitted, f.Lease))
	for _, v := range [...]uint64{f.Seq, uint64(f.Term), uint64(f.Base), uint64(f.BaseTerm), uint64(f.Last), uint64(f.Commit)} {
		dst = binary.AppendUvarint(dst, v)
	}
	dst = binary.AppendUvarint(dst, uint64(len(f.Runs)))
	for _, r := range f.Runs {
		dst = binary.AppendUvarint(dst, uint64(r.First))
		dst = binary.AppendUvarint(dst, uint64(r.Term))
	}
	return dst
}

// bits packs booleans into one byte, the first into the lowest bit.
func bits(flags ...bool) byte {
	var b byte
	for i, f := range flags {
		if f {
			b |= 1 << i
		}
	}
	return b
}

// decoder reads from b. After the first error it returns zeros.
type decoder struct {
	b       []byte
	err     error
	entries int // how many more the frame may hold
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail(errTruncated)
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

// flags reads a byte of which only the lowest n bits may be set.
func (d *decoder) flags(n int) byte {
	v := d.byte()
	if v>>n != 0 {
		d.fail(fmt.Errorf("unknown flags 0x%02x", v))
	}
	return v
}

func (d *decoder) uvarint() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 { // most are small
		v := d.b[0]
		d.b = d.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail(errTruncated)
		return 0
	}
	d.b = d.b[n:]
	return v
}

// bytes reads n bytes; they point into the input. Nil when n is zero.
func (d *decoder) bytes(n uint64) []byte {
	if n == 0 {
		return nil
	}
	if n > uint64(len(d.b)) {
		d.fail(errTruncated)
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

// count reads how many things of at least size bytes each follow.
func (d *decoder) count(limit, size uint64) int {
	n := d.uvarint()
	if n > limit || n > uint64(len(d.b))/size {
		d.fail(fmt.Errorf("%d items announced in %d bytes", n, len(d.b)))
		return 0
	}
	return int(n)
}

func (d *decoder) message(m *Message) {
	m.Kind = Kind(d.byte())
	g := d.uvarint()
	if g > 1<<32-1 {
		d.fail(fmt.Errorf("group %d", g))
	}
	m.Group, m.From, m.To = id.Group(g), id.Replica(d.uvarint()), id.Replica(d.uvarint())
	switch m.Kind {
	case KindRaft:
		d.raft(m)
	case KindFeed:
		d.feed(m)
	case KindAnswer:
		m.Answer = &Answer{Seq: d.uvarint(), Term: id.Term(d.uvarint()), Last: id.Index(d.uvarint()), Generation: d.uvarint()}
		m.Answer.Reject = d.flags(1) != 0
	case KindRefusal:
		m.Refusal = Refusal(d.byte())
	case KindHung, KindUnready:
		m.Term = id.Term(d.uvarint())
	case KindHeld:
		m.Index = id.Index(d.uvarint())
	case KindPosition:
		m.Term, m.Index = id.Term(d.uvarint()), id.Index(d.uvarint())
	case KindEnroll, KindEnrolled, KindRetire, KindRetired:
		m.Enroll = new(Enroll)
		copy(m.Enroll.Witness[:], d.bytes(uint64(len(m.Enroll.Witness))))
	case KindGoodbye, KindPing, KindPong:
	default:
		d.fail(fmt.Errorf("unknown kind %d", m.Kind))
	}
}

// feed reads a Feed and checks it. One that is merely too long passes, for the
// arbitrator to refuse it by name (R11b).
func (d *decoder) feed(m *Message) {
	flags := d.flags(2)
	f := &Feed{
		BaseCommitted: flags&1 != 0, Lease: flags&2 != 0,
		Seq: d.uvarint(), Term: id.Term(d.uvarint()), Base: id.Index(d.uvarint()), BaseTerm: id.Term(d.uvarint()),
		Last: id.Index(d.uvarint()), Commit: id.Index(d.uvarint()),
	}
	if n := d.count(MaxFeedEntries, 2); n > 0 {
		f.Runs = make([]Run, n)
		for i := range f.Runs {
			f.Runs[i] = Run{First: id.Index(d.uvarint()), Term: id.Term(d.uvarint())}
		}
	}
	tooLong := f.Last > f.Base && f.Last-f.Base > MaxFeedEntries
	if d.err == nil && !tooLong {
		d.err = f.Check()
	}
	m.Feed = f
}
