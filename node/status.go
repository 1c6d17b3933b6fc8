package node

import (
	"context"
	"encoding/hex"
	"runtime"
	"strconv"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/node/api"
	"github.com/tarbitrator/tarbitrator/node/host"
)

// users are the accounts as this host has them in its memory.
type users struct{ host *host.Host }

// PasswordHash returns what is stored for a user.
func (u users) PasswordHash(name string) (string, bool) {
	user, ok := u.host.View().User(name)
	return user.Hash, ok
}

// VerifyPassword compares a password with the stored one.
func (u users) VerifyPassword(name, password string) bool {
	_, err := u.host.View().Verify(name, password)
	return err == nil
}

// vnodes lists this host's own replicas.
type vnodes struct{ *Node }

// Vnodes implements api.Vnodes.
func (n vnodes) Vnodes(ctx context.Context, digest bool) ([]api.Vnode, error) {
	list := []api.Vnode{} // not null in JSON
	for _, s := range n.groups.Statuses() {
		v, ok := cluster{n.host, n.alarms}.Vnode(s.Group)
		if !ok {
			continue
		}
		tables, _ := v.Counts()
		row := api.Vnode{
			Group: uint32(s.Group), Role: s.Role.String(), Feed: s.Feed, Term: uint64(s.Term), Commit: uint64(s.Commit),
			Applied: uint64(v.Applied()), Tables: tables,
		}
		if g, ok := n.host.View().Group(s.Group); ok {
			row.Database = g.Database
		}
		if s.Mode != consensus.ModeUnknown {
			row.Mode = s.Mode.String()
		}
		if s.Faulty != nil {
			row.Fault = s.Faulty.Error()
		}
		if digest {
			d, err := v.Digest(ctx)
			if err != nil {
				return nil, err
			}
			row.Applied, row.Rows, row.Digest = uint64(d.Applied), uint64(d.Rows), hex.EncodeToString(d.Sum[:])
		}
		list = append(list, row)
	}
	return list, nil
}

// collect writes the metrics of this host.
func (n *Node) collect(t *api.MetricText) {
	t.Family("tnode_http_connections", "gauge", "Open connections of clients.")
	t.Sample(float64(n.server.Connections()))
	t.Family("tnode_goroutines", "gauge", "Goroutines of this process.")
	t.Sample(float64(runtime.NumGoroutine()))
	oldCopy := 0.0
	if n.refusal() != nil {
		oldCopy = 1
	}
	t.Family("tnode_old_copy", "gauge", "1 if the data directory is an old copy: this host serves and votes nothing, and someone must come.")
	t.Sample(oldCopy)
	statuses := n.groups.Statuses()
	per := func(name, kind, help string, of func(i int) float64) {
		t.Family(name, kind, help)
		for i := range statuses {
			t.Sample(of(i), "group", group(statuses[i].Group))
		}
	}
	per("tnode_group_role", "gauge", "Role of this host's replica: 0 offline, 1 unsynced, 2 slave, 3 master.", func(i int) float64 { return float64(statuses[i].Role) })
	per("tnode_group_term", "counter", "Raft term of the group.", func(i int) float64 { return float64(statuses[i].Term) })
	per("tnode_group_commit_index", "counter", "Last log entry known to be committed.", func(i int) float64 { return float64(statuses[i].Commit) })
	per("tnode_group_applied_index", "counter", "Last log entry applied to the replica.", func(i int) float64 { return float64(statuses[i].Applied) })
	per("tnode_group_last_index", "counter", "Last log entry of this host's log.", func(i int) float64 { return float64(statuses[i].Last) })
	per("tnode_group_faulty", "gauge", "1 if the replica is stopped and someone must come.", func(i int) float64 {
		if statuses[i].Faulty != nil {
			return 1
		}
		return 0
	})
}

func group(g id.Group) string { return strconv.FormatUint(uint64(g), 10) }
