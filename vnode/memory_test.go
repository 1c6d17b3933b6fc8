package vnode

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// slowFrom is what memory.from gives, found by looking at everything.
func slowFrom(m *memory, stamp hlc.Stamp) id.Index {
	count := m.count
	for _, e := range m.entries {
		if count <= maxRemembered && e.stamp+hlc.Stamp(RememberFor) >= stamp {
			return e.index
		}
		count -= len(e.ids)
	}
	if n := len(m.entries); n > 0 {
		return m.entries[n-1].index + 1
	}
	return 0
}

// TestMemoryFrom adds, replays and forgets entries: the first entry that counts
// is the same as if all of them had been looked at.
func TestMemoryFrom(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		m := newMemory()
		next, stamp := id.Index(1), hlc.At(testNow)
		stamps := map[id.Index]hlc.Stamp{}
		add := func(index id.Index) {
			for i := range rng.IntN(4) + 1 {
				pos := objectID(index)<<positionBits + objectID(i)
				m.add(index, stamps[index], StatementID{Boot: 1, Seq: uint64(pos)}, remembered{pos: pos})
			}
		}
		for step := range 500 {
			switch rng.IntN(8) {
			case 0:
				m.forget(slowFrom(m, stamp), rng.IntN(5))
			case 1: // a replay finds an entry that a power cut took
				if back := id.Index(rng.IntN(50)); back < next && !m.knows(next-back) && len(m.entries) > 0 && m.entries[0].index < next-back {
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
			if got, want := m.from(stamp), slowFrom(m, stamp); got != want {
				t.Fatalf("seed %d, step %d: got %d, want %d", seed, step, got, want)
			}
		}
		if m.start > len(m.entries) || m.before > m.count {
			t.Fatalf("seed %d: start %d of %d, before %d of %d", seed, m.start, len(m.entries), m.before, m.count)
		}
	}
}
