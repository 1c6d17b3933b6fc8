package mnode

import (
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// takeover is a master that met two hosts, and what they report.
type takeover struct {
	t     *testing.T
	v     *View
	facts Facts
}

func newTakeover(t *testing.T) *takeover {
	v := &View{
		Index: 9, Cluster: Cluster{ID: 7}, NextDnode: 3,
		Dnodes: []Dnode{{ID: 1, EndPoint: "a:6030", UUID: uuidA}, {ID: 2, EndPoint: "b:6030", UUID: uuidB}},
	}
	w := &takeover{t: t, v: v}
	w.newMaster()
	return w
}

// newMaster forgets everything that is not in the log.
func (w *takeover) newMaster() {
	w.facts = Facts{Interval: time.Second, Hosts: map[id.Host]Heard{}}
	w.report(1, 11, consensus.History{})
	w.report(2, 21, consensus.History{})
}

// report is what a host says: what is in the View already, it says no more.
func (w *takeover) report(n id.Host, boot uint64, h consensus.History) {
	d, _ := w.v.Dnode(n)
	r := Report{Dnode: n, UUID: d.UUID, Boot: boot, History: w.v.News(n, h)}
	w.facts.Hosts[n] = Heard{Report: r, At: birth}
}

// plan carries out what there is to note about changes of master, and returns
// how much that was.
func (w *takeover) plan() (noted int) {
	actions, _ := Plan(birth, w.v, &w.facts)
	for _, a := range actions {
		d, ok := a.(Decide)
		if !ok {
			continue
		}
		if _, mine := d.Command.(NoteFailover); !mine {
			continue
		}
		next := w.v.clone()
		if r := (Envelope{At: birth, Command: d.Command}).apply(next, w.v.Index+1, 1); r.Err != nil {
			w.t.Fatal(r.Err)
		}
		w.v = next
		noted++
	}
	return noted
}

func (w *takeover) last() Failover {
	w.t.Helper()
	if len(w.v.Failovers) == 0 {
		w.t.Fatal("no change of master is known")
	}
	return w.v.Failovers[len(w.v.Failovers)-1]
}

// seen is a change of two groups from dnode 1 to dnode 2, as dnode 2 saw it.
func seen(term id.Term, cause consensus.Cause) consensus.History {
	return consensus.History{Failovers: []consensus.Failover{{
		Leadership: consensus.Leadership{Group: 1, Term: term}, Groups: 2, From: uuidA,
		Ended: []consensus.Leadership{{Group: 1, Term: term - 1}, {Group: 5, Term: 2}},
		At:    birth.Add(time.Duration(term) * time.Minute), Cause: cause, Mode: consensus.ModeAsync,
		Detection: 600 * time.Millisecond, Vote: 4 * time.Millisecond,
	}}}
}

// says is the same change as dnode 1 saw it, which lists other groups.
func says(cause consensus.Cause, stood time.Duration) consensus.History {
	return consensus.History{Depositions: []consensus.Deposition{{
		Ended: []consensus.Leadership{{Group: 5, Term: 2}, {Group: 9, Term: 2}}, Cause: cause, Stood: stood,
	}}}
}

func TestCauseComesFromBothSides(t *testing.T) {
	const silent, killed, stopped = consensus.CauseSilent, consensus.CauseKilled, consensus.CauseStopped
	for name, c := range map[string]struct {
		seen consensus.Cause // by the new master
		says consensus.Cause // unknown: nothing, the former one does not come back
		boot uint64          // of the former one, when it is back
		want consensus.Cause
	}{
		"silent, and not back yet":        {seen: silent, boot: 11, want: silent},
		"it stood still":                  {seen: silent, says: consensus.CauseFrozen, boot: 11, want: consensus.CauseFrozen},
		"its cable was pulled":            {seen: silent, says: consensus.CauseCut, boot: 11, want: consensus.CauseCut},
		"it has started anew":             {seen: silent, boot: 12, want: killed},
		"refused, but it lives":           {seen: killed, says: consensus.CauseCut, boot: 11, want: consensus.CauseCut},
		"killed":                          {seen: killed, boot: 12, want: killed},
		"it said goodbye":                 {seen: stopped, boot: 12, want: stopped},
		"it handed over and was cut then": {seen: consensus.CauseDiskFull, says: consensus.CauseCut, boot: 11, want: consensus.CauseDiskFull},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTakeover(t)
			w.report(2, 21, seen(7, c.seen))
			w.plan()
			var h consensus.History
			if c.says != consensus.CauseUnknown {
				h = says(c.says, 3*time.Second)
			}
			w.report(1, c.boot, h)
			w.plan()
			w.report(2, 21, seen(7, c.seen)) // again: it must not undo what is known since
			w.plan()
			f := w.last()
			if f.Cause != c.want || f.From != 1 || f.To != 2 || f.Groups != 2 {
				t.Errorf("got %v from %d to %d of %d groups, want %v from 1 to 2 of 2", f.Cause, f.From, f.To, f.Groups, c.want)
			}
			if f.Info() == "" {
				t.Errorf("%v says nothing to an operator", f.Cause)
			}
		})
	}
}

func TestFailoverIsNotedOnce(t *testing.T) {
	w := newTakeover(t)
	first := seen(7, consensus.CauseSilent)
	w.report(2, 21, first)
	if n := w.plan(); n != 1 {
		t.Fatalf("noted %d times, want once", n)
	}
	if h := w.v.News(2, first); !h.Empty() {
		t.Errorf("the host would say %+v again", h)
	}
	first.Failovers[0].FirstWrite = time.Second
	w.report(2, 21, first)
	w.plan()
	w.report(1, 11, says(consensus.CauseFrozen, time.Second))
	w.plan()
	w.newMaster() // which the hosts tell everything that is not in the log
	w.report(2, 21, first)
	w.report(1, 11, says(consensus.CauseFrozen, time.Second))
	if n := w.plan(); n != 0 || len(w.v.Failovers) != 1 {
		t.Errorf("a new master noted %d more, there are %d", n, len(w.v.Failovers))
	}
	if f := w.last(); f.FirstWrite != time.Second || f.Stood != time.Second || f.Cause != consensus.CauseFrozen || f.Boot != 11 {
		t.Errorf("got %+v", f)
	}
	if err := w.v.check(); err != nil {
		t.Error(err)
	}
}

func TestFailoversAreBounded(t *testing.T) {
	w := newTakeover(t)
	for term := id.Term(2); term < keptFailovers+50; term++ {
		w.report(2, 21, seen(term, consensus.CauseKilled))
		w.plan()
	}
	if n := len(w.v.Failovers); n != keptFailovers {
		t.Fatalf("%d are kept, want %d", n, keptFailovers)
	}
	w.report(2, 21, seen(3, consensus.CauseKilled)) // has left the list long ago
	if n := w.plan(); n != 0 || w.last().Name.Term != keptFailovers+49 {
		t.Errorf("an old change came back as the newest: %+v", w.last())
	}
}

func TestHungDiskCountsFromItsLastWord(t *testing.T) {
	f := Failover{From: 1, Cause: consensus.CauseDiskHung, Heard: birth, Detection: time.Millisecond, FirstWrite: 5 * time.Millisecond, Stood: 500 * time.Millisecond}
	well, detection, write := f.Times()
	if !well.Equal(birth.Add(-f.Stood)) || detection != 501*time.Millisecond || write != 505*time.Millisecond {
		t.Errorf("got %v, %v, %v", well, detection, write)
	}
	f.Cause = consensus.CauseFrozen
	if _, detection, write = f.Times(); detection != f.Detection || write != f.FirstWrite {
		t.Errorf("frozen: got %v, %v; silence is measured already", detection, write)
	}
}
