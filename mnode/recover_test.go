package mnode

import (
	"errors"
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// pairView is two hosts, an arbitrator, a group of both, one that is being made
// and one of the host that is lost.
func pairView() *View {
	a := Member{Replica: 1, Dnode: 1, UUID: uuidA}
	b := Member{Replica: 2, Dnode: 2, UUID: uuidB}
	w := Member{Replica: 3, UUID: uuidW, Witness: true}
	return &View{
		Index: 20, Cluster: Cluster{ID: 7}, Arbitrator: Arbitrator{EndPoint: "w:6042", UUID: uuidW}, NextDnode: 3, NextGroup: 5,
		Dnodes: []Dnode{{ID: 1, EndPoint: "a:6030", UUID: uuidA}, {ID: 2, EndPoint: "b:6030", UUID: uuidB}},
		Databases: []Database{
			{Name: "d", Options: Options{Replica: 2}, Groups: []id.Group{2}},
			{Name: "e", Options: Options{Replica: 2}, Groups: []id.Group{3}},
			{Name: "f", Options: Options{Replica: 1}, Groups: []id.Group{4}},
		},
		Groups: []Group{
			{ID: 1, State: Formed, Members: []Member{a, b, w}, NextReplica: 4},
			{ID: 2, Database: "d", State: Formed, Members: []Member{a, b, w}, NextReplica: 4},
			{ID: 3, Database: "e", State: Creating, Members: []Member{a, b, w}, Founders: []Member{a, b, w}, NextReplica: 4},
			{ID: 4, Database: "f", State: Formed, Members: []Member{a}, NextReplica: 2},
		},
	}
}

func TestSurvivorGoesOnAlone(t *testing.T) {
	v := pairView()
	c, err := v.Survive(uuidB)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Replicas) != 2 || c.Survivor != 2 {
		t.Fatalf("got %+v, want two groups of dnode 2", c)
	}
	if r := (Envelope{At: birth, Command: c}).apply(v, 21, 9); r.Err != nil {
		t.Fatal(r.Err)
	}
	if err := v.check(); err != nil {
		t.Fatal(err)
	}
	for _, n := range []id.Group{1, 2} {
		g, _ := v.Group(n)
		data := g.Data()
		if len(data) != 1 || data[0].UUID != uuidB || data[0].Replica != 4+beyond || g.NextReplica != 5+beyond {
			t.Errorf("group %d: got %+v, next %d", n, data, g.NextReplica)
		}
		if _, votes := g.Witness(); votes {
			t.Errorf("group %d: the arbitrator still votes", n)
		}
	}
	if g, _ := v.Group(4); len(g.Data()) != 1 || g.Data()[0].UUID != uuidA {
		t.Errorf("a group that the survivor never had has changed: %+v", g)
	}

	// The new master retires the arbitrator's old replicas, and gives nothing to
	// the host that was given up.
	line := func(n id.Group) GroupReport {
		return GroupReport{Group: n, Replica: 4 + beyond, Formed: true, Role: consensus.RoleMaster, Leader: uuidB, Term: 9, Members: []consensus.MemberStatus{
			{Member: consensus.Member{Replica: 4 + beyond, UUID: uuidB}, Role: consensus.RoleMaster},
		}}
	}
	f := Facts{
		NumOfMnodes: 3, Answers: uuidW, AnswersAt: birth, Enrolled: map[Enrolment]bool{}, Retired: map[Enrolment]bool{},
		Hosts: map[id.Host]Heard{2: {At: birth, Report: Report{Dnode: 2, UUID: uuidB, Done: 21, Groups: []GroupReport{line(1), line(2)}}}},
	}
	f.Interval = 1e9
	actions, _ := Plan(birth, v, &f)
	retired := 0
	for _, a := range actions {
		switch a := a.(type) {
		case Enroll:
			if !a.Retire {
				t.Errorf("the arbitrator is enrolled while there is one data host: %+v", a)
			}
			retired++
		case Change:
			t.Errorf("members change: %+v", a)
		}
	}
	if retired != 2 {
		t.Errorf("%d replicas of the arbitrator are retired, want 2: %+v", retired, actions)
	}
}

func TestRecoverIsChecked(t *testing.T) {
	for name, c := range map[string]Recover{
		"nobody survives":           {Survivor: 9},
		"another's replica":         {Survivor: 2, Replicas: []Renumbered{{Group: 2, From: 1, To: 2000}}},
		"the arbitrator's replica":  {Survivor: 2, Replicas: []Renumbered{{Group: 2, From: 3, To: 2000}}},
		"an id that was given out":  {Survivor: 2, Replicas: []Renumbered{{Group: 2, From: 2, To: 3}}},
		"a group that is not known": {Survivor: 2, Replicas: []Renumbered{{Group: 77, From: 2, To: 2000}}},
	} {
		v := pairView()
		if r := c.apply(v, birth); r.Err == nil {
			t.Errorf("%s: it was done", name)
		}
		if g, _ := v.Group(2); len(g.Members) != 3 {
			t.Errorf("%s: refused, and done in part: %+v", name, g.Members)
		}
	}
	if _, err := pairView().Survive(uuidC); err == nil {
		t.Error("a directory that is no member survives")
	}
	s := &Master{mnode: &Mnode{}, cfg: MasterConfig{Self: uuidA}}
	s.mnode.mu.leads = true
	for _, c := range []Command{Recover{Survivor: 2}, NoteFailover{}} {
		if r, err := s.Exec(t.Context(), Request{}, c); err != nil || !errors.Is(r.Error(), &Error{Code: CodeParameter}) {
			t.Errorf("a client may send %T: %v, %v", c, r, err)
		}
	}
}
