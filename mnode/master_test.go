package mnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// shaky is an Outside on which the first proposal fails. Nothing else of it is
// used while a cluster has one host.
type shaky struct {
	Outside
	proposed []time.Time
}

func (o *shaky) Propose(context.Context, id.Group, []byte) (any, error) {
	o.proposed = append(o.proposed, time.Now())
	if len(o.proposed) == 1 {
		return nil, errors.New("not this time")
	}
	return Result{}, nil
}

func (o *shaky) Linked(id.UUID) bool { return true }

// An action that fails is tried again after retryAfter, also when nothing else
// happens that would make the master look.
func TestFailedActionIsTriedAgainSoon(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := openTest(t, dir)
		applyAll(t, m, 2, Found{Cluster: 7, Name: "plant", EndPoint: "a:6030", UUID: uuidA, RootHash: testHash},
			CreateDnode{EndPoint: "b:6030"}, DropDnode{Dnode: 2})
		out := &shaky{}
		cfg := MasterConfig{Self: uuidA, NumOfMnodes: 1, Interval: time.Hour}
		s := NewMaster(cfg, m, out, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = s.Run(ctx)
		}()
		m.LeaderChanged(2, uuidA, true)
		time.Sleep(2 * retryAfter)
		cancel()
		<-ended
		if len(out.proposed) < 2 {
			t.Fatalf("RemoveDnode was proposed %d times, want again after %v", len(out.proposed), retryAfter)
		}
		if waited := out.proposed[1].Sub(out.proposed[0]); waited != retryAfter {
			t.Errorf("tried again after %v, want %v", waited, retryAfter)
		}
	})
}

// A host that says it is where another one is does not fit; once the other has
// gone elsewhere it does.
func TestTwoHostsAtOneEndPoint(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := openTest(t, dir)
		applyAll(t, m, 2, Found{Cluster: 7, Name: "plant", EndPoint: "a:6030", UUID: uuidA, RootHash: testHash},
			CreateDnode{EndPoint: "b:6030"}, AdmitDnode{EndPoint: "b:6030", UUID: uuidB})
		m.LeaderChanged(2, uuidA, true)
		s := NewMaster(MasterConfig{Self: uuidA, NumOfMnodes: 1, Interval: time.Second}, m, &shaky{}, slog.New(slog.DiscardHandler))
		say := func(n id.Host, u id.UUID, endPoint string) string {
			a, err := s.Report(Report{Dnode: n, UUID: u, EndPoint: endPoint, Seen: m.View().Index})
			if err != nil {
				t.Fatal(err)
			}
			return a.Reason
		}
		if got := say(1, uuidA, "a:6030"); got != "" {
			t.Errorf("the only one there: %q", got)
		}
		if got, want := say(2, uuidB, "a:6030"), "fqdn and serverPort make it a:6030, which is dnode 1"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		say(1, uuidA, "a2:6030")
		if got := say(2, uuidB, "a:6030"); got != "" {
			t.Errorf("the other has gone elsewhere: %q", got)
		}
	})
}

// Another arbitrator has been set, and the last answer came from the old one: it
// says nothing about who answers at the new end point.
func TestAnswersBelongToAnEndPoint(t *testing.T) {
	w := newWorld(t, true)
	w.settle(nil)
	w.commit(SetArbitrator{EndPoint: "w2:6042", UUID: id.UUID{0xe2}, Configured: "w:6042"})
	actions, _ := Plan(w.now, w.v, &w.facts)
	if len(actions) > 0 {
		t.Errorf("the plan wants %+v, want nothing", actions)
	}
}

// TestAMasterForgetsWhatIsNoMore: databases that come and go leave nothing
// behind in a master that leads for years, nor do actions that failed once.
func TestAMasterForgetsWhatIsNoMore(t *testing.T) {
	w := newWorld(t, true)
	w.commit(CreateDnode{EndPoint: "b:6030"})
	w.addHost(2, uuidB, "b:6030")
	w.settle(nil)
	o := DefaultOptions()
	o.Replica = 2
	for range 5 {
		w.commit(CreateDatabase{Name: "demo", Options: o})
		w.settle(nil)
		w.commit(DropDatabase{Name: "demo"})
		w.settle(nil)
	}
	w.facts.Hosts[9] = Heard{At: w.now}
	w.reconcile()
	for e := range w.facts.Enrolled {
		if e.Group != id.Mnode {
			t.Errorf("%+v is known as enrolled, and the group is gone", e)
		}
	}
	if n := len(w.facts.Retired); n > 0 {
		t.Errorf("%d retired replicas of groups that are gone are known", n)
	}
	if n := len(w.facts.Hosts); n != 2 {
		t.Errorf("reports of %d hosts are kept, want 2", n)
	}

	s := &Master{running: map[string]bool{}, retry: map[string]time.Time{}, failed: map[string]failure{}, log: slog.New(slog.DiscardHandler)}
	synctest.Test(t, func(t *testing.T) {
		for i := range 100 * maxActions {
			s.finish(outcome{key: fmt.Sprint(i), err: errors.New("not this time")})
			time.Sleep(retryAfter)
		}
	})
	if n := len(s.retry) + len(s.failed); n > 10*maxActions {
		t.Errorf("%d actions of the past are remembered", n)
	}
}
