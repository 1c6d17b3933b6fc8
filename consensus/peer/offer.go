package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// MaxHistory is how many earlier starts an Offer tells of.
const MaxHistory = 64

// Start is one start of a process over a data directory.
type Start struct {
	Boot     uint64 // counts the starts of the directory, from 1
	Nonce    uint64 // drawn at this start: two directories that call it by the same number differ here
	Sequence uint64 // of the directory's log as this start found it; grows with every batch, never goes back
}

// Offer is what a directory says of itself before anything else (R42): this
// start, and the ones before it. It is fixed for the life of the process.
//
// Sequence is the one at start, not the current one: a copy that is put back
// writes too (a vote is enough), and would soon have caught up with what others
// remember.
//
// Invariants, checked by Check: History is in the order of the starts, without
// a gap up to the current one; sequences do not go back.
type Offer struct {
	Start
	OldCopy bool    // this directory is known to be one: nobody lets it in, nor remembers this start
	History []Start // the last MaxHistory starts before this one, oldest first
}

// Check reports the first broken invariant of o.
func (o *Offer) Check() error {
	if o.Boot == 0 {
		return errors.New("offer of start 0: starts count from 1")
	}
	if len(o.History) > MaxHistory || uint64(len(o.History)) >= o.Boot {
		return fmt.Errorf("offer of start %d tells of %d earlier ones", o.Boot, len(o.History))
	}
	for i, s := range o.History {
		next := o.Start
		if i+1 < len(o.History) {
			next = o.History[i+1]
		}
		if next.Boot != s.Boot+1 || next.Sequence < s.Sequence {
			return fmt.Errorf("start %d at %d is followed by start %d at %d", s.Boot, s.Sequence, next.Boot, next.Sequence)
		}
	}
	return nil
}

// Next returns the offer of the start that follows o, with at most MaxHistory
// starts before it. What was known to be an old copy stays one. The zero Offer is that of a directory which was never
// started.
func (o *Offer) Next(nonce, sequence uint64) Offer {
	next := Offer{Start: Start{Boot: o.Boot + 1, Nonce: nonce, Sequence: sequence}, OldCopy: o.OldCopy}
	if o.Boot == 0 {
		return next
	}
	kept := o.History[max(0, len(o.History)+1-MaxHistory):]
	next.History = append(append(make([]Start, 0, len(kept)+1), kept...), o.Start)
	return next
}

// Sighting is what one directory remembers of another: the newest start that it
// has met, and how far that one's log was known to have come. The zero Sighting
// remembers nothing.
type Sighting struct {
	Start
	Highest uint64 // sequence
}

// OldCopyError says that a directory does not continue what was seen of it: it
// is an old copy that was put back, or a clone.
type OldCopyError struct {
	Seen    Sighting
	Offered Start // the one that contradicts Seen
	Known   bool  // the directory says itself that it is one; nothing here need contradict
}

func (e *OldCopyError) Error() string {
	if e.Known {
		return "old copy of the directory: it was found to be one before"
	}
	if e.Offered.Boot > e.Seen.Boot {
		return fmt.Sprintf("old copy of the directory: start %d had written up to %d, the start after it (%d) found only %d",
			e.Seen.Boot, e.Seen.Highest, e.Offered.Boot, e.Offered.Sequence)
	}
	if e.Offered.Boot < e.Seen.Boot {
		return fmt.Sprintf("old copy of the directory: start %d was seen already, this is start %d", e.Seen.Boot, e.Offered.Boot)
	}
	return fmt.Sprintf("old copy of the directory: start %d was seen from another start", e.Seen.Boot)
}

// Judge compares what a directory offers with what was seen of it. It returns
// what to remember from now on, or an *OldCopyError (R42).
//
// The parts are compared one by one, not as a pair in order: a copy of start 5
// starts as 6, which looks newer. What betrays it is that the start after the
// newest one that was seen
//
//   - is not preceded by that very start (another nonce under its number), or
//   - found less in its log than that start was known to have written.
//
// When more starts lie between than History holds, the oldest of it stands for
// the missing ones, as sequences only grow: too small a sequence still is proof,
// a large one no longer proves that all is well, and passes.
func (s Sighting) Judge(o Offer) (Sighting, error) {
	if o.OldCopy {
		return s, &OldCopyError{Seen: s, Offered: o.Start, Known: true}
	}
	if s.Boot == 0 {
		return Sighting{Start: o.Start, Highest: o.Sequence}, nil
	}
	if o.Boot < s.Boot {
		return s, &OldCopyError{Seen: s, Offered: o.Start}
	}
	for _, x := range o.History {
		if err := s.contradicts(x); err != nil {
			return s, err
		}
		if x.Boot > s.Boot {
			break // sequences only grow from here
		}
	}
	if err := s.contradicts(o.Start); err != nil {
		return s, err
	}
	return Sighting{Start: o.Start, Highest: max(s.Highest, o.Sequence)}, nil
}

// contradicts compares one start with what was seen.
func (s Sighting) contradicts(x Start) error {
	if x.Boot == s.Boot && x.Nonce != s.Nonce || x.Boot > s.Boot && x.Sequence < s.Highest {
		return &OldCopyError{Seen: s, Offered: x}
	}
	return nil
}

// Heard notes how far the log of a start has come. It reports whether that is
// news; of a start other than the one seen last it never is.
func (s *Sighting) Heard(x Start, sequence uint64) bool {
	if s.Boot != x.Boot || s.Nonce != x.Nonce || sequence <= s.Highest {
		return false
	}
	s.Highest = sequence
	return true
}

// ---- bytes (docs/format/wire.md) ----

// AppendOffer appends o, which must pass Check, to dst. It is also how an
// arbitrator keeps its own starts.
func AppendOffer(dst []byte, o *Offer) []byte {
	dst = binary.AppendUvarint(dst, o.Boot)
	dst = append(dst, byte(len(o.History))|bits(o.OldCopy)<<7)
	before := uint64(0)
	for i := range len(o.History) + 1 {
		x := o.Start
		if i < len(o.History) {
			x = o.History[i]
		}
		dst = binary.LittleEndian.AppendUint64(dst, x.Nonce)
		dst = binary.AppendUvarint(dst, x.Sequence-before)
		before = x.Sequence
	}
	return dst
}

// DecodeOffer reads what AppendOffer wrote. What it returns passes Check.
func DecodeOffer(b []byte) (Offer, error) {
	d := decoder{b: b}
	var o Offer
	o.Boot = d.uvarint()
	head := d.byte()
	earlier := uint64(head & 0x7f)
	o.OldCopy = head>>7 != 0
	if d.err == nil && (o.Boot == 0 || earlier > MaxHistory || earlier >= o.Boot) {
		return Offer{}, fmt.Errorf("decode offer: start %d with %d earlier ones", o.Boot, earlier)
	}
	if earlier > 0 && d.err == nil {
		o.History = make([]Start, 0, earlier)
	}
	at := uint64(0)
	for i := range earlier + 1 {
		nonce := d.bytes(8)
		more := d.uvarint()
		if more > math.MaxUint64-at {
			d.fail(errors.New("sequence is too large"))
		}
		if d.err != nil {
			return Offer{}, fmt.Errorf("decode offer: %w", d.err)
		}
		at += more
		x := Start{Boot: o.Boot - earlier + i, Nonce: binary.LittleEndian.Uint64(nonce), Sequence: at}
		if i == earlier {
			o.Start = x
		} else {
			o.History = append(o.History, x)
		}
	}
	if len(d.b) > 0 {
		return Offer{}, fmt.Errorf("decode offer: %d bytes too many", len(d.b))
	}
	return o, nil
}
