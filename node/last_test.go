package node

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// TestStartThisHostFirst: a host says so when others lack what it has committed,
// and only then.
func TestStartThisHostFirst(t *testing.T) {
	self, other, witness := id.UUID{1}, id.UUID{2}, id.UUID{3}
	leads := func(match id.Index) consensus.Status {
		return consensus.Status{
			Group: 2, Self: 1, Role: consensus.RoleMaster, Leader: self, Commit: 10,
			Members: []consensus.MemberStatus{
				{Member: consensus.Member{Replica: 1, UUID: self}, Match: 10},
				{Member: consensus.Member{Replica: 2, UUID: other}, Match: match},
				{Member: consensus.Member{Replica: 3, UUID: witness, Witness: true}, Match: 1},
			},
		}
	}
	follows := consensus.Status{Group: 2, Self: 1, Role: consensus.RoleSlave, Leader: other, Commit: 10}
	leaderless := consensus.Status{Group: 2, Self: 1, Role: consensus.RoleUnsynced, Commit: 10}
	for _, c := range []struct {
		name string
		seen []consensus.Status
		want bool
	}{
		{"nothing", nil, false},
		{"it led in sync", []consensus.Status{leads(10)}, false},
		{"it leads alone", []consensus.Status{leads(9)}, true},
		{"it led alone and lost its quorum", []consensus.Status{leads(9), leaderless}, true},
		{"it led in sync and lost its quorum", []consensus.Status{leads(10), leaderless}, false},
		{"the other has caught up", []consensus.Status{leads(9), leads(10)}, false},
		{"the other has taken over", []consensus.Status{leads(9), follows}, false},
		{"it followed, and knows of no leader", []consensus.Status{follows, leaderless}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var now []consensus.Status
			l := &lastHolder{groups: func() []consensus.Status { return now }}
			for _, s := range c.seen {
				now = []consensus.Status{s}
				l.note(now)
			}
			var said bytes.Buffer
			l.say(slog.New(slog.NewTextHandler(&said, nil)), func(u id.UUID) string {
				if u != other {
					t.Errorf("it waits for %s", u.Short())
				}
				return "dnode 2"
			})
			if got := strings.Contains(said.String(), "start this host first") && strings.Contains(said.String(), `others="dnode 2"`); got != c.want {
				t.Errorf("said %q, want a word: %v", said.String(), c.want)
			}
		})
	}
}
