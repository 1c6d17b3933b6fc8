package e2e

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/tarbitrator/tarbitrator/client"
)

// grown is a cluster of more than two data hosts, with one database for each
// number of replicas that they can have, and a table in each.
type grown struct {
	*cluster
	rows int // that each table was acknowledged to have
}

// grow starts one and waits until it is in sync.
func grow(t *testing.T, hosts int) *grown {
	t.Helper()
	g := &grown{cluster: gather(t, hosts)}
	g.c = patient(t, g.hosts...)
	for replicas := 1; replicas <= hosts; replicas++ {
		query(t, g.c, fmt.Sprintf("CREATE DATABASE r%d REPLICA %d VGROUPS %d", replicas, replicas, hosts))
		query(t, g.c, fmt.Sprintf("CREATE TABLE r%d.t (ts TIMESTAMP, n BIGINT)", replicas))
	}
	g.whole()
	return g
}

// patient is a client that gives a host on a busy machine its time to answer.
func patient(t *testing.T, hosts ...*process) *client.Client {
	t.Helper()
	config := client.DefaultConfig()
	config.EndPoints, config.TryTimeout = nil, config.Timeout
	for _, h := range hosts {
		config.EndPoints = append(config.EndPoints, h.http)
	}
	c, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// write puts a row into every table whose database has at least so many
// replicas.
func (g *grown) write(replicas int) {
	g.t.Helper()
	for r := replicas; r <= len(g.hosts); r++ {
		query(g.t, g.c, fmt.Sprintf("INSERT INTO r%d.t VALUES (%d, %d)", r, 1_700_000_000_000+g.rows, g.rows))
	}
	g.rows++
}

// whole waits until every replica of every group has everything.
func (g *grown) whole() {
	g.t.Helper()
	await(g.t, "every host ready and every group in sync", func() bool {
		return only(g.t, g.c, "SHOW DNODES", "status", "ready") && only(g.t, g.c, "SHOW VGROUPS", "mode", "sync") &&
			only(g.t, g.c, "SHOW CLUSTER ALIVE", "status", "1")
	})
}

// intact compares what is there with what was acknowledged, and the replicas of
// each group with each other.
func (g *grown) intact(missing int) {
	g.t.Helper()
	for r := 1; r <= len(g.hosts); r++ {
		want := int64(g.rows)
		if r == 1 {
			want -= int64(missing)
		}
		if n, _ := query(g.t, g.c, fmt.Sprintf("SELECT COUNT(*) FROM r%d.t", r)).Int(0, 0); n != want {
			g.t.Errorf("replica %d: %d rows, %d were acknowledged", r, n, want)
		}
	}
	if groups, want := sameReplicas(g.t, g.c, g.hosts), len(g.hosts)*len(g.hosts); groups != want {
		g.t.Errorf("%d groups, want %d", groups, want)
	}
}

// sameReplicas waits until the replicas of each group have applied the same, and
// compares their digests. It returns how many groups there are.
func sameReplicas(t *testing.T, c *client.Client, hosts []*process) (groups int) {
	t.Helper()
	var byGroup map[uint32][]client.Vnode
	await(t, "the replicas of each group have applied the same", func() bool {
		byGroup = map[uint32][]client.Vnode{}
		for _, h := range hosts {
			list, err := c.Vnodes(context.Background(), h.http)
			if err != nil {
				return false
			}
			for _, v := range list {
				byGroup[v.Group] = append(byGroup[v.Group], v)
			}
		}
		for _, list := range byGroup {
			if slices.ContainsFunc(list, func(v client.Vnode) bool { return v.Applied != list[0].Applied }) {
				return false
			}
		}
		return true
	})
	for group, list := range byGroup {
		for _, v := range list {
			if v.Digest != list[0].Digest {
				t.Errorf("group %d: digests differ at entry %d", group, v.Applied)
			}
		}
	}
	return len(byGroup)
}

// survivesEach kills every box in turn. What has a second replica goes on at
// once, and nothing that was acknowledged is missing when the box is back.
func (g *grown) survivesEach() {
	g.t.Helper()
	missing := 0
	for _, victim := range append([]*process{g.arb}, g.hosts...) {
		g.write(1)
		victim.end(syscall.SIGKILL)
		for range 5 {
			g.write(2) // the only replica of the first table may be on the victim
			missing++
		}
		victim.start()
		g.whole()
		g.intact(missing)
	}
}

func TestThreeHosts(t *testing.T) {
	takesLong(t)
	grow(t, 3).survivesEach()
}

func TestFourHosts(t *testing.T) {
	takesLong(t)
	g := grow(t, 4)
	refusedWith(t, g.c, "CREATE DATABASE r5 REPLICA 5", 0x2619, "1 to 4")
	g.survivesEach()
}
