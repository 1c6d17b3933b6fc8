// Command copy measures how long statements take while a host that was away for
// longer than the log is kept gets a copy of the data: real processes in network
// namespaces, a moderate load that does not wait for answers, as plants make it.
//
// Each round measures four times: both hosts in sync, one of them down, during
// the copy, and in sync again. The gate compares the third with the first. In the
// field the host that gets the copy has processors and a disk of its own, and who
// waits for a write feels what the copy does to the other host and the wire. So
// here it keeps to one of the processors, with a disk in memory, which makes the
// first time no longer: the slower disk counts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tarbitrator/tarbitrator/test/rig"
)

var (
	bin     = flag.String("bin", "bin", "directory of tnode and tarbitrator")
	rounds  = flag.Int("rounds", 3, "copies; medians are reported")
	window  = flag.Duration("window", 15*time.Second, "how long to measure before, without the other host, and after")
	stateMB = flag.Int("state", 1024, "size of the data, in MB")
	rate    = flag.Int("rate", 200, "statements per second")
	rows    = flag.Int("rows", 100, "rows of one statement")
	vgroups = flag.Int("vgroups", 2, "vgroups of the database")
	keep    = flag.Bool("keep", false, "keep the logs")
)

// maxRatio is the gate: the p99 during a copy, against that of the pair in sync.
const maxRatio = 1.5

func main() { rig.Main(run) }

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "copy")
	if err != nil {
		return err
	}
	if *keep {
		fmt.Fprintln(os.Stderr, "logs in", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	r, err := rig.New(dir, rig.Options{
		Bin: *bin, Disks: true, DiskMB: diskMB(), Apart: rig.B, Config: []string{"walKeepForReplica 64KiB"},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := prepare(ctx, r); err != nil {
		return err
	}
	var all []round
	printHead()
	for range *rounds {
		one, err := measure(ctx, r)
		if err != nil {
			return err
		}
		one.print()
		all = append(all, one)
	}
	return judge(all)
}

// diskMB is room for the data before it is compacted, a copy of it, and the logs.
func diskMB() int { return 6**stateMB + 2048 }

// prepare makes a cluster with so much data on both hosts.
func prepare(ctx context.Context, r *rig.Rig) error {
	up, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	if err := r.Up(up); err != nil {
		return err
	}
	statements := []string{fmt.Sprintf("CREATE DATABASE d REPLICA 2 VGROUPS %d", *vgroups)}
	for i := range tables {
		statements = append(statements,
			fmt.Sprintf("CREATE TABLE d.f%d (ts TIMESTAMP, s VARCHAR(%d))", i, fillBytes),
			fmt.Sprintf("CREATE TABLE d.t%d (ts TIMESTAMP, v DOUBLE, n BIGINT)", i))
	}
	for _, s := range statements {
		if err := r.SQL(up, rig.A, s); err != nil {
			return err
		}
	}
	begun := time.Now()
	if err := fill(up, r.EndPoint(rig.A), *stateMB<<20); err != nil {
		return err
	}
	fmt.Printf("%d MB of rows written in %.0f s\n", *stateMB, time.Since(begun).Seconds())
	if err := inSync(up, r); err != nil {
		return err
	}
	return digested(up, r)
}

// digested waits until the stores have put what was written where it stays.
func digested(ctx context.Context, r *rig.Rig) error {
	const look, little = 5 * time.Second, 2e6 // bytes that are written in that time anyway
	before, err := rig.DiskWritten(filepath.Dir(r.Log(rig.A)))
	for err == nil {
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		var now uint64
		now, err = rig.DiskWritten(filepath.Dir(r.Log(rig.A)))
		if now-before < little {
			break
		}
		before = now
	}
	return err
}

// inSync waits until every vgroup has what it should have.
func inSync(ctx context.Context, r *rig.Rig) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	c := &http.Client{Timeout: time.Second}
	for since := time.Now(); ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		body, err := rig.Ask(ctx, c, r.EndPoint(rig.A), "SHOW d.VGROUPS")
		if err != nil || strings.Count(body, `"shut"`) != *vgroups {
			since = time.Now()
		} else if time.Since(since) > settle {
			return nil
		}
	}
	return errors.New("the pair does not get in sync: see SHOW VGROUPS")
}

// settle is how long things must be as they should before they are measured.
const settle = 3 * time.Second

// round is one copy and what came before and after.
type round struct{ before, alone, during, after phase }

func measure(ctx context.Context, r *rig.Rig) (one round, err error) {
	l, err := startLoad(ctx, r.EndPoint(rig.A), r.EndPoint(rig.B))
	if err != nil {
		return one, err
	}
	defer l.stop()
	time.Sleep(settle)
	if one.before, err = l.watch(r, rig.Everybody, func() error { return l.during(*window) }); err != nil {
		return one, err
	}
	if _, err := r.Terminate(rig.B); err != nil {
		return one, err
	}
	time.Sleep(settle)
	if one.alone, err = l.watch(r, []string{rig.A, rig.Arbitrator}, func() error { return l.during(*window) }); err != nil {
		return one, err
	}
	was, err := installed(r)
	if err != nil {
		return one, err
	}
	if err := r.Start(rig.B); err != nil {
		return one, err
	}
	one.during, err = l.watch(r, rig.Everybody, func() error {
		return l.until(func() (bool, error) {
			n, err := installed(r)
			return n >= was+*vgroups, err
		})
	})
	if err != nil {
		return one, err
	}
	if err := inSync(ctx, r); err != nil {
		return one, err
	}
	one.after, err = l.watch(r, rig.Everybody, func() error { return l.during(*window) })
	return one, err
}

// installed is how many copies B has taken so far.
func installed(r *rig.Rig) (int, error) {
	log, err := os.ReadFile(r.Log(rig.B))
	return strings.Count(string(log), "copy installed"), err
}

func printHead() {
	fmt.Printf("%-9s %6s %9s %9s %9s %9s  %-22s %s\n", "", "s", "p50", "p99", "max", "MB to disk", "cores used by a b w", "MB of memory (own) of a b w")
}

func (o round) print() {
	o.before.print("in sync")
	o.alone.print("b away")
	o.during.print("copy")
	o.after.print("after")
	fmt.Printf("%-9s p99 %.1f times that of the pair in sync, %.1f times that of a alone; %.1f MB/s\n", "",
		o.ratio(), over(o.during.p99, o.alone.p99), float64(*stateMB)*1.048576/o.during.took.Seconds())
}

func (o round) ratio() float64 { return over(o.during.p99, o.before.p99) }

func over(a, b time.Duration) float64 { return float64(a) / float64(b) }

func judge(all []round) error {
	ratios := make([]float64, len(all))
	for i, o := range all {
		ratios[i] = o.ratio()
	}
	slices.Sort(ratios)
	median := ratios[len(ratios)/2]
	fmt.Printf("p99 during a copy: %.2f times that of the pair in sync (median of %d, limit %.1f)\n", median, len(all), maxRatio)
	if median > maxRatio {
		return errors.New("above the limit")
	}
	return nil
}
