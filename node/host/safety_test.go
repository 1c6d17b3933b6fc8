package host

import (
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// A database that is to have two replicas and has one is not in sync, however
// well that one is.
func TestSafetyIsOverWantedReplicas(t *testing.T) {
	view := &mnode.View{Databases: []mnode.Database{{Name: "d", Options: mnode.Options{Replica: 2}}}}
	one := mnode.Member{Replica: 1, Dnode: 1}
	for _, c := range []struct {
		name  string
		other []mnode.Member
		raft  consensus.Mode
		want  consensus.Mode
	}{
		{"both", []mnode.Member{{Replica: 2, Dnode: 2}}, consensus.ModeSync, consensus.ModeSync},
		{"both, one away", []mnode.Member{{Replica: 2, Dnode: 2}}, consensus.ModeAsync, consensus.ModeAsync},
		{"one alone", nil, consensus.ModeSync, consensus.ModeAsync},
		{"the other is being made", []mnode.Member{{Replica: 2, Dnode: 2, Joining: true}}, consensus.ModeSync, consensus.ModeSyncRecover},
		{"the other leaves", []mnode.Member{{Replica: 2, Dnode: 2, Leaving: true}}, consensus.ModeSync, consensus.ModeAsync},
		{"the arbitrator is none", []mnode.Member{{Replica: 3, Witness: true}}, consensus.ModeSync, consensus.ModeAsync},
		{"no master", nil, consensus.ModeUnknown, consensus.ModeUnknown},
	} {
		g := mnode.Group{ID: 2, Database: "d", Members: append([]mnode.Member{one}, c.other...)}
		row := GroupRow{Mode: c.raft}
		row.Missing, row.Joining = missing(g, view)
		if got := row.Safety(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
