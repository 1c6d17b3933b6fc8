package repeat

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

type place Place

func (p place) Place() Place { return Place(p) }

func at(index id.Index, n int) place { return place(index)<<PlaceBits | place(n) }

const noon = hlc.Stamp(1_700_000_000_000_000_000)

// slowFrom is what From gives, found by looking at everything.
func slowFrom(m *Memory[uint64, place], stamp hlc.Stamp) id.Index {
	count := m.count
	for i, e := range m.entries {
		age := time.Duration(0)
		for j := i; j < len(m.entries); j++ {
			next := stamp
			if j+1 < len(m.entries) {
				next = m.entries[j+1].stamp
			}
			age += time.Duration(min(next-m.entries[j].stamp, hlc.Stamp(longestStep)))
		}
		if count <= MostIDs && age <= For {
			return e.index
		}
		count -= len(e.ids)
	}
	if n := len(m.entries); n > 0 {
		return m.entries[n-1].index + 1
	}
	return 0
}

// TestFrom adds, replays and forgets entries: the first entry that counts is
// the same as if all of them had been looked at.
func TestFrom(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		m := New[uint64, place]()
		next, stamp := id.Index(1), noon
		stamps := map[id.Index]hlc.Stamp{}
		add := func(index id.Index) {
			for i := range rng.IntN(4) + 1 {
				p := at(index, i)
				m.Add(stamps[index], uint64(p), p)
			}
		}
		for step := range 500 {
			switch rng.IntN(8) {
			case 0:
				m.Forget(slowFrom(m, stamp), rng.IntN(5))
			case 1: // a replay finds an entry that a power cut took
				if back := 1 + id.Index(rng.IntN(50)); back < next && !m.Knows(next-back) && len(m.entries) > 0 && m.entries[0].index < next-back {
					add(next - back)
				}
			default:
				for range rng.IntN(3) { // without ids, or lost
					stamps[next] = stamp
					next++
				}
				stamps[next] = stamp
				add(next)
				next++
			}
			stamp += hlc.Stamp(rng.IntN(int(2 * time.Second)))
			if got, want := m.From(stamp), slowFrom(m, stamp); got != want {
				t.Fatalf("seed %d, step %d: got %d, want %d", seed, step, got, want)
			}
		}
		if m.start > len(m.entries) || m.before > m.count {
			t.Fatalf("seed %d: start %d of %d, before %d of %d", seed, m.start, len(m.entries), m.before, m.count)
		}
	}
}

// TestALeapForgetsNothing: a leader whose clock is an hour ahead knows what the
// one before it has just done.
func TestALeapForgetsNothing(t *testing.T) {
	m := New[uint64, place]()
	for i := range id.Index(100) {
		m.Add(noon+hlc.Stamp(i)*hlc.Stamp(10*time.Millisecond), uint64(i), at(i+1, 0))
	}
	ahead := noon + hlc.Stamp(time.Hour)
	from := m.From(ahead)
	if o, ok := m.Seen(99, Place(at(200, 0)), from); !ok || o != at(100, 0) {
		t.Errorf("after a leap of an hour ids count from entry %d, the last is %d", from, 100)
	}
	m.Add(ahead, 200, at(200, 0))
	if from := m.From(ahead + hlc.Stamp(For)); from > 1 {
		t.Errorf("29 s later ids count from entry %d", from)
	}
}

// TestTheOldIsForgotten: an id counts half a minute of a log that is written.
func TestTheOldIsForgotten(t *testing.T) {
	m := New[uint64, place]()
	for i := range id.Index(100) {
		m.Add(noon+hlc.Stamp(i)*hlc.Stamp(time.Second), uint64(i), at(i+1, 0))
	}
	if from := m.From(noon + 100*hlc.Stamp(time.Second)); from != 71 {
		t.Errorf("ids count from entry %d, want 71", from)
	}
}

// TestBound: more ids than may be kept are forgotten from the oldest on.
func TestBound(t *testing.T) {
	m := New[uint64, place]()
	const perEntry = 1000
	last := id.Index(MostIDs/perEntry + 50)
	for index := id.Index(1); index <= last; index++ {
		for i := range perEntry {
			p := at(index, i)
			m.Add(100, uint64(p), p)
		}
	}
	from := m.From(100)
	if kept := int(last-from+1) * perEntry; kept > MostIDs || kept < MostIDs-perEntry {
		t.Errorf("%d ids count from entry %d on, want at most %d", kept, from, MostIDs)
	}
	if gone := m.Forget(from, 1<<20); len(gone) != int(from)-1 || m.count > MostIDs || m.Len() != m.count {
		t.Errorf("forgot %d entries, kept %d ids of %d", len(gone), m.Len(), m.count)
	}
}
