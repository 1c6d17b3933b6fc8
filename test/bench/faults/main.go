// Command faults measures how long a client waits when a part of the cluster
// dies, freezes, is cut off, or has its disk hang.
//
// The client has one INSERT in flight, gives each try 250 ms and then asks the
// other host. What is reported is the longest time between two acknowledgements
// in the window after the event, and in an equally long window before it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/test/rig"
)

var (
	bin    = flag.String("bin", "bin", "directory of tnode and tarbitrator")
	rounds = flag.Int("rounds", 5, "measurements of each fault; the median is reported")
	only   = flag.String("fault", "", "measure only faults whose name contains this")
	window = flag.Duration("window", 4*time.Second, "how long to watch before and after the event")
	logs   = flag.Bool("logs-on-disk", false, "logDir lies on the disk that hangs, too")
	keep   = flag.Bool("keep", false, "keep the logs of every round")
)

// fault is one event, and its end.
type fault struct {
	name  string
	limit time.Duration // the gate
	hurt  func(r *rig.Rig, master, other string) error
}

var faults = []fault{
	{"master killed", 300 * time.Millisecond, func(r *rig.Rig, m, _ string) error { return r.Kill(m) }},
	{"master frozen", time.Second, func(r *rig.Rig, m, _ string) error { return r.Freeze(m) }},
	{"master cut off", time.Second, func(r *rig.Rig, m, _ string) error { return r.Cut(m) }},
	{"master's disk hangs", time.Second, func(r *rig.Rig, m, _ string) error { return r.HangDisk(m) }},
	{"master told to stop", 100 * time.Millisecond, func(r *rig.Rig, m, _ string) error { return stop(r, m) }},
	{"other told to stop", 400 * time.Millisecond, func(r *rig.Rig, _, o string) error { return stop(r, o) }},
	{"other killed", 400 * time.Millisecond, func(r *rig.Rig, _, o string) error { return r.Kill(o) }},
	{"other frozen", 400 * time.Millisecond, func(r *rig.Rig, _, o string) error { return r.Freeze(o) }},
	{"other cut off", 400 * time.Millisecond, func(r *rig.Rig, _, o string) error { return r.Cut(o) }},
	{"other's disk hangs", 600 * time.Millisecond, func(r *rig.Rig, _, o string) error { return r.HangDisk(o) }},
	{"arbitrator killed", 100 * time.Millisecond, func(r *rig.Rig, _, _ string) error { return r.Kill(rig.Arbitrator) }},
	{"arbitrator frozen", 100 * time.Millisecond, func(r *rig.Rig, _, _ string) error { return r.Freeze(rig.Arbitrator) }},
}

// stop asks a process to stop and waits until it has.
func stop(r *rig.Rig, name string) error {
	code, err := r.Terminate(name)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s stopped with exit code %d", name, code)
	}
	return err
}

func main() { rig.Main(measureAll) }

func measureAll(ctx context.Context) error {
	missed := 0
	fmt.Printf("%-22s %10s %10s %10s   %s\n", "fault", "median", "worst", "before", "limit")
	for _, f := range faults {
		if !strings.Contains(f.name, *only) {
			continue
		}
		var after, before []time.Duration
		for range *rounds {
			a, b, err := measure(ctx, f)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			after, before = append(after, a), append(before, b)
		}
		slices.Sort(after)
		slices.Sort(before)
		median := after[len(after)/2]
		verdict := "ok"
		if median >= f.limit {
			verdict = "MISSED"
			missed++
		}
		fmt.Printf("%-22s %10s %10s %10s   %s %s\n", f.name, ms(median), ms(after[len(after)-1]), ms(before[len(before)/2]), ms(f.limit), verdict)
	}
	if missed > 0 {
		return fmt.Errorf("%d faults above their limit", missed)
	}
	return nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// measure runs one fault on a fresh cluster.
func measure(ctx context.Context, f fault) (after, before time.Duration, err error) {
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		return 0, 0, err
	}
	if *keep {
		fmt.Fprintln(os.Stderr, f.name, "in", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	r, err := rig.New(dir, rig.Options{Bin: *bin, Disks: strings.Contains(f.name, "disk"), LogsOnDisk: *logs})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	up, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := r.Up(up); err != nil {
		return 0, 0, err
	}
	for _, s := range []string{"CREATE DATABASE d REPLICA 2 VGROUPS 1", "CREATE TABLE d.t (ts TIMESTAMP, v BIGINT)"} {
		if err := r.SQL(up, rig.A, s); err != nil {
			return 0, 0, err
		}
	}
	master, other, err := findMaster(up, r)
	if err != nil {
		return 0, 0, err
	}
	return watch(ctx, r, f, master, other)
}

// watch writes through the event and returns the longest gaps after and before.
func watch(ctx context.Context, r *rig.Rig, f fault, master, other string) (after, before time.Duration, err error) {
	w := newWriter(r.EndPoint(master), r.EndPoint(other))
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { w.run(ctx) })
	time.Sleep(2*time.Second + *window) // two to warm up
	event := time.Now()
	err = f.hurt(r, master, other)
	time.Sleep(*window)
	end := time.Now()
	cancel()
	done.Wait()
	return w.longest(event, end), w.longest(event.Add(-*window), event), err
}

// findMaster waits until every vgroup has a master and is in sync, and tells who
// it is.
func findMaster(ctx context.Context, r *rig.Rig) (master, other string, err error) {
	c := &http.Client{Timeout: time.Second}
	for ctx.Err() == nil {
		if body, err := rig.Ask(ctx, c, r.EndPoint(rig.A), "SHOW d.VGROUPS"); err == nil && strings.Contains(body, `"shut"`) {
			// ids are given in order of joining: dnode 1 is A
			if strings.Contains(body, `1,"master"`) {
				return rig.A, rig.B, nil
			}
			return rig.B, rig.A, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return "", "", errors.New("no vgroup in sync: see SHOW VGROUPS")
}

// writer inserts one row after another.
type writer struct {
	hosts []string
	acked []time.Time
}

func newWriter(master, other string) *writer {
	return &writer{hosts: []string{master, other}}
}

const tryFor = 250 * time.Millisecond

func (w *writer) run(ctx context.Context) {
	c := &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 2,
		DialContext:         (&net.Dialer{Timeout: tryFor}).DialContext,
	}}
	for i, host := int64(0), 0; ctx.Err() == nil; {
		statement := fmt.Sprintf("INSERT INTO d.t VALUES (%d, %d)", 1_700_000_000_000+i, i)
		try, cancel := context.WithTimeout(ctx, tryFor)
		body, err := rig.Ask(try, c, w.hosts[host%2], statement)
		cancel()
		if err == nil && strings.HasPrefix(body, `{"code":0`) {
			w.acked = append(w.acked, time.Now())
			i++
			continue
		}
		host++
	}
}

// longest is the longest time without an acknowledgement within from..to.
func (w *writer) longest(from, to time.Time) time.Duration {
	last, gap := from, time.Duration(0)
	for _, t := range w.acked {
		if t.After(from) && t.Before(to) {
			gap = max(gap, t.Sub(last))
			last = t
		}
	}
	return max(gap, to.Sub(last))
}
