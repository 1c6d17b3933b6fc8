package e2e

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/tarbitrator/tarbitrator/client"
)

// TestPairSurvivesEachOfThree kills each of the three processes in turn. After
// each death statements go on, and at the end both hosts hold the same, and all
// of what was acknowledged.
func TestPairSurvivesEachOfThree(t *testing.T) {
	arb, a, b, c := pair(t)
	query(t, c, "CREATE DATABASE d REPLICA 2")
	query(t, c, "CREATE TABLE d.t (ts TIMESTAMP, n BIGINT)")
	query(t, c, "CREATE STABLE d.st (ts TIMESTAMP, n BIGINT) TAGS (site VARCHAR(8))")
	written := 0
	write := func() {
		t.Helper()
		for range 20 {
			written++
			at := 1_700_000_000_000 + int64(written)
			query(t, c, fmt.Sprintf("INSERT INTO d.t VALUES (%[1]d, %[2]d)"+
				" d.r%[3]d USING d.st TAGS ('x') VALUES (%[1]d, %[2]d) d.s%[3]d USING d.st TAGS ('y') VALUES (%[1]d, %[2]d)", at, written, written%7))
		}
	}
	write()
	for _, victim := range []*process{a, arb, b} {
		victim.end(syscall.SIGKILL)
		write()
		victim.start()
		whole(t, c)
		write()
	}
	for table, of := range map[string]string{"d.t": "d.t", "d.r": "d.st WHERE tbname LIKE 'r%'", "d.s": "d.st WHERE tbname LIKE 's%'"} {
		rows := query(t, c, "SELECT COUNT(*), SUM(n) FROM "+of)
		if n, _ := rows.Int(0, 0); n != int64(written) {
			t.Errorf("%s: %d rows, %d were acknowledged", table, n, written)
		}
		if sum, _ := rows.Int(0, 1); sum != int64(written)*int64(written+1)/2 {
			t.Errorf("%s: the sum is %d", table, sum)
		}
	}
	sameDigests(t, c, a, b, uint64(3*written))
}

// whole waits until both hosts are in sync and the arbitrator is told nothing.
func whole(t *testing.T, c *client.Client) {
	t.Helper()
	await(t, "both hosts in sync and the feed shut", func() bool {
		return only(t, c, "SHOW VGROUPS", "mode", "sync") && only(t, c, "SHOW VGROUPS", "feed", "shut") &&
			only(t, c, "SHOW VGROUPS", "onlines", "2") && only(t, c, "SHOW DNODES", "status", "ready")
	})
}

// sameDigests compares the hosts' own replicas once both have applied the same.
func sameDigests(t *testing.T, c *client.Client, a, b *process, rows uint64) {
	t.Helper()
	var own [2][]client.Vnode
	await(t, "both hosts have applied the same", func() bool {
		for i, h := range []*process{a, b} {
			var err error
			if own[i], err = c.Vnodes(context.Background(), h.http); err != nil {
				return false
			}
		}
		return slices.EqualFunc(own[0], own[1], func(x, y client.Vnode) bool { return x.Group == y.Group && x.Applied == y.Applied })
	})
	var found uint64
	for i, v := range own[0] {
		found += v.Rows
		if v.Digest != own[1][i].Digest {
			t.Errorf("group %d: digests differ at entry %d", v.Group, v.Applied)
		}
	}
	if found != rows {
		t.Errorf("each host holds %d rows, want %d", found, rows)
	}
}

// TestAnyHostTakesAnyStatement: what one host was told the other shows, and a
// statement for the one that does not lead is carried to the one that does.
func TestAnyHostTakesAnyStatement(t *testing.T) {
	_, a, b, _ := pair(t)
	onA, onB := dial(t, a), dial(t, b)
	query(t, onB, "CREATE DATABASE d REPLICA 2 PRECISION 'us'")
	query(t, onA, "CREATE STABLE d.st (ts TIMESTAMP, v DOUBLE) TAGS (k INT)")
	query(t, onB, "CREATE TABLE d.x USING d.st TAGS (1) d.y USING d.st TAGS (2)")
	query(t, onB, "INSERT INTO d.x VALUES (1700000000000000, 1.5) d.y VALUES (1700000000000000, 2.5)")
	for _, c := range []*client.Client{onA, onB} {
		rows := query(t, c, "SELECT ts, tbname, v FROM d.st WHERE k = 2")
		if len(rows.Data) != 1 || rows.Text(0, 0) != "2023-11-14T22:13:20.000000Z" || rows.Text(0, 1) != "y" || rows.Text(0, 2) != "2.5" {
			t.Errorf("got %v", rows.Data)
		}
	}
	query(t, onA, "ALTER USER root PASS 'another one'")
	await(t, "the old password is refused on the other host", func() bool {
		_, err := onB.Query(context.Background(), "SHOW DATABASES")
		return err != nil
	})
}

// TestStopHandsOver: a host that is told to stop gives its groups away first.
func TestStopHandsOver(t *testing.T) {
	_, a, b, _ := pairWithTable(t)
	if code := a.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	onB := dial(t, b)
	if got := column(t, query(t, onB, "SHOW d.VGROUPS"), "v2_status"); !slices.Equal(got, []string{"master", "master"}) {
		t.Errorf("the other host is %v of the groups, want master", got)
	}
	query(t, onB, "INSERT INTO d.t VALUES (NOW, 1)")
}

// TestNoQuorum: a host that is alone, without the arbitrator, takes nothing and
// still says what it knows.
func TestNoQuorum(t *testing.T) {
	arb, a, b, _ := pairWithTable(t)
	arb.end(syscall.SIGKILL)
	b.end(syscall.SIGKILL)
	onA := dial(t, a)
	await(t, "the host knows that it leads nothing", func() bool {
		return only(t, onA, "SHOW CLUSTER ALIVE", "status", "0")
	})
	ctx, cancel := context.WithTimeout(context.Background(), 1_000_000_000)
	defer cancel()
	if _, err := onA.Exec(ctx, "INSERT INTO d.t VALUES (1700000000000, 1)"); err == nil {
		t.Fatal("a host without a quorum took a row")
	}
	if got := column(t, query(t, onA, "SHOW DNODES"), "id"); !slices.Equal(got, []string{"1", "2", "0"}) {
		t.Errorf("SHOW DNODES lists %v", got)
	}
	// The statement whose client has gone is never run later.
	arb.start()
	b.start()
	whole(t, dial(t, a, b))
	if n, _ := query(t, onA, "SELECT COUNT(*) FROM d.t").Int(0, 0); n != 0 {
		t.Errorf("the row of a client that had gone was stored")
	}
}
