package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/tarbitrator/tarbitrator/client"
)

// cluster is an arbitrator and any number of data hosts, as many of them as
// there may be with the metadata.
type cluster struct {
	t     *testing.T
	arb   *process
	hosts []*process
	c     *client.Client // of all hosts
	more  []string       // lines of the configuration of each host
}

// gather starts a cluster without any database, and waits until it is whole.
func gather(t *testing.T, hosts int, more ...string) *cluster {
	t.Helper()
	x := &cluster{t: t, arb: newArbitrator(t).start(), more: more}
	for range hosts {
		x.add()
	}
	x.hosts[0].serving()
	x.c = dial(t, x.hosts...)
	for _, h := range x.hosts[1:] {
		query(t, x.c, "CREATE DNODE '"+h.peer+"'")
	}
	await(t, "all hosts are in", x.ready)
	return x
}

// add starts another data host, which nobody has let in yet.
func (x *cluster) add() *process {
	x.t.Helper()
	first := ""
	if len(x.hosts) > 0 {
		first = x.hosts[0].peer
	}
	h := newHost(x.t, first, x.arb.peer, x.more...)
	h.configure("numOfMnodes 3")
	x.hosts = append(x.hosts, h.start())
	return h
}

// ready reports whether all hosts are, and as many as should hold the metadata
// do. The arbitrator may be asked by nobody.
func (x *cluster) ready() bool {
	mnodes, err := x.c.Query(context.Background(), "SHOW MNODES")
	if err != nil || len(mnodes.Data) != min(3, len(x.hosts)) || !only(x.t, x.c, "SHOW MNODES", "role", "master", "slave") {
		return false
	}
	dnodes, err := x.c.Query(context.Background(), "SHOW DNODES")
	if err != nil || len(dnodes.Data) != len(x.hosts)+1 {
		return false
	}
	status, why := column(x.t, dnodes, "status"), column(x.t, dnodes, "offline reason")
	last := len(x.hosts)
	return !slices.Contains(status[:last], "offline") && (status[last] == "ready" || strings.HasPrefix(why[last], "not asked"))
}
