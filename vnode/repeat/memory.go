// Package repeat knows which statements the last half minute of a log holds,
// and what came of each, so that one that is proposed again is answered and not
// run (R46). It keeps nothing over a restart: who owns a Memory stores what is
// added to it, and adds it again.
//
// What is known must be the same on every replica and in every replay. So the
// leader says in each entry from which index on ids count (From), and a replay,
// which may find ids in its store that come later in the log, compares places:
// an id is a repetition only of an earlier place (Seen).
package repeat

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

const (
	// For is how long, in the time of the log, an id is known.
	For = 30 * time.Second
	// longestStep is what the time between two neighbouring entries counts at
	// most. Stamps leap when a leader takes over whose clock is ahead, and no
	// clock may make a log forget what a client is about to repeat.
	longestStep = time.Second
	// MostIDs bounds how many ids are known, some 80 bytes each.
	MostIDs = 1 << 20
)

// PlaceBits is how much of a Place counts within its entry.
const PlaceBits = 24

// Place is where something stands in a log: its entry, and its place there.
type Place uint64

// Index is the entry that p lies in.
func (p Place) Index() id.Index { return id.Index(p >> PlaceBits) }

// Outcome is what came of a statement, and where it stands.
type Outcome interface{ Place() Place }

// Memory is the memory of one replica. Its methods may be called by any
// goroutine: apply writes it, the leader's proposer asks it where to begin.
type Memory[K comparable, O Outcome] struct {
	mu   sync.Mutex
	byID map[K]O
	// entries are those with ids, by index. Of what is older than the mark and
	// no longer counts for an entry after it nothing is kept.
	entries []entry[K]
	count   int // ids of all entries
	// start is the first entry that counted when From was last asked, and before
	// the ids of the entries before it: they have only to be looked at once.
	start, before int
	span          time.Duration // from entries[start] to the last, with short steps
}

type entry[K comparable] struct {
	index id.Index
	stamp hlc.Stamp
	ids   []K
}

// New returns an empty memory.
func New[K comparable, O Outcome]() *Memory[K, O] { return &Memory[K, O]{byID: make(map[K]O)} }

// Len is how many ids are known.
func (m *Memory[K, O]) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.byID)
}

// Seen is the first outcome of a statement that stood before place, if it stood
// in entry from or a later one.
func (m *Memory[K, O]) Seen(who K, place Place, from id.Index) (O, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.byID[who]
	return o, ok && o.Place() < place && o.Place().Index() >= from
}

// Add remembers one more statement. stamp is that of its entry.
func (m *Memory[K, O]) Add(stamp hlc.Stamp, who K, o O) {
	m.mu.Lock()
	defer m.mu.Unlock()
	index := o.Place().Index()
	at, known := m.find(index)
	if !known {
		m.insert(at, entry[K]{index: index, stamp: stamp})
	}
	// An id that is there twice was used again after it had been forgotten.
	if old, ok := m.byID[who]; ok && old.Place() >= o.Place() {
		return
	}
	m.byID[who] = o
	m.entries[at].ids = append(m.entries[at].ids, who)
	m.count++
	if at < m.start {
		m.before++
	}
}

// insert puts an entry where find says. The caller holds mu.
func (m *Memory[K, O]) insert(at int, e entry[K]) {
	if m.start < at && at < len(m.entries) {
		m.span -= m.step(at - 1)
	}
	m.entries = slices.Insert(m.entries, at, e)
	if at < m.start {
		m.start++
		return
	}
	m.span += m.step(at)
	if m.start < at {
		m.span += m.step(at - 1)
	}
}

// step is what the time from one entry to the next counts. The caller holds mu.
func (m *Memory[K, O]) step(i int) time.Duration {
	if i+1 >= len(m.entries) {
		return 0
	}
	return between(m.entries[i].stamp, m.entries[i+1].stamp)
}

func between(a, b hlc.Stamp) time.Duration {
	return time.Duration(min(max(b, a)-a, hlc.Stamp(longestStep)))
}

// From is from which entry on the next entry should remember ids. stamp is that
// of the next entry, so it only grows, and so does From.
func (m *Memory[K, O]) From(stamp hlc.Stamp) id.Index {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.entries)
	if n == 0 {
		return 0
	}
	since := between(m.entries[n-1].stamp, stamp)
	for ; m.start < n; m.start++ {
		if m.count-m.before <= MostIDs && m.span+since <= For {
			return m.entries[m.start].index
		}
		m.before += len(m.entries[m.start].ids)
		m.span -= m.step(m.start)
	}
	return m.entries[n-1].index + 1
}

// Knows reports whether the entry is in memory.
func (m *Memory[K, O]) Knows(index id.Index) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.find(index)
	return known
}

// find is where the entry stands or would stand. The caller holds mu.
func (m *Memory[K, O]) find(index id.Index) (at int, known bool) {
	if n := len(m.entries); n == 0 || m.entries[n-1].index < index { // nearly always
		return n, false
	}
	return slices.BinarySearchFunc(m.entries, index, func(e entry[K], i id.Index) int {
		return cmp.Compare(e.index, i)
	})
}

// Forget drops what stands before the entry from, at most most entries, and
// returns the indexes of those entries.
func (m *Memory[K, O]) Forget(from id.Index, most int) (gone []id.Index) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for ; n < len(m.entries) && n < most && m.entries[n].index < from; n++ {
		e := m.entries[n]
		gone = append(gone, e.index)
		m.count -= len(e.ids)
		if n < m.start {
			m.before -= len(e.ids)
		} else {
			m.span -= m.step(n)
		}
		for _, who := range e.ids {
			if m.byID[who].Place().Index() == e.index {
				delete(m.byID, who)
			}
		}
	}
	clear(m.entries[:n])
	m.entries = m.entries[n:]
	m.start = max(0, m.start-n)
	return gone
}
