// Command ingest measures how fast a pair with its arbitrator takes rows over
// HTTP: real processes in network namespaces, real disks, an answer only when
// the rows are durable on both data hosts and applied.
//
// The client shares the machine with the cluster, so it is as cheap as it can be
// made: requests are written by hand on kept connections. What each process
// spends on a statement is in the table, and under it what this machine's disk
// needs for one sync, without which the figures say little.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tarbitrator/tarbitrator/test/rig"
)

var (
	bin     = flag.String("bin", "bin", "directory of tnode and tarbitrator")
	length  = flag.Duration("for", 5*time.Second, "length of one measurement")
	rounds  = flag.Int("rounds", 3, "measurements of each case; medians are reported")
	vgroups = flag.Int("vgroups", 2, "vgroups of the database")
	only    = flag.String("only", "", "measure only the cases whose name contains this")
	pause   = flag.Duration("pause", 0, "before the first measurement, print process ids and wait (for a profiler)")
)

// load is one case: how many connections insert how many rows at a time, at
// which host.
type load struct {
	name        string
	connections int
	rows        int // of one statement
	other       bool
}

var loads = []load{
	{"1 row x 1", 1, 1, false},
	{"1 row x 64", 64, 1, false},
	{"1 row x 256", 256, 1, false},
	{"1 row x 1, other host", 1, 1, true},
	{"1 row x 64, other host", 64, 1, true},
	{"1 row x 256, other host", 256, 1, true},
	{"1000 rows x 8", 8, 1000, false},
}

// maxConnections is how many tables there are: one for each connection.
const maxConnections = 256

func main() { rig.Main(run) }

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "ingest")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, err := rig.New(dir, rig.Options{Bin: *bin})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	leader, other, err := prepare(ctx, r)
	if err != nil {
		return err
	}
	if *pause > 0 {
		fmt.Printf("leader %d, other %d, arbitrator %d, client %d\n",
			r.Pid(leader), r.Pid(other), r.Pid(rig.Arbitrator), os.Getpid())
		time.Sleep(*pause)
	}
	b := bench{rig: r, leader: leader, other: other}
	fmt.Printf("%-24s %10s %9s %9s   CPU us per statement of\n", "", "rows/s", "p50", "p99")
	fmt.Printf("%-24s %10s %9s %9s %8s %8s %8s %8s\n", "", "", "", "", "leader", "other", "arbitr.", "client")
	for _, l := range loads {
		if !strings.Contains(l.name, *only) {
			continue
		}
		if err := b.measure(ctx, l); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	sync, err := syncTime(dir)
	if err != nil {
		return err
	}
	fmt.Printf("floor: one write and sync of this disk takes %s\n", ms(sync))
	return nil
}

// prepare makes a cluster with one table for each connection, and tells which
// host leads.
func prepare(ctx context.Context, r *rig.Rig) (leader, other string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := r.Up(ctx); err != nil {
		return "", "", err
	}
	if err := r.SQL(ctx, rig.A, fmt.Sprintf("CREATE DATABASE d REPLICA 2 VGROUPS %d", *vgroups)); err != nil {
		return "", "", err
	}
	for c := range maxConnections {
		if err := r.SQL(ctx, rig.A, fmt.Sprintf("CREATE TABLE d.t%d (ts TIMESTAMP, v DOUBLE, n BIGINT)", c)); err != nil {
			return "", "", err
		}
	}
	return findLeader(ctx, r)
}

// findLeader waits until one host leads every vgroup, and all are in sync.
func findLeader(ctx context.Context, r *rig.Rig) (leader, other string, err error) {
	c := &http.Client{Timeout: time.Second}
	for ctx.Err() == nil {
		body, err := rig.Ask(ctx, c, r.EndPoint(rig.A), "SHOW d.VGROUPS")
		if err == nil && strings.Count(body, `"shut"`) == *vgroups {
			switch *vgroups { // ids are given in order of joining: dnode 1 is A
			case strings.Count(body, `1,"master"`):
				return rig.A, rig.B, nil
			case strings.Count(body, `2,"master"`):
				return rig.B, rig.A, nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return "", "", errors.New("no host leads all vgroups in sync: see SHOW VGROUPS")
}

// bench measures one load after the other on one cluster.
type bench struct {
	rig           *rig.Rig
	leader, other string
	next          int64 // timestamps below it are used
}

// figures is what one measurement gives.
type figures struct {
	rowsPerSecond float64
	p50, p99      time.Duration
	cpu           [4]float64 // us per statement: leader, other, arbitrator, client
}

func (b *bench) measure(ctx context.Context, l load) error {
	var all []figures
	for range *rounds {
		f, err := b.once(ctx, l)
		if err != nil {
			return err
		}
		all = append(all, f)
	}
	fmt.Printf("%-24s %10.0f %9s %9s", l.name,
		median(all, func(f figures) float64 { return f.rowsPerSecond }),
		ms(median(all, func(f figures) time.Duration { return f.p50 })),
		ms(median(all, func(f figures) time.Duration { return f.p99 })))
	for i := range all[0].cpu {
		fmt.Printf(" %8.1f", median(all, func(f figures) float64 { return f.cpu[i] }))
	}
	fmt.Println()
	return nil
}

func median[T float64 | time.Duration](all []figures, of func(figures) T) T {
	values := make([]T, len(all))
	for i, f := range all {
		values[i] = of(f)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.3f ms", float64(d.Microseconds())/1000) }

// warmUp comes before every measurement.
const warmUp = time.Second

func (b *bench) once(ctx context.Context, l load) (figures, error) {
	host := b.leader
	if l.other {
		host = b.other
	}
	var senders []*sender
	defer func() {
		for _, s := range senders {
			s.conn.Close()
		}
	}()
	for c := range l.connections {
		s, err := dial(ctx, b.rig.EndPoint(host), c, l.rows, b.next)
		if err != nil {
			return figures{}, err
		}
		senders = append(senders, s)
	}
	if _, err := sendAll(senders, warmUp); err != nil {
		return figures{}, err
	}
	before, err := b.cpuTimes()
	if err != nil {
		return figures{}, err
	}
	start := time.Now()
	times, err := sendAll(senders, *length)
	took := time.Since(start)
	if err != nil {
		return figures{}, err
	}
	after, err := b.cpuTimes()
	if err != nil {
		return figures{}, err
	}
	for _, s := range senders {
		b.next = max(b.next, s.at)
	}
	slices.Sort(times)
	n := len(times)
	f := figures{
		rowsPerSecond: float64(n*l.rows) / took.Seconds(), p50: times[n/2], p99: times[n*99/100],
	}
	for i := range f.cpu {
		f.cpu[i] = float64((after[i] - before[i]).Microseconds()) / float64(n)
	}
	return f, nil
}

// cpuTimes is what each process has used so far, in the order of figures.cpu.
func (b *bench) cpuTimes() (times [4]time.Duration, err error) {
	for i, name := range []string{b.leader, b.other, rig.Arbitrator} {
		if times[i], err = b.rig.CPUTime(name); err != nil {
			return times, err
		}
	}
	times[3], err = rig.OwnCPUTime()
	return times, err
}
