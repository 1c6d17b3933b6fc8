package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// ward is a database of one group, to know what its death costs whom.
type ward struct {
	name   string
	dnodes []string // that hold it
	rows   int      // that were acknowledged
	unsure bool     // more may be stored: a refusal said so
}

// carried reports whether a majority of a ward's voters is left when these dnodes
// are dead. The arbitrator, which lives, votes where the number is even.
func (w *ward) carried(dead []string) bool {
	left, voters := 0, len(w.dnodes)
	for _, d := range w.dnodes {
		if !slices.Contains(dead, d) {
			left++
		}
	}
	if voters%2 == 0 {
		left, voters = left+1, voters+1
	}
	return left > voters/2
}

// wards is a cluster with several databases for each number of replicas, so that
// any two deaths leave some of them with a majority and some without.
type wards struct {
	*cluster
	all      []*ward
	metadata ward
}

func newWards(t *testing.T, hosts int) *wards {
	t.Helper()
	g := &wards{cluster: gather(t, hosts, "maxRetryWaitTime 1s")} // those that can't serve say so soon
	g.metadata.dnodes = column(t, query(t, g.c, "SHOW MNODES"), "id")
	for replicas := 1; replicas <= hosts; replicas++ {
		for i := range hosts {
			w := &ward{name: fmt.Sprintf("r%d%c", replicas, 'a'+i)}
			query(t, g.c, fmt.Sprintf("CREATE DATABASE %s REPLICA %d VGROUPS 1", w.name, replicas))
			query(t, g.c, fmt.Sprintf("CREATE TABLE %s.t (ts TIMESTAMP, n BIGINT)", w.name))
			w.dnodes = members(query(t, g.c, "SHOW "+w.name+".VGROUPS"), 0, "")
			g.all = append(g.all, w)
		}
	}
	return g
}

// lose kills hosts one after the other. After each death every ward that is
// carried takes rows, and every other one refuses them; the hosts that are left
// show which is which.
func (g *wards) lose(victims ...int) {
	g.t.Helper()
	var dead []string
	for _, v := range victims {
		g.hosts[v].end(syscall.SIGKILL)
		dead = append(dead, fmt.Sprint(v+1))
		var left []*process
		for i, h := range g.hosts {
			if !slices.Contains(dead, fmt.Sprint(i+1)) {
				left = append(left, h)
			}
		}
		g.c = patient(g.t, left...)
		for i, w := range g.all {
			if w.carried(dead) {
				g.write(w)
				continue
			}
			g.refuses(w, left[i%len(left)])
		}
		for i, h := range g.hosts {
			if slices.Contains(left, h) {
				g.shows(h, fmt.Sprint(i+1), dead)
			}
		}
		for _, w := range g.all {
			if w.carried(dead) {
				g.write(w)
			}
		}
	}
	for _, v := range victims {
		g.hosts[v].start()
	}
	g.c = patient(g.t, g.hosts...)
	g.intact()
}

func (g *wards) write(w *ward) {
	g.t.Helper()
	for range 3 {
		query(g.t, g.c, fmt.Sprintf("INSERT INTO %s.t VALUES (%d, %d)", w.name, 1_700_000_000_000+w.rows, w.rows))
		w.rows++
	}
}

// refuses waits until a host refuses a row of a ward for want of a master. Before
// it knows that, the outcome of a row may be unknown.
func (g *wards) refuses(w *ward, h *process) {
	g.t.Helper()
	await(g.t, fmt.Sprintf("%s on %v refuses at %s", w.name, w.dnodes, h.peer), func() bool {
		_, said := post(g.t, h, "/rest/sql", "INSERT INTO "+w.name+".t VALUES (1600000000000, -1)")
		if strings.HasPrefix(said, `{"code":0,`) {
			g.t.Fatalf("%s on dnodes %v took a row at %s without a majority", w.name, w.dnodes, h.peer)
		}
		sure := strings.HasPrefix(said, `{"code":32,`) || strings.HasPrefix(said, `{"code":11,`)
		w.unsure = w.unsure || !sure
		return sure
	})
}

// shows waits until SHOW VGROUPS at a host has a master for every ward that is
// carried and for no other, and has the dead replicas offline. Without a master
// of the metadata a host knows the replicas of others from old reports only, and
// gives their age.
func (g *wards) shows(h *process, dnode string, dead []string) {
	g.t.Helper()
	c := dial(g.t, h)
	wrong := ""
	defer func() {
		if g.t.Failed() {
			g.t.Logf("%s shows %s", h.peer, wrong)
		}
	}()
	await(g.t, "SHOW VGROUPS at "+h.peer+" has masters where there is a majority", func() bool {
		for _, w := range g.all {
			rows, err := c.Query(context.Background(), "SHOW "+w.name+".VGROUPS")
			if err != nil {
				wrong = err.Error()
				return false
			}
			masters, offline := members(rows, 0, "master"), members(rows, 0, "offline")
			led := len(masters) == 1 && !slices.Contains(dead, masters[0])
			gone := !slices.ContainsFunc(w.dnodes, func(d string) bool { return slices.Contains(dead, d) != slices.Contains(offline, d) })
			sees := g.metadata.carried(dead) || slices.Contains(w.dnodes, dnode)
			if sees && led != w.carried(dead) || len(masters) > 1 || !gone {
				wrong = fmt.Sprintf("%s on %v with %v dead: %v", w.name, w.dnodes, dead, rows.Data)
				return false
			}
		}
		return true
	})
}

// intact waits until all is well, and compares what is there with what was
// acknowledged, and the replicas of each group with each other.
func (g *wards) intact() {
	g.t.Helper()
	await(g.t, "every host ready and every group in sync", func() bool {
		return g.ready() && only(g.t, g.c, "SHOW VGROUPS", "mode", "sync") && only(g.t, g.c, "SHOW CLUSTER ALIVE", "status", "1")
	})
	for _, w := range g.all {
		if n, _ := query(g.t, g.c, "SELECT COUNT(*) FROM "+w.name+".t WHERE ts >= 1700000000000").Int(0, 0); n != int64(w.rows) {
			g.t.Errorf("%s on dnodes %v has %d rows, %d were acknowledged", w.name, w.dnodes, n, w.rows)
		}
		if n, _ := query(g.t, g.c, "SELECT COUNT(*) FROM "+w.name+".t WHERE ts < 1700000000000").Int(0, 0); n != 0 && !w.unsure {
			g.t.Errorf("%s on dnodes %v has stored a row that was certainly refused", w.name, w.dnodes)
		}
	}
	sameReplicas(g.t, g.c, g.hosts)
}

// TestTwoOfThreeHostsDie: two of three data hosts die one after the other. What
// has a majority without them goes on, though the metadata has none.
func TestTwoOfThreeHostsDie(t *testing.T) {
	takesLong(t)
	g := newWards(t, 3)
	g.lose(0, 1)
	g.lose(2, 0)
}

// TestTwoOfFourHostsDie: the same of four, of which three hold the metadata.
func TestTwoOfFourHostsDie(t *testing.T) {
	takesLong(t)
	g := newWards(t, 4)
	g.lose(0, 1)
	g.lose(3, 2)
}
