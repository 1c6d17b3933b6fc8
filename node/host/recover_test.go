package host

import (
	"strings"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// A directory whose recovery was interrupted does not start; one whose recovery
// is done knows its replicas by their new ids, and whom it gave up, for ever.
func TestRecoveryIsAllOrNothing(t *testing.T) {
	dir, lost := t.TempDir(), id.UUID{1}
	again := func(r *Record) *Record {
		t.Helper()
		if r != nil {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		r, err := OpenRecord(dir)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := again(nil)
	if err := r.put(held{Group: 1, Replica: 2, Phase: phaseHeld}, held{Group: 5, Replica: 2, Phase: phaseCreating}); err != nil {
		t.Fatal(err)
	}
	plan := Recovery{At: time.Unix(1e9, 0), On: "b:6030", Replicas: []mnode.Renumbered{{Group: 1, From: 2, To: 1004}}, GivenUp: []id.UUID{lost}}
	if err := r.BeginRecovery(plan); err != nil {
		t.Fatal(err)
	}
	r = again(r)
	if err := r.Whole(); err == nil || r.GivenUp(lost) != nil {
		t.Errorf("half way: may start (%v), refuses others (%v)", err, r.GivenUp(lost))
	}
	if err := r.EndRecovery(); err != nil {
		t.Fatal(err)
	}
	r = again(r)
	defer r.Close()
	if err := r.Whole(); err != nil {
		t.Errorf("done: %v", err)
	}
	if x, _ := r.replica(1); x.Replica != 1004 {
		t.Errorf("replica of group 1 is %d, want 1004", x.Replica)
	}
	if x, _ := r.replica(5); x.Replica != 2 {
		t.Errorf("replica of group 5, which was never formed, is %d, want 2", x.Replica)
	}
	if err := r.GivenUp(lost); err == nil || !strings.Contains(err.Error(), "given up by tnode recover on b:6030") {
		t.Errorf("a directory that was given up: %v", err)
	}
	if err := r.GivenUp(id.UUID{2}); err != nil {
		t.Errorf("another directory: %v", err)
	}

	if err := r.BeginRecovery(Recovery{GivenUp: []id.UUID{{3}}}); err != nil {
		t.Fatal(err)
	}
	if err := r.EndRecovery(); err != nil {
		t.Fatal(err)
	}
	if r.GivenUp(lost) == nil || r.GivenUp(id.UUID{3}) == nil {
		t.Error("a second recovery forgets whom the first one gave up")
	}
}
