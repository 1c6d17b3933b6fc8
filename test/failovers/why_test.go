package failovers

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	// The programs are built by rig.Tests, out of sight of the test cache: these
	// make a change of theirs a change of this test.
	_ "github.com/tarbitrator/tarbitrator/arbitrator"
	"github.com/tarbitrator/tarbitrator/client"
	_ "github.com/tarbitrator/tarbitrator/node"
	"github.com/tarbitrator/tarbitrator/test/rig"
)

var rounds = flag.Int("rounds", 1, "how often every fault happens")

func TestMain(m *testing.M) { os.Exit(rig.Tests(m)) }

// fault is something that costs a host its leadership, what ends it, and what
// SHOW FAILOVERS has to call it in the end.
type fault struct {
	name, cause string
	hurt, heal  func(p *pair, master, other string) error
}

var faults = []fault{
	{"process killed", "killed", kill, start},
	{"machine without power, and back", "killed", darken, relight},
	{"process frozen", "frozen", freeze, thaw},
	{"cable pulled", "cut off", cut, plug},
	{"nothing it says arrives", "cut off", mute, mend},
	{"disk hangs", "disk hung", hang, unhang},
	{"disk full", "disk full", fill, empty},
	{"told to stop", "stopped", stop, start},
	{"everything restarted", "start", killAll, startAll},
}

func kill(p *pair, m, _ string) error  { return p.Kill(m) }
func start(p *pair, m, _ string) error { return p.Start(m) }

// A machine that goes dark refuses nothing.
func darken(p *pair, m, _ string) error  { return errors.Join(p.Cut(m), p.Kill(m)) }
func relight(p *pair, m, _ string) error { return errors.Join(p.Plug(m), p.Start(m)) }

func freeze(p *pair, m, _ string) error { return p.Freeze(m) }
func thaw(p *pair, m, _ string) error   { return p.Thaw(m) }
func cut(p *pair, m, _ string) error    { return p.Cut(m) }
func plug(p *pair, m, _ string) error   { return p.Plug(m) }

func mute(p *pair, m, o string) error {
	return errors.Join(p.CutLink(m, o), p.CutLink(m, rig.Arbitrator))
}

func mend(p *pair, _, _ string) error { return p.Heal() }

func hang(p *pair, m, _ string) error   { return p.HangDisk(m) }
func unhang(p *pair, m, _ string) error { return p.UnhangDisk(m) }
func fill(p *pair, m, _ string) error   { return p.FillDisk(m, 32<<20) }
func empty(p *pair, m, _ string) error  { return p.EmptyDisk(m) }

func stop(p *pair, m, _ string) error {
	_, err := p.Terminate(m)
	return err
}

func killAll(p *pair, m, o string) error {
	return errors.Join(p.Kill(m), p.Kill(o), p.Kill(rig.Arbitrator), p.Start(rig.Arbitrator), p.Start(o), p.Start(m))
}

func startAll(*pair, string, string) error { return nil } // they run already

// TestCauses wants the cause of 95 changes of master in a hundred to be right.
func TestCauses(t *testing.T) {
	p := newPair(t)
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "fault\twant\tgot\tdetection\tvote\tfirst write")
	wrong, all := 0, 0
	for range *rounds {
		for _, f := range faults {
			got := p.run(f)
			all++
			mark := ""
			if got.cause != f.cause {
				wrong++
				mark = "  <- wrong"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s%s\n", f.name, f.cause, got.cause, got.detection, got.vote, got.write, mark)
		}
	}
	w.Flush()
	t.Logf("%d changes of master, %d causes wrong\n%s", all, wrong, &table)
	if wrong*20 > all {
		t.Errorf("%d of %d causes are wrong, at most one in twenty may be", wrong, all)
	}
}

// pair is a cluster that is hurt again and again.
type pair struct {
	*rig.Rig
	t     *testing.T
	hosts map[string]*client.Client
	first string // whom to ask first: the other one may be cut off and not know the news
	rows  int
}

// patience is how long anything may take: machines of tests are busy.
const patience = 60 * time.Second

func newPair(t *testing.T) *pair {
	r, err := rig.New(t.TempDir(), rig.Options{Bin: rig.Bin(), Disks: true})
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{Rig: r, t: t, hosts: map[string]*client.Client{}, first: rig.A}
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range rig.Everybody {
				log, _ := os.ReadFile(r.Log(name))
				t.Logf("messages of %s:\n%s", name, log)
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p.must(r.Up(ctx), r.SQL(ctx, rig.A, "CREATE DATABASE d REPLICA 2 VGROUPS 2"),
		r.SQL(ctx, rig.A, "CREATE TABLE d.t (ts TIMESTAMP, n BIGINT)"))
	for _, name := range []string{rig.A, rig.B} {
		c, err := r.Client(name)
		p.must(err)
		t.Cleanup(c.Close)
		p.hosts[name] = c
	}
	p.whole()
	return p
}

func (p *pair) must(errs ...error) {
	p.t.Helper()
	if err := errors.Join(errs...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) await(what string, so func() bool) {
	p.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if so() {
			return
		}
	}
	p.t.Fatalf("%s: not within %v", what, patience)
}

// rowsOf is what the first host that answers says to a statement, nil if none
// does.
func (p *pair) rowsOf(statement string) *client.Rows {
	for _, name := range []string{p.first, rig.A, rig.B} {
		ctx, cancel := context.WithTimeout(p.t.Context(), time.Second)
		rows, err := p.hosts[name].Query(ctx, statement)
		cancel()
		if err == nil {
			return rows
		}
	}
	return nil
}

func column(rows *client.Rows, name string) (cells []string) {
	if rows == nil || rows.Index(name) < 0 {
		return nil
	}
	for i := range rows.Data {
		cells = append(cells, rows.Text(i, rows.Index(name)))
	}
	return cells
}

// whole waits until everything is in sync and one host leads all of it.
func (p *pair) whole() (master, other string) {
	p.t.Helper()
	p.await("everything in sync under one master", func() bool {
		rows := p.rowsOf("SHOW VGROUPS")
		masters := column(p.rowsOf("SHOW MNODES"), "role")
		if len(masters) != 2 || !all(column(rows, "mode"), "sync") || !all(column(rows, "feed"), "shut") || !all(column(rows, "onlines"), "2") {
			return false
		}
		switch {
		case all(column(rows, "v1_status"), "master") && masters[0] == "master":
			master, other = rig.A, rig.B
		case all(column(rows, "v2_status"), "master") && masters[1] == "master":
			master, other = rig.B, rig.A
		default:
			return false
		}
		return true
	})
	return master, other
}

func all(cells []string, want string) bool {
	return len(cells) > 0 && !slices.ContainsFunc(cells, func(c string) bool { return c != want })
}

// write waits until a row is taken.
func (p *pair) write() {
	p.t.Helper()
	p.rows++
	row := fmt.Sprintf("INSERT INTO d.t VALUES (%d, %d)", 1_700_000_000_000+p.rows, p.rows)
	p.await("a row is taken", func() bool { return p.rowsOf(row) != nil })
}

// known is how many changes of master are listed.
func (p *pair) known() int {
	n := 0
	p.await("SHOW FAILOVERS answers", func() bool {
		rows := p.rowsOf("SHOW FAILOVERS")
		if rows != nil {
			n = len(rows.Data)
		}
		return rows != nil
	})
	return n
}

// verdict is one line of SHOW FAILOVERS.
type verdict struct{ cause, detection, vote, write string }

// run lets one fault happen and end, and tells what is known of it then.
func (p *pair) run(f fault) verdict {
	p.t.Helper()
	p.write()
	master, other := p.whole()
	p.first = other
	before := p.known()
	p.must(f.hurt(p, master, other))
	p.write()
	p.await(f.name+": another master", func() bool { return p.known() > before })
	p.write()
	p.must(f.heal(p, master, other))
	p.whole()
	var got verdict
	p.await(f.name+": a cause", func() bool {
		got = p.newest(before)
		return got.cause != "silent"
	})
	return got
}

// newest is what is said of the change since there were so many. When both hosts
// start, each may lead some groups first, until one leads them all.
func (p *pair) newest(before int) verdict {
	rows := p.rowsOf("SHOW FAILOVERS")
	causes := column(rows, "cause")
	if len(causes) <= before {
		return verdict{cause: "silent"} // this host has just started, and does not know the list yet
	}
	causes = causes[:len(causes)-before]
	at := slices.Index(causes, "start")
	if others := slices.DeleteFunc(slices.Clone(causes), func(c string) bool { return c == "start" || c == "moved back" }); at < 0 || len(others) > 0 {
		if at = 0; len(causes) > 1 {
			return verdict{cause: strings.Join(causes, ", ")}
		}
	}
	cell := func(name string) string { return column(rows, name)[at] }
	return verdict{cell("cause"), cell("detection_ms"), cell("vote_ms"), cell("first_write_ms")}
}
