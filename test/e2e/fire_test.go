package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/client"
)

var (
	seed   = flag.Uint64("seed", 0, "strike the same boxes after the same times in the tests under fire; 0: new ones, and the seed is printed")
	rounds = flag.Int("rounds", 1, "how often each box is killed and frozen in the tests under fire")
)

// fire is a cluster that is changed while its boxes are struck, and written to
// all the time.
type fire struct {
	*cluster
	rng    *rand.Rand
	dnodes map[*process]string // ids of hosts
	stream *stream
	told   map[string]bool // what SHOW TRANSACTIONS has said so far: act and what it waits for
}

// onFire starts so many hosts and a stream of rows.
func onFire(t *testing.T, hosts int) *fire {
	t.Helper()
	n := *seed
	if n == 0 {
		n = rand.Uint64N(1_000_000) + 1
	}
	t.Logf("replay: go test ./test/e2e -long -run '^%s$' -rounds %d -seed %d", t.Name(), *rounds, n)
	f := &fire{cluster: gather(t, hosts), rng: rand.New(rand.NewPCG(n, 0)), dnodes: map[*process]string{}, told: map[string]bool{}}
	for i, h := range f.hosts {
		f.dnodes[h] = fmt.Sprint(i + 1)
	}
	query(t, f.c, "CREATE DATABASE d REPLICA 2 VGROUPS 2")
	for i := range streams {
		query(t, f.c, fmt.Sprintf("CREATE TABLE d.t%d (ts TIMESTAMP, n BIGINT)", i))
	}
	f.stream = &stream{c: dial(t, f.hosts[:2]...)} // those that stay
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); f.stream.run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	return f
}

// insist repeats a statement whose outcome is unknown. What it was to do may have
// been done; then it is refused, which is as good.
func (f *fire) insist(statement string) {
	f.t.Helper()
	await(f.t, statement, func() bool {
		_, err := f.c.Query(context.Background(), statement)
		var refused *client.Error
		if err != nil && !errors.Is(err, client.ErrUnknownOutcome) && errors.As(err, &refused) && !refused.Temporary() {
			return strings.Contains(err.Error(), "exist") || f.fatal(statement, err)
		}
		return err == nil
	})
}

func (f *fire) fatal(statement string, err error) bool {
	f.t.Helper()
	f.t.Fatalf("%s: %v", statement, err)
	return false
}

// strike is a fault: a box, killed or frozen.
type strike struct {
	box    string // "master", "host", "arbitrator"
	freeze bool
}

func (s strike) String() string {
	return map[bool]string{false: "kill", true: "freeze"}[s.freeze] + " the " + s.box
}

// strikes is every fault, in an order of chance.
func (f *fire) strikes() []strike {
	var list []strike
	for _, box := range []string{"master", "host", "arbitrator"} {
		list = append(list, strike{box, false}, strike{box, true})
	}
	f.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// under carries a change out while a fault befalls a box, and waits until the
// cluster is done with it by itself; done says what it must look like then.
func (f *fire) under(s strike, change func(), what string, done func() bool) {
	f.t.Helper()
	before, length := f.upTo(1500*time.Millisecond), 100*time.Millisecond+f.upTo(2*time.Second)
	f.t.Logf("%s; %s after %v, for %v", what, s, before.Round(time.Millisecond), length.Round(time.Millisecond))
	change()
	f.watch(before)
	victim := f.victim(s.box)
	if s.freeze {
		victim.frozen(func() { f.watch(length) })
	} else {
		victim.end(syscall.SIGKILL)
		f.watch(length)
		victim.start()
	}
	f.settled(what)
	await(f.t, what, done)
	f.intact()
}

func (f *fire) upTo(d time.Duration) time.Duration { return time.Duration(f.rng.Int64N(int64(d))) }

// watch lets time pass, and notes what SHOW TRANSACTIONS says meanwhile.
func (f *fire) watch(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		f.busy()
	}
}

// busy reports whether a change is under way, as far as anybody answers.
func (f *fire) busy() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	rows, err := f.c.Query(ctx, "SHOW TRANSACTIONS")
	if err != nil {
		return true
	}
	for i := range rows.Data {
		f.told[rows.Text(i, rows.Index("oper"))+": "+rows.Text(i, rows.Index("last_action_info"))] = true
	}
	return len(rows.Data) > 0
}

// victim is the box that a word means now. The master is that of some group of
// the database, another host any but that one.
func (f *fire) victim(word string) *process {
	if word == "arbitrator" {
		return f.arb
	}
	var master *process
	await(f.t, "there is a master", func() bool {
		rows, err := f.c.Query(context.Background(), "SHOW d.VGROUPS")
		if err != nil || len(rows.Data) == 0 {
			return false
		}
		masters := members(rows, f.rng.IntN(len(rows.Data)), "master")
		i := slices.IndexFunc(f.hosts, func(h *process) bool { return slices.Contains(masters, f.dnodes[h]) })
		if i < 0 {
			return false
		}
		master = f.hosts[i]
		return true
	})
	if word == "master" {
		return master
	}
	others := slices.DeleteFunc(slices.Clone(f.hosts), func(h *process) bool { return h == master })
	return others[f.rng.IntN(len(others))]
}

// members lists the dnodes that SHOW VGROUPS has in a role, or in any.
func members(rows *client.Rows, row int, role string) (dnodes []string) {
	for v := 1; ; v++ {
		dnode, status := rows.Index(fmt.Sprintf("v%d_dnode", v)), rows.Index(fmt.Sprintf("v%d_status", v))
		if dnode < 0 {
			return dnodes
		}
		if rows.Data[row][dnode] != nil && (role == "" || rows.Text(row, status) == role) {
			dnodes = append(dnodes, rows.Text(row, dnode))
		}
	}
}

// settled waits until every host is ready, no change is under way, and as many
// hosts as there should be hold the metadata.
func (f *fire) settled(what string) {
	f.t.Helper()
	await(f.t, what+": no change is under way, everybody is ready", func() bool {
		return !f.busy() && f.ready()
	})
}

// replicas reports whether SHOW VGROUPS has both groups of the database on so
// many hosts, led and in sync, the hosts themselves say the same, and the
// arbitrator votes where the number is even, in the group of the metadata too.
func (f *fire) replicas(n int) bool {
	votes := 2 * (1 - n%2)
	if len(f.hosts) == 2 {
		votes++
	}
	if st, err := arbStatus(f.arb); err != nil || len(st.Clusters) != 1 || st.Clusters[0].Replicas != votes {
		return false
	}
	rows, err := f.c.Query(context.Background(), "SHOW d.VGROUPS")
	if err != nil || len(rows.Data) != 2 {
		return false
	}
	held := map[string][]string{} // by group, who says that it holds a replica
	for _, h := range f.hosts {
		own, err := f.c.Vnodes(context.Background(), h.http)
		if err != nil {
			return false
		}
		for _, v := range own {
			held[fmt.Sprint(v.Group)] = append(held[fmt.Sprint(v.Group)], f.dnodes[h])
		}
	}
	for i := range rows.Data {
		all := members(rows, i, "")
		slices.Sort(all)
		text := func(column string) string { return rows.Text(i, rows.Index(column)) }
		if len(all) != n || len(slices.Compact(slices.Clone(all))) != n || text("onlines") != fmt.Sprint(n) || text("mode") != "sync" ||
			len(members(rows, i, "master")) != 1 || len(members(rows, i, "slave")) != n-1 || !slices.Equal(sorted(held[text("vgId")]), all) {
			return false
		}
	}
	return true
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

// intact holds the stream for a moment and compares what is there with what was
// acknowledged, and the replicas of each group with each other.
func (f *fire) intact() {
	f.t.Helper()
	f.stream.mu.Lock()
	defer f.stream.mu.Unlock()
	if f.stream.err != nil {
		f.t.Fatal(f.stream.err)
	}
	want := int64(f.stream.rows)
	for i := range streams {
		rows := query(f.t, f.c, fmt.Sprintf("SELECT COUNT(*), SUM(n) FROM d.t%d", i))
		count, _ := rows.Int(0, 0)
		sum, _ := rows.Int(0, 1)
		if count != want || sum != want*(want-1)/2 {
			f.t.Fatalf("table t%d has %d rows with the sum %d; %d were acknowledged, with the sum %d", i, count, sum, want, want*(want-1)/2)
		}
	}
	sameReplicas(f.t, f.c, f.hosts)
}

// TestReplicasUnderFire: a database goes from two replicas to three and back,
// again and again, while each box in turn is killed and frozen at any moment of
// the change. The change ends by itself, and no row is lost.
func TestReplicasUnderFire(t *testing.T) {
	takesLong(t)
	f := onFire(t, 3)
	n := 2
	for range *rounds {
		for _, s := range f.strikes() {
			n = 5 - n
			alter := func() { f.insist(fmt.Sprintf("ALTER DATABASE d REPLICA %d", n)) }
			f.under(s, alter, fmt.Sprintf("REPLICA %d", n), func() bool { return f.replicas(n) })
		}
	}
	f.saw("add replica: dnode ")
}

// TestMembersUnderFire: hosts come and go while each box in turn is killed and
// frozen. The metadata goes from two hosts to three, from one host to another,
// and back to two, with the arbitrator while their number is even; the
// database moves away from hosts that go.
func TestMembersUnderFire(t *testing.T) {
	takesLong(t)
	f := onFire(t, 2)
	for range *rounds {
		list := f.strikes()
		for i, join := range []bool{true, true, false, true, false, false} {
			act, what := f.leave, "a host goes"
			if join {
				act, what = f.join, "a host joins"
			}
			f.under(list[i], act, what, func() bool { return f.replicas(2) })
		}
	}
	f.saw("add replica: dnode ", "drop dnode: ")
}

// join lets another host in.
func (f *fire) join() {
	f.t.Helper()
	h := f.add()
	f.dnodes[h] = fmt.Sprint(len(f.dnodes) + 1)
	f.c = dial(f.t, f.hosts...)
	f.insist("CREATE DNODE '" + h.peer + "'")
}

// leave drops a host that is not the mnode master; the first two stay, as the
// rows are written through them.
func (f *fire) leave() {
	f.t.Helper()
	at := 2 + f.rng.IntN(len(f.hosts)-2)
	gone := f.hosts[at]
	await(f.t, "a host is dropped", func() bool {
		_, err := f.c.Query(context.Background(), "DROP DNODE "+f.dnodes[gone])
		if err != nil && strings.Contains(err.Error(), "Cannot drop mnode which is leader") {
			gone.end(syscall.SIGTERM) // hands that over
			gone.start()
		}
		return err == nil || strings.Contains(err.Error(), "not exist") // it was, and the answer was lost
	})
	f.hosts = slices.Delete(f.hosts, at, at+1)
	f.c = dial(f.t, f.hosts...)
}

// saw checks that SHOW TRANSACTIONS told of these acts, by how its lines begin.
// Others are over too soon for anybody to see them each time.
func (f *fire) saw(acts ...string) {
	f.t.Helper()
	for _, act := range acts {
		said := false
		for line := range f.told {
			said = said || strings.HasPrefix(line, act)
		}
		if !said {
			f.t.Errorf("SHOW TRANSACTIONS never told %q; it told %q", act, slices.Sorted(maps.Keys(f.told)))
		}
	}
}
