package vnode

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

const (
	// RememberFor is how long, in the time of the log, a statement's id is
	// known (R46).
	RememberFor = 30 * time.Second
	// maxRemembered bounds how many ids are known, some 80 bytes each.
	maxRemembered = 1 << 20
)

// memory knows the statements of the last 30 seconds of the log by their ids
// (R46), so that one that is proposed again is answered with its first result.
//
// What is known must be the same on every replica and in every replay. So the
// leader says in each entry from which index on ids count, and a replay, which
// may find ids in the store that come later in the log, compares positions: an
// id is a repetition only of an earlier position.
//
// Apply writes it; the batcher asks it from where on to remember.
type memory struct {
	mu   sync.Mutex
	byID map[StatementID]remembered
	// entries are those with ids, by index. Of what is older than the mark and
	// no longer counts for an entry after it nothing is kept.
	entries []rememberedEntry
	count   int // ids of all entries
	// start is the first entry that counted when from was last asked, and before
	// the ids of the entries before it: they have only to be looked at once.
	start, before int
}

// remembered is the first outcome of a statement.
type remembered struct {
	pos   objectID // where it stands in the log
	rows  uint32
	fault fault
	extra bool // Result.Existed
}

type rememberedEntry struct {
	index id.Index
	stamp hlc.Stamp
	ids   []StatementID
}

func newMemory() *memory { return &memory{byID: make(map[StatementID]remembered)} }

// seen is the first outcome of a statement that stood before pos, if it stood
// in entry from or a later one.
func (m *memory) seen(who StatementID, pos objectID, from id.Index) (remembered, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.byID[who]
	return r, ok && r.pos < pos && indexOf(r.pos) >= from
}

// Outcome is the result of a statement that this replica has applied lately
// (R46), if it was carried out.
func (v *Vnode) Outcome(who StatementID) (Result, bool) {
	r, ok := v.current.Load().memory.seen(who, math.MaxUint64, 0)
	return r.result(), ok && r.fault == faultNone
}

func (r remembered) result() Result { return Result{Rows: int64(r.rows), Existed: r.extra} }

// indexOf is the entry that a position lies in.
func indexOf(pos objectID) id.Index { return id.Index(pos >> positionBits) }

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

// add remembers one more statement of an entry.
func (m *memory) add(index id.Index, stamp hlc.Stamp, who StatementID, r remembered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addLocked(index, stamp, who, r)
}

func (m *memory) addLocked(index id.Index, stamp hlc.Stamp, who StatementID, r remembered) {
	at, known := m.find(index)
	if !known {
		m.entries = slices.Insert(m.entries, at, rememberedEntry{index: index, stamp: stamp})
		if at < m.start {
			m.start++
		}
	}
	// An id that is there twice was used again after it had been forgotten.
	if old, ok := m.byID[who]; ok && old.pos >= r.pos {
		return
	}
	m.byID[who] = r
	m.entries[at].ids = append(m.entries[at].ids, who)
	m.count++
	if at < m.start {
		m.before++
	}
}

// load remembers the statements of a stored record.
func (m *memory) load(index id.Index, record []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := decoder{src: record}
	stamp := hlc.Stamp(d.uint64())
	if d.err != nil {
		return d.err
	}
	return eachRemembered(index, d.src, func(who StatementID, r remembered) {
		m.addLocked(index, stamp, who, r)
	})
}

// from is from which entry on the next entry should remember ids. stamp is that
// of the next entry, so it only grows, and so does from.
func (m *memory) from(stamp hlc.Stamp) id.Index {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ; m.start < len(m.entries); m.start++ {
		e := &m.entries[m.start]
		if m.count-m.before <= maxRemembered && e.stamp+hlc.Stamp(RememberFor) >= stamp {
			return e.index
		}
		m.before += len(e.ids)
	}
	if n := len(m.entries); n > 0 {
		return m.entries[n-1].index + 1
	}
	return 0
}

// knows reports whether the entry is in memory.
func (m *memory) knows(index id.Index) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.find(index)
	return known
}

// find is where the entry stands or would stand. The caller holds mu.
func (m *memory) find(index id.Index) (at int, known bool) {
	if n := len(m.entries); n == 0 || m.entries[n-1].index < index { // nearly always
		return n, false
	}
	return slices.BinarySearchFunc(m.entries, index, func(e rememberedEntry, i id.Index) int {
		return cmp.Compare(e.index, i)
	})
}

// forget drops what stands before the entry from, at most most entries, and
// returns the indexes of those entries.
func (m *memory) forget(from id.Index, most int) (gone []id.Index) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for ; n < len(m.entries) && n < most && m.entries[n].index < from; n++ {
		e := m.entries[n]
		gone = append(gone, e.index)
		m.count -= len(e.ids)
		if n < m.start {
			m.before -= len(e.ids)
		}
		for _, who := range e.ids {
			if indexOf(m.byID[who].pos) == e.index {
				delete(m.byID, who)
			}
		}
	}
	clear(m.entries[:n])
	m.entries = m.entries[n:]
	m.start = max(0, m.start-n)
	return gone
}
