package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/client"
)

// long also runs what takes more than a few seconds: "make replace" does.
var long = flag.Bool("long", false, "run the long forms of the tests of replacing")

// takesLong skips a test that "make test" has no time for.
func takesLong(t *testing.T) {
	t.Helper()
	if !*long {
		t.Skip("long: make replace runs it")
	}
	t.Parallel()
}

// wipe takes a stopped process's data directory away.
func (p *process) wipe() {
	p.t.Helper()
	if err := os.RemoveAll(filepath.Join(p.dir, "data")); err != nil {
		p.t.Fatal(err)
	}
}

// said reports whether a process has printed something.
func (p *process) said(text string) bool {
	b, _ := os.ReadFile(p.log)
	return strings.Contains(string(b), text)
}

// quiet waits until no change of the cluster is under way. A host that does not
// lead hears of one with the next answer to its reports, so it must have said so
// for longer than that.
func quiet(t *testing.T, c *client.Client) {
	t.Helper()
	busy := time.Now()
	await(t, "no change is under way", func() bool {
		rows, err := c.Query(context.Background(), "SHOW TRANSACTIONS")
		if err != nil || len(rows.Data) > 0 {
			busy = time.Now()
		}
		return time.Since(busy) > 1500*time.Millisecond
	})
}

// reason is what SHOW DNODES says of a dnode.
func reason(t *testing.T, c *client.Client, dnode string) (status, why string) {
	t.Helper()
	rows, err := c.Query(context.Background(), "SHOW DNODES")
	if err != nil {
		return "", ""
	}
	ids := column(t, rows, "id")
	for i, id := range ids {
		if id == dnode {
			return column(t, rows, "status")[i], column(t, rows, "offline reason")[i]
		}
	}
	return "", ""
}

// refusedWith reports whether a statement is refused with a code and words.
func refusedWith(t *testing.T, c *client.Client, statement string, code int, words string) {
	t.Helper()
	_, err := c.Query(context.Background(), statement)
	var refusal *client.Error
	if !errors.As(err, &refusal) || refusal.Code != code || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: got %v, want 0x%04X and %q", statement, err, code, words)
	}
}

// TestRestoreDnode: the directory of a host is gone, of the first one and, in
// the long form, before that of the second. Each comes back empty, says what to type, and is a full member
// again, alone able to serve what was acknowledged before and meanwhile.
func TestRestoreDnode(t *testing.T) {
	if *long {
		t.Parallel()
	}
	_, a, b, c := pairWithTable(t)
	type loss struct {
		host, other *process
		dnode       string
	}
	losses := []loss{{a, b, "1"}}
	if *long {
		losses = []loss{{b, a, "2"}, {a, b, "1"}}
	}
	rows := 0
	for _, x := range losses {
		put(t, c, rows, rows+10)
		x.host.end(syscall.SIGKILL)
		x.host.wipe()
		x.host.start()
		onOther := dial(t, x.other)
		await(t, "the host says what to type", func() bool { return x.host.said("RESTORE DNODE " + x.dnode + " on " + x.other.peer) })
		await(t, "SHOW DNODES says it", func() bool {
			status, why := reason(t, onOther, x.dnode)
			return status == "offline" && why == "new directory: RESTORE DNODE "+x.dnode
		})
		if status, body := post(t, x.host, "/rest/sql", "SHOW DNODES"); !strings.Contains(body, "RESTORE DNODE "+x.dnode) {
			t.Errorf("its door says %d %s", status, body)
		}
		refusedWith(t, onOther, "DROP DNODE "+x.dnode, 0x0334, "RESTORE DNODE "+x.dnode)
		put(t, onOther, rows+10, rows+20)
		query(t, onOther, "RESTORE DNODE "+x.dnode)
		whole(t, onOther)
		quiet(t, onOther)
		rows += 20
		sameDigests(t, c, a, b, uint64(rows))
		x.other.end(syscall.SIGKILL)
		onHost := dial(t, x.host)
		if got := rowsOf(t, onHost); got != int64(rows) {
			t.Errorf("dnode %s alone has %d rows, %d were acknowledged", x.dnode, got, rows)
		}
		x.other.start()
		whole(t, c)
	}
	if a.says("a new cluster is born") != 1 {
		t.Error("the wiped first host founded a second cluster")
	}
}

// TestArbitratorReplaced: another arbitrator takes over by a statement, an
// emptied one by itself, and one by the configuration of both hosts.
func TestArbitratorReplaced(t *testing.T) {
	takesLong(t)
	arb, a, b, c := pairWithTable(t)
	votes := func(p *process, n int) func() bool {
		return func() bool {
			st, err := arbStatus(p)
			return err == nil && len(st.Clusters) == 1 && st.Clusters[0].Replicas == n
		}
	}
	await(t, "the first one votes in all groups", votes(arb, 3))
	refusedWith(t, c, fmt.Sprintf("ALTER CLUSTER ARBITRATOR '127.0.0.1:%d'", freePort(t)), 0x03D3, "no arbitrator answers")

	second := newArbitrator(t).start()
	await(t, "the second one answers", func() bool { _, err := arbStatus(second); return err == nil })
	b.end(syscall.SIGKILL) // one host and the old arbitrator are enough
	onA := dial(t, a)
	query(t, onA, "ALTER CLUSTER ARBITRATOR '"+second.peer+"'")
	await(t, "the second one votes in all groups", votes(second, 3))
	put(t, onA, 0, 5)
	b.start()
	whole(t, c)
	quiet(t, c)
	await(t, "the first one keeps nothing", votes(arb, 0))
	arb.end(syscall.SIGTERM)
	serves := func(rows int) { // with the other host down, then up again
		t.Helper()
		b.end(syscall.SIGKILL)
		put(t, dial(t, a), rows, rows+5)
		b.start()
		whole(t, c)
	}
	serves(5)

	second.end(syscall.SIGKILL)
	second.wipe()
	second.start()
	await(t, "the emptied one is enrolled anew", votes(second, 3))
	quiet(t, c)
	serves(10)

	third := newArbitrator(t).start()
	for _, h := range []*process{a, b} {
		h.configure("arbitrator " + third.peer)
		h.end(syscall.SIGTERM)
		h.start()
		await(t, "the host is back", func() bool { return c.Ping(context.Background(), h.http) == nil })
	}
	await(t, "the third one votes in all groups", votes(third, 3))
	whole(t, c)
	serves(15)
	sameDigests(t, c, a, b, 20)
}

// TestReplicaCount: a third host takes part, and a database goes from two
// replicas to three and back, to one, and to two again; a host is dropped, with
// its replicas moved away.
func TestReplicaCount(t *testing.T) {
	takesLong(t)
	arb, a, b, c := pairWithTable(t)
	third := newHost(t, a.peer, arb.peer).start()
	query(t, c, "CREATE DNODE '"+third.peer+"'")
	await(t, "the third host joins", func() bool { return c.Ping(context.Background(), third.http) == nil })
	for i, n := range []int{3, 2, 1, 2} {
		put(t, c, 5*i, 5*i+5)
		query(t, c, fmt.Sprintf("ALTER DATABASE d REPLICA %d", n))
		await(t, fmt.Sprintf("every group has %d replicas", n), func() bool {
			rows, err := c.Query(context.Background(), "SHOW d.VGROUPS")
			return err == nil && len(rows.Data) == 2 && only(t, c, "SHOW d.VGROUPS", "onlines", fmt.Sprint(n))
		})
		quiet(t, c)
		if got := column(t, query(t, c, "SHOW DATABASES"), "replica"); got[0] != fmt.Sprint(n) {
			t.Errorf("SHOW DATABASES: replica %s, want %d", got[0], n)
		}
		if got := rowsOf(t, c); got != int64(5*i+5) {
			t.Errorf("REPLICA %d: %d rows, %d were acknowledged", n, got, 5*i+5)
		}
	}
	refusedWith(t, c, "ALTER DATABASE d REPLICA 4", 0x0334, "more dnodes are needed")
	dropped := map[*process]string{b: "2", third: "3"}
	for h, dnode := range dropped {
		_, err := c.Query(context.Background(), "DROP DNODE "+dnode)
		if err != nil {
			continue // 0x0333: it is the mnode master
		}
		await(t, "dnode "+dnode+" is dropped", func() bool { status, _ := reason(t, c, dnode); return status == "" })
		h.end(syscall.SIGKILL)
		break
	}
	if got := rowsOf(t, dial(t, a)); got != 20 {
		t.Errorf("%d rows after the drop, 20 were acknowledged", got)
	}
}

// TestRestoreAnOldCopy: the directory of a host was put back from an old copy.
// It is refused until the host comes back empty and is restored (R42).
func TestRestoreAnOldCopy(t *testing.T) {
	takesLong(t)
	_, a, b, c := pairWithTable(t)
	b.end(syscall.SIGTERM)
	putBack := b.keep()
	b.start()
	whole(t, c)
	put(t, c, 0, 10)
	b.end(syscall.SIGTERM)
	putBack()
	b.start()
	saysOldCopy(t, b, "")
	onA := dial(t, a)
	put(t, onA, 10, 20)
	query(t, onA, "RESTORE DNODE 2") // typed first, as the words say
	b.end(syscall.SIGTERM)
	b.wipe()
	b.start()
	whole(t, c)
	quiet(t, c)
	sameDigests(t, c, a, b, 20)
}

// TestRestoreWithDeaths: whichever box is killed while a host is being restored,
// the restoring ends, and nothing is lost.
func TestRestoreWithDeaths(t *testing.T) {
	takesLong(t)
	arb, a, b, c := pair(t)
	query(t, c, "CREATE DATABASE d REPLICA 2 VGROUPS 4")
	query(t, c, "CREATE TABLE d.t (ts TIMESTAMP, n BIGINT)")
	whole(t, c)
	rows := 0
	for _, victim := range []*process{a, b, arb} {
		put(t, c, rows, rows+10)
		rows += 10
		b.end(syscall.SIGKILL)
		b.wipe()
		b.start()
		onA := dial(t, a)
		query(t, onA, "RESTORE DNODE 2")
		await(t, "the host is let in", func() bool { return strings.Contains(transactions(t, onA), "replica") || member(t, onA, "2") })
		victim.end(syscall.SIGKILL)
		victim.start()
		whole(t, c)
		quiet(t, c)
		sameDigests(t, c, a, b, uint64(rows))
	}
}

// transactions is SHOW TRANSACTIONS as one text.
func transactions(t *testing.T, c *client.Client) string {
	t.Helper()
	rows, err := c.Query(context.Background(), "SHOW TRANSACTIONS")
	if err != nil {
		return ""
	}
	return strings.Join(column(t, rows, "oper"), ", ")
}

func member(t *testing.T, c *client.Client, dnode string) bool {
	t.Helper()
	status, _ := reason(t, c, dnode)
	return status == "ready"
}

// TestOfflineThreshold: a host that stays away is removed when its replicas have
// another place (A27), and is not when they have none. A removed one does not
// come back by itself (A28).
func TestOfflineThreshold(t *testing.T) {
	takesLong(t)
	arb := newArbitrator(t).start()
	a := newHost(t, "", arb.peer, "offlineThreshold 5s").start()
	b := newHost(t, a.peer, arb.peer, "offlineThreshold 5s").start()
	c := dial(t, a, b)
	await(t, "the first host serves", func() bool { return c.Ping(context.Background(), a.http) == nil })
	query(t, c, "CREATE DNODE '"+b.peer+"'")
	query(t, c, "CREATE DATABASE d REPLICA 2")
	query(t, c, "CREATE TABLE d.t (ts TIMESTAMP, n BIGINT)")
	whole(t, c)
	b.end(syscall.SIGKILL)
	await(t, "the removal is blocked", func() bool {
		_, why := reason(t, c, "2")
		return strings.HasPrefix(why, "REMOVAL_BLOCKED")
	})
	put(t, c, 0, 10)
	b.start()
	whole(t, c)

	third := newHost(t, a.peer, arb.peer, "offlineThreshold 5s").start()
	query(t, c, "CREATE DNODE '"+third.peer+"'")
	await(t, "the third host joins", func() bool { return member(t, c, "3") })
	query(t, c, "CREATE DATABASE e REPLICA 2 VGROUPS 3")
	quiet(t, c)
	third.end(syscall.SIGKILL)
	await(t, "it is removed", func() bool { status, _ := reason(t, c, "3"); return status == "" })
	quiet(t, c)
	whole(t, c)
	for _, name := range []string{"v1_dnode", "v2_dnode"} {
		if !only(t, c, "SHOW e.VGROUPS", name, "1", "2") {
			t.Errorf("%s: %v", name, column(t, query(t, c, "SHOW e.VGROUPS"), name))
		}
	}
	third.start()
	await(t, "it is told that it was dropped", func() bool { return third.said("it was dropped") })
	if member(t, c, "3") {
		t.Error("a removed host came back by itself")
	}
}

// TestArbitratorWipedWithAHostDown: the arbitrator lost its directory while a
// host is down. The other one can't commit alone, says so, and goes on as soon
// as the host is back (R41).
func TestArbitratorWipedWithAHostDown(t *testing.T) {
	takesLong(t)
	arb, a, b, c := pairWithTable(t)
	b.end(syscall.SIGKILL)
	onA := dial(t, a)
	put(t, onA, 0, 5)
	arb.end(syscall.SIGKILL)
	arb.wipe()
	arb.start()
	await(t, "nothing is led", func() bool { return only(t, onA, "SHOW CLUSTER ALIVE", "status", "0") })
	await(t, "an alarm says who is waited for", func() bool {
		rows, err := onA.Query(context.Background(), "SHOW ALARMS")
		return err == nil && strings.Contains(strings.Join(column(t, rows, "next_step"), "\n"), b.peer)
	})
	b.start()
	whole(t, c)
	quiet(t, c)
	put(t, c, 5, 10)
	sameDigests(t, c, a, b, 10)
	b.end(syscall.SIGKILL)
	put(t, onA, 10, 15) // with the new directory of the arbitrator
}

// TestRestoreFromACopy: the log begins after what the new replicas need, so that
// the restored host gets copies first.
func TestRestoreFromACopy(t *testing.T) {
	takesLong(t)
	arb := newArbitrator(t).start()
	const keep = "walKeepForReplica 64KiB"
	a := newHost(t, "", arb.peer, keep).start()
	b := newHost(t, a.peer, arb.peer, keep).start()
	c := dial(t, a, b)
	await(t, "the first host serves", func() bool { return c.Ping(context.Background(), a.http) == nil })
	query(t, c, "CREATE DNODE '"+b.peer+"'")
	query(t, c, "CREATE DATABASE d REPLICA 2 VGROUPS 1")
	query(t, c, "CREATE TABLE d.t (ts TIMESTAMP, n BIGINT, s VARCHAR(1000))")
	whole(t, c)
	b.end(syscall.SIGKILL)
	b.wipe()
	onA, written := dial(t, a), 0
	write := func() {
		t.Helper()
		var rows strings.Builder
		for range 200 {
			written++
			fmt.Fprintf(&rows, " (%d, %d, '%s')", 1_700_000_000_000+int64(written), written, noise(200))
		}
		query(t, onA, "INSERT INTO d.t VALUES"+rows.String())
	}
	// Two checkpoints later what is above walKeepForReplica has gone.
	for end := time.Now().Add(12 * time.Second); time.Now().Before(end); {
		write()
	}
	b.start()
	query(t, onA, "RESTORE DNODE 2")
	await(t, "the copy is installed", func() bool { return b.said("copy installed") })
	write()
	whole(t, c)
	quiet(t, c)
	sameDigests(t, c, a, b, uint64(written))
	a.end(syscall.SIGKILL)
	if got := rowsOf(t, dial(t, b)); got != int64(written) {
		t.Errorf("the restored host alone has %d rows, %d were acknowledged", got, written)
	}
}
