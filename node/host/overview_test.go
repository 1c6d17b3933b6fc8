package host

import (
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// TestArbitratorThatNobodyNeeds: while every group is odd nobody is connected to
// the arbitrator. Its row says that, and not only that it is offline.
func TestArbitratorThatNobodyNeeds(t *testing.T) {
	v := &mnode.View{
		Arbitrator: mnode.Arbitrator{EndPoint: "w:6042"},
		Groups:     []mnode.Group{{ID: 1, State: mnode.Formed, Members: []mnode.Member{{Replica: 1, Dnode: 1, UUID: id.UUID{1}}}}},
	}
	for _, c := range []struct{ what, want string }{
		{"every group is odd", "not asked: no group has an even number of replicas"},
		{"a group has it as a member", "-"},
	} {
		row := hostWith(Config{Interval: time.Second}, v).arbitratorRow(time.Now(), v)
		if row.Status != "offline" || row.Reason != c.want {
			t.Errorf("%s: %s, %q, want offline, %q", c.what, row.Status, row.Reason, c.want)
		}
		v.Groups[0].Members = append(v.Groups[0].Members, mnode.Member{Replica: 2, Witness: true})
	}
}

// TestCopyOnItsWay: whoever sends a copy knows how far it is, and whoever gets it.
func TestCopyOnItsWay(t *testing.T) {
	members := []consensus.MemberStatus{
		{Member: consensus.Member{Replica: 1}},
		{Member: consensus.Member{Replica: 9}, CopyDone: 250, CopyBytes: 1000},
	}
	if got := copyOf(9, members); got != (Copy{250, 1000}) {
		t.Errorf("got %+v", got)
	}
	for _, r := range []id.Replica{1, 2} {
		if got := copyOf(r, members); got != (Copy{}) {
			t.Errorf("replica %d gets none, got %+v", r, got)
		}
	}
}
