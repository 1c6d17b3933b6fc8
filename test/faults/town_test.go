package faults

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	// The programs are built by rig.Tests, out of sight of the test cache: these
	// make a change of theirs a change of these tests.
	_ "github.com/tarbitrator/tarbitrator/arbitrator"
	"github.com/tarbitrator/tarbitrator/client"
	_ "github.com/tarbitrator/tarbitrator/node"
	"github.com/tarbitrator/tarbitrator/test/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Tests(m)) }

// town is a pair with its arbitrator, four tables in two groups, and the number
// of rows that each table was acknowledged to have.
type town struct {
	*rig.Rig
	t       *testing.T
	clients map[string]*client.Client
	rows    int
}

const tables = 4

func table(i int) string { return fmt.Sprintf("d.t%d", i) }

// impatient hosts answer soon that they have no master.
const impatient = "maxRetryWaitTime 2s"

// newTown starts one, and waits until it is whole. It runs beside others.
func newTown(t *testing.T, o rig.Options) *town {
	t.Helper()
	t.Parallel()
	o.Bin = rig.Bin()
	o.Config = append(o.Config, impatient)
	r, err := rig.New(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	n := &town{Rig: r, t: t, clients: map[string]*client.Client{}}
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range rig.Everybody {
				log, _ := os.ReadFile(r.Log(name))
				t.Logf("messages of %s:\n%s", name, log)
			}
		}
		for _, c := range n.clients {
			c.Close()
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n.must(r.Up(ctx))
	n.must(r.SQL(ctx, rig.A, "CREATE DATABASE d REPLICA 2 VGROUPS 2"))
	for i := range tables {
		n.must(r.SQL(ctx, rig.A, "CREATE TABLE "+table(i)+" (ts TIMESTAMP, n BIGINT)"))
	}
	n.whole()
	return n
}

// must ends the test on an error of the rig.
func (n *town) must(errs ...error) {
	n.t.Helper()
	if err := errors.Join(errs...); err != nil {
		n.t.Fatal(err)
	}
}

// patience is how long anything may take: machines of tests are busy.
const patience = 40 * time.Second

// await polls until so is true.
func (n *town) await(what string, so func() bool) {
	n.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if so() {
			return
		}
	}
	n.t.Fatalf("%s: not within %v", what, patience)
}

// on is a client of these hosts, which tries the first one first.
func (n *town) on(names ...string) *client.Client {
	key := strings.Join(names, " ")
	if n.clients[key] == nil {
		c, err := n.Client(names...)
		n.must(err)
		n.clients[key] = c
	}
	return n.clients[key]
}

// both hosts, in either order.
func (n *town) both() *client.Client { return n.on(rig.A, rig.B) }

// query runs a statement that must succeed, sooner or later.
func (n *town) query(c *client.Client, statement string) *client.Rows {
	n.t.Helper()
	rows, err := c.Query(n.t.Context(), statement)
	if err != nil {
		n.t.Fatalf("%s: %v", statement, err)
	}
	return rows
}

// write puts some rows into every table, through these hosts.
func (n *town) write(names ...string) {
	n.t.Helper()
	for range 5 {
		for i := range tables {
			n.query(n.on(names...), fmt.Sprintf("INSERT INTO %s VALUES (%d, %d)", table(i), 1_700_000_000_000+n.rows, n.rows))
		}
		n.rows++
	}
}

// writeMany puts so many rows into every table with one statement each.
func (n *town) writeMany(name string, rows int) {
	n.t.Helper()
	var values strings.Builder
	for i := n.rows; i < n.rows+rows; i++ {
		fmt.Fprintf(&values, " (%d, %d)", 1_700_000_000_000+i, i*7919%100_003)
	}
	for i := range tables {
		n.query(n.on(name), "INSERT INTO "+table(i)+" VALUES"+values.String())
	}
	n.rows += rows
}

// answer is what one host says to one statement, without a second try.
func (n *town) answer(name, statement string) string {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	body, err := rig.Ask(ctx, http.DefaultClient, n.EndPoint(name), statement)
	if err != nil {
		return err.Error()
	}
	return body
}

// refuses waits until a host takes neither rows nor reads and its answers say
// why. They promise that nothing is stored, and intact holds them to it. The row
// comes last: of one that is sent before the host knows whom it reaches, the
// outcome may be unknown.
func (n *town) refuses(name string, why ...string) {
	n.t.Helper()
	n.says(name, "SELECT COUNT(*) FROM d.t0", why...)
	n.says(name, "INSERT INTO d.t0 VALUES (1600000000000, -1)", why...)
}

// says waits until a host refuses a statement in these words.
func (n *town) says(name, statement string, why ...string) {
	n.t.Helper()
	var said string
	defer func() {
		if n.t.Failed() {
			n.t.Logf("host %s says to %s: %s; wanted %q", name, statement, said, why)
		}
	}()
	n.await("host "+name+" says why it refuses", func() bool {
		said = n.answer(name, statement)
		for _, w := range why {
			if !strings.Contains(said, w) {
				return false
			}
		}
		return !strings.HasPrefix(said, `{"code":0,`)
	})
}

// column is one column of what hosts answer to a statement, as text; nil if
// they don't answer.
func (n *town) column(c *client.Client, statement, name string) []string {
	ctx, cancel := context.WithTimeout(n.t.Context(), 5*time.Second)
	defer cancel()
	rows, err := c.Query(ctx, statement)
	if err != nil || rows.Index(name) < 0 {
		return nil
	}
	return cells(rows, name)
}

// cells are those of one column, as text.
func cells(rows *client.Rows, name string) (list []string) {
	for i := range rows.Data {
		list = append(list, rows.Text(i, rows.Index(name)))
	}
	return list
}

// all reports whether a column has this value in every row.
func (n *town) all(c *client.Client, statement, column, value string) bool {
	cells := n.column(c, statement, column)
	return len(cells) > 0 && !slices.ContainsFunc(cells, func(cell string) bool { return cell != value })
}

// whole waits until both hosts are in sync and the arbitrator is told nothing.
func (n *town) whole() {
	n.t.Helper()
	c := n.both()
	n.await("everything in sync, the feed shut", func() bool {
		return n.all(c, "SHOW VGROUPS", "mode", "sync") && n.all(c, "SHOW VGROUPS", "feed", "shut") &&
			n.all(c, "SHOW VGROUPS", "onlines", "2") && n.all(c, "SHOW DNODES", "status", "ready") && len(n.column(c, "SHOW MNODES", "role")) == 2
	})
}

// leader is the host that leads every group, as one host sees it.
func (n *town) leader(seenBy string) (name string, ok bool) {
	c := n.on(seenBy)
	first := n.column(c, "SHOW d.VGROUPS", "v1_status")
	second := n.column(c, "SHOW d.VGROUPS", "v2_status")
	dnodes := n.column(c, "SHOW d.VGROUPS", "v1_dnode")
	name = ""
	for i := range first {
		at := ""
		switch {
		case len(second) != len(first) || len(dnodes) != len(first):
		case first[i] == "master":
			at = map[bool]string{true: rig.A, false: rig.B}[dnodes[i] == "1"]
		case second[i] == "master":
			at = map[bool]string{true: rig.B, false: rig.A}[dnodes[i] == "1"]
		}
		if at == "" || name != "" && at != name {
			return "", false
		}
		name = at
	}
	return name, name != ""
}

// roles waits until one host leads everything, and tells which is which.
func (n *town) roles() (master, other string) {
	n.t.Helper()
	n.await("one host leads everything", func() bool {
		m, ok := n.leader(rig.A)
		master = m
		return ok
	})
	if master == rig.A {
		return rig.A, rig.B
	}
	return rig.B, rig.A
}

// replicas is what a host says of its own replicas, by group.
func (n *town) replicas(name string) map[uint32]client.Vnode {
	ctx, cancel := context.WithTimeout(n.t.Context(), 5*time.Second)
	defer cancel()
	list, err := n.on(name).Vnodes(ctx, n.EndPoint(name))
	if err != nil {
		return nil
	}
	out := map[uint32]client.Vnode{}
	for _, v := range list {
		out[v.Group] = v
	}
	return out
}

// terms is the sum of the terms of a host's groups: it grows with every
// election.
func (n *town) terms(name string) (sum uint64) {
	n.t.Helper()
	n.await("host "+name+" tells its terms", func() bool {
		sum = 0
		for _, v := range n.replicas(name) {
			sum += v.Term
		}
		return sum > 0
	})
	return sum
}

// intact waits until everything is whole again, and checks that both hosts hold
// what was acknowledged, and the same.
func (n *town) intact() {
	n.t.Helper()
	n.whole()
	for i := range tables {
		if got, _ := n.query(n.both(), "SELECT COUNT(*) FROM "+table(i)).Int(0, 0); int(got) != n.rows {
			n.t.Errorf("%s has %d rows, %d were acknowledged", table(i), got, n.rows)
		}
	}
	var a, b map[uint32]client.Vnode
	n.await("both hosts have applied the same", func() bool {
		a, b = n.replicas(rig.A), n.replicas(rig.B)
		if len(a) == 0 || len(a) != len(b) {
			return false
		}
		for g, x := range a {
			if y := b[g]; x.Applied != y.Applied {
				return false
			}
		}
		return true
	})
	var rows uint64
	for g, x := range a {
		rows += x.Rows
		if x.Digest != b[g].Digest {
			n.t.Errorf("group %d: digests differ at entry %d", g, x.Applied)
		}
	}
	if want := uint64(tables * n.rows); rows != want {
		n.t.Errorf("each host holds %d rows, want %d", rows, want)
	}
}
