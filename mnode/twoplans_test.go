package mnode

import (
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// TestTwoPlansFromOneRecord: a master plans again before what it has decided is
// in the record, and has heard of another host meanwhile. The second decision is
// for a place that is taken by then, and changes nothing.
func TestTwoPlansFromOneRecord(t *testing.T) {
	v := &View{
		Index: 20, Cluster: Cluster{ID: 7}, NextDnode: 4, NextGroup: 2,
		Dnodes: []Dnode{{ID: 1, EndPoint: "a:6030", UUID: uuidA}, {ID: 2, EndPoint: "b:6030", UUID: uuidB}, {ID: 3, EndPoint: "c:6030", UUID: uuidC}},
		Groups: []Group{{ID: id.Mnode, State: Formed, Members: []Member{{Replica: 1, Dnode: 1, UUID: uuidA}}, NextReplica: 2}},
	}
	line := GroupReport{Group: id.Mnode, Replica: 1, Formed: true, Role: consensus.RoleMaster, Leader: uuidA, Term: 2, Members: []consensus.MemberStatus{
		{Member: consensus.Member{Replica: 1, UUID: uuidA}, Role: consensus.RoleMaster},
	}}
	f := Facts{
		NumOfMnodes: 2, Interval: 1e9, Enrolled: map[Enrolment]bool{}, Retired: map[Enrolment]bool{},
		Hosts: map[id.Host]Heard{
			1: {At: birth, Report: Report{Dnode: 1, UUID: uuidA, Done: 20, Groups: []GroupReport{line}}},
			3: {At: birth, Report: Report{Dnode: 3, UUID: uuidC, Done: 20}},
		},
	}
	decided := func() AddMember {
		t.Helper()
		actions, _ := Plan(birth, v, &f)
		for _, a := range actions {
			if d, ok := a.(Decide); ok {
				if add, ok := d.Command.(AddMember); ok {
					return add
				}
			}
		}
		t.Fatalf("nobody is to join: %+v", actions)
		return AddMember{}
	}
	first := decided()
	f.Hosts[2] = Heard{At: birth, Report: Report{Dnode: 2, UUID: uuidB, Done: 20}}
	second := decided()
	if first.Dnode != 3 || second.Dnode != 2 {
		t.Fatalf("dnodes %d and %d are to join, want 3 and 2", first.Dnode, second.Dnode)
	}
	for _, x := range []struct {
		what string
		c    Command
		done bool
	}{{"the first decision", first, true}, {"the second", second, false}, {"the first once more", first, true}} {
		if r := x.c.apply(v, birth); (r.Err == nil) != x.done {
			t.Errorf("%s: %v, want it done: %v", x.what, r.Err, x.done)
		}
	}
	if g, _ := v.Group(id.Mnode); len(g.Data()) != 2 {
		t.Errorf("the group has %d data members, want 2: %+v", len(g.Data()), g.Members)
	}
}
