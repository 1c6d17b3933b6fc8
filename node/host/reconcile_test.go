package host

import (
	"sync/atomic"
	"testing"
	"time"
)

// moveTo makes all later changes of a record go elsewhere.
func (r *Record) moveTo(path string) (was string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, r.path = r.path, path
	return was
}

// A disk that is full for a moment, just when a new replica is to be noted, does
// not cost the replica: its store is open by then, and nobody can open it twice.
func TestReplicaThatCouldNotBeNoted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		var opened atomic.Int64
		open := b.Host.open
		b.Host.open = func(s Spec) (Shard, error) {
			if opened.Add(1) == 1 {
				path := b.record.moveTo(t.TempDir() + "/gone/host")
				time.AfterFunc(3*time.Second, func() { b.record.moveTo(path) })
			}
			return open(s)
		}
		if err := a.CreateDatabase(t.Context(), "demo", twoReplicas(1)); err != nil {
			t.Fatal(err)
		}
		if n := opened.Load(); n != 1 {
			t.Errorf("the store was opened %d times", n)
		}
		if faults := b.faults(); len(faults) > 0 {
			t.Errorf("still faulty: %v", faults)
		}
	})
}
