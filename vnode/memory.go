package vnode

import (
	"encoding/binary"
	"math"

	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/vnode/repeat"
)

// RememberFor is how long, in the time of the log, a statement's id is known
// (R46).
const RememberFor = repeat.For

// memory knows the statements of the last 30 seconds of the log by their ids
// (R46), so that one that is proposed again is answered with its first result.
// Beside each entry with ids the store has a record of them, so that a restart
// knows them, too.
type memory struct {
	*repeat.Memory[StatementID, remembered]
}

func newMemory() *memory { return &memory{repeat.New[StatementID, remembered]()} }

// remembered is the first outcome of a statement.
type remembered struct {
	pos   objectID // where it stands in the log
	rows  uint32
	fault fault
	extra bool // Result.Existed
}

// Place is where the statement stands in the log.
func (r remembered) Place() repeat.Place { return repeat.Place(r.pos) }

// Outcome is the result of a statement that this replica has applied lately
// (R46), if it was carried out.
func (v *Vnode) Outcome(who StatementID) (Result, bool) {
	r, ok := v.current.Load().memory.Seen(who, math.MaxUint64, 0)
	return r.result(), ok && r.fault == faultNone
}

func (r remembered) result() Result { return Result{Rows: int64(r.rows), Existed: r.extra} }

// appendRemembered appends one statement to the record of its entry. before is
// the statement appended before it, zero for the first.
func appendRemembered(dst []byte, before, who StatementID, r remembered) []byte {
	mark := byte(r.fault) << 2
	if r.extra {
		mark |= 2
	}
	if who.Boot != before.Boot {
		mark |= 1
	}
	dst = append(dst, mark)
	if who.Boot != before.Boot {
		dst = binary.BigEndian.AppendUint64(dst, who.Boot)
	}
	dst = binary.AppendVarint(dst, int64(who.Seq-before.Seq))
	dst = binary.AppendUvarint(dst, uint64(r.pos&(1<<positionBits-1)))
	return binary.AppendUvarint(dst, uint64(r.rows))
}

// eachRemembered calls do for every statement of a record.
func eachRemembered(index id.Index, record []byte, do func(StatementID, remembered)) error {
	d := decoder{src: record}
	var who StatementID
	for len(d.src) > 0 {
		mark := d.byte()
		if mark&1 != 0 {
			who.Boot = d.uint64()
		}
		who.Seq += uint64(d.varint())
		pos := d.uvarint()
		rows := d.uvarint()
		if d.err == nil && (pos >= 1<<positionBits || rows > math.MaxUint32) {
			d.fail("bad outcome of a statement")
		}
		if d.err != nil {
			break
		}
		do(who, remembered{
			pos: objectID(index)<<positionBits | objectID(pos), rows: uint32(rows),
			fault: fault(mark >> 2), extra: mark&2 != 0,
		})
	}
	return d.end()
}

// load remembers the statements of a stored record.
func (m *memory) load(index id.Index, record []byte) error {
	d := decoder{src: record}
	stamp := hlc.Stamp(d.uint64())
	if d.err != nil {
		return d.err
	}
	return eachRemembered(index, d.src, func(who StatementID, r remembered) { m.Add(stamp, who, r) })
}
