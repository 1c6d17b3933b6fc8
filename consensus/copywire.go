package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// The calls between two hosts of which one copies a group's state from the
// other, see docs/format/wire.md. Whoever wants the copy asks for piece after
// piece, so it is never sent more than it has asked for.
const (
	callOpenCopy   = "copy.open"
	callReadCopy   = "copy.read"
	callDigestCopy = "copy.digest"
	callCloseCopy  = "copy.close"
)

// openCopy asks for a snapshot that goes beyond an entry.
type openCopy struct {
	group id.Group
	above id.Index
}

// openedCopy answers it.
type openedCopy struct {
	snapshot SnapshotID
	image    Image
	bytes    uint64 // about
}

// atCopy names an opened snapshot and, to read on, the position reached.
type atCopy struct {
	group    id.Group
	snapshot SnapshotID
	after    []byte // nil: the beginning
}

// pieces is what follows a position.
type pieces struct {
	list []piece
	end  bool // nothing follows the last one
}

type piece struct{ data, next []byte }

func (o openCopy) encode() []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(o.group)), uint64(o.above))
}

func decodeOpenCopy(b []byte) (openCopy, error) {
	d := decoder{b: b}
	o := openCopy{group: id.Group(d.uvarint()), above: id.Index(d.uvarint())}
	return o, d.end()
}

func (o openedCopy) encode() []byte {
	b := append([]byte(nil), o.snapshot[:]...)
	for _, v := range []uint64{uint64(o.image.Index), uint64(o.image.Term), o.bytes} {
		b = binary.AppendUvarint(b, v)
	}
	return append(b, o.image.Record...)
}

func decodeOpenedCopy(b []byte) (openedCopy, error) {
	d := decoder{b: b}
	var o openedCopy
	copy(o.snapshot[:], d.bytes(uint64(len(o.snapshot))))
	o.image.Index, o.image.Term, o.bytes = id.Index(d.uvarint()), id.Term(d.uvarint()), d.uvarint()
	o.image.Record = d.b
	if d.err == nil {
		_, d.err = decodeConf(o.image.Record)
	}
	if d.err == nil && (o.image.Index == 0 || o.image.Term == 0) {
		d.err = fmt.Errorf("copy of entry %d of term %d", o.image.Index, o.image.Term)
	}
	return o, d.err
}

func (a atCopy) encode() []byte {
	b := append(binary.AppendUvarint(nil, uint64(a.group)), a.snapshot[:]...)
	return append(b, a.after...)
}

func decodeAtCopy(b []byte) (atCopy, error) {
	d := decoder{b: b}
	a := atCopy{group: id.Group(d.uvarint())}
	copy(a.snapshot[:], d.bytes(uint64(len(a.snapshot))))
	if len(d.b) > 0 {
		a.after = d.b
	}
	return a, d.err
}

func (p pieces) encode() []byte {
	size := 1
	for _, x := range p.list {
		size += len(x.data) + len(x.next) + 2*binary.MaxVarintLen32
	}
	b := make([]byte, 1, size)
	if p.end {
		b[0] = 1
	}
	for _, x := range p.list {
		for _, part := range [][]byte{x.data, x.next} {
			b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
		}
	}
	return b
}

// decodePieces is the gate: every position that comes out of it can be asked for.
func decodePieces(b []byte) (pieces, error) {
	d := decoder{b: b}
	flags := d.bytes(1)
	if d.err != nil || flags[0] > 1 {
		return pieces{}, errors.Join(errors.New("pieces of a copy without their flags"), d.err)
	}
	p := pieces{end: flags[0] == 1}
	for len(d.b) > 0 && d.err == nil {
		x := piece{data: d.bytes(d.uvarint()), next: d.bytes(d.uvarint())}
		if d.err == nil && len(x.next) == 0 {
			d.err = errors.New("piece of a copy without the position after it")
		}
		p.list = append(p.list, x)
	}
	if d.err == nil && !p.end && len(p.list) == 0 {
		d.err = errors.New("neither a piece of the copy nor its end")
	}
	return p, d.err
}

// end reports that something follows what was read.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.b))
	}
	return d.err
}
