package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/tarbitrator/tarbitrator/test/rig"
)

// world is the cluster with those who use it.
type world struct {
	*rig.Rig
	home      string
	random    *rand.Rand
	load      *load
	registers *registers
	faults    int
	kinds     map[string]int
	checked   int // operations in the history when it was checked last
}

// shortLog makes a host that was away for a moment need a copy of the data
// rather than the log.
const shortLog = "walKeepForReplica 64KiB"

func run(ctx context.Context) (err error) {
	home := *dir
	if home == "" {
		if home, err = os.MkdirTemp("", "chaos"); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				err = os.RemoveAll(home)
			}
		}()
	}
	fmt.Printf("seed %d, logs in %s\n", *seed, home)
	r, err := rig.New(home, rig.Options{Bin: *bin, Disks: true, Config: []string{shortLog}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	up, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := r.Up(up); err != nil {
		return err
	}
	w, err := newWorld(up, r, home)
	if err != nil {
		return err
	}
	return w.run(ctx)
}

const database = "CREATE DATABASE d REPLICA 2 VGROUPS 2"

func newWorld(ctx context.Context, r *rig.Rig, home string) (*world, error) {
	hosts := []string{r.EndPoint(rig.A), r.EndPoint(rig.B)}
	w := &world{Rig: r, home: home, random: rand.New(rand.NewPCG(*seed, 0)), kinds: map[string]int{}}
	w.load = newLoad(hosts, *writers)
	w.registers = newRegisters(hosts, *keys, *clients, w.random, w.load)
	if err := r.SQL(ctx, rig.A, database); err != nil {
		return nil, err
	}
	for i := range *writers {
		if err := r.SQL(ctx, rig.A, fmt.Sprintf("CREATE TABLE %s (ts TIMESTAMP, v BIGINT, padding VARCHAR(%d))", table(i), len(padding))); err != nil {
			return nil, err
		}
	}
	return w, w.registers.prepare(ctx, r)
}

// run hurts, heals and checks, round after round.
func (w *world) run(ctx context.Context) error {
	kinds := chosen(*only)
	if len(kinds) == 0 {
		return fmt.Errorf("no fault is called %q", *only)
	}
	began := time.Now()
	for n := 0; w.goesOn(n, time.Since(began)); n++ {
		if err := w.round(ctx, n, kinds); err != nil {
			return fmt.Errorf("round %d: %w", n, err)
		}
	}
	if err := w.registers.readAll(healWithin); err != nil {
		return err
	}
	err := w.checkHistory()
	w.load.printErrors()
	w.summary()
	if err == nil && *length > 0 && *only == "" {
		err = w.vacuous()
	}
	return err
}

// goesOn says whether another round follows n rounds in so long a time. A run of
// a given length takes up to thrice as long on a machine that is too busy to
// prove enough in it.
func (w *world) goesOn(n int, took time.Duration) bool {
	if *length == 0 {
		return n < *rounds
	}
	return took < *length || *only == "" && w.vacuous() != nil && took < 3**length
}

func (w *world) round(ctx context.Context, n int, kinds [][]fault) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	all.Go(func() { w.load.run(running, *ddl) })
	all.Go(func() { w.registers.run(running) })
	var names []string
	var err error
	for range *hurts {
		// Every kind in turn, whatever the seed.
		f := w.draw(kinds[w.faults%len(kinds)])
		names = append(names, strings.TrimSpace(f.kind+" "+f.name))
		if err = w.hurt(ctx, f); err != nil {
			err = fmt.Errorf("%s: %w", strings.Join(names, ", "), err)
			break
		}
	}
	if err == nil {
		err = w.writesAgain(ctx)
	}
	stop()
	all.Wait()
	if err = errors.Join(err, w.load.violation()); err == nil {
		err = w.check(ctx)
	}
	if err != nil || len(w.registers.history()) > 2*w.checked {
		err = errors.Join(err, w.checkHistory())
	}
	fmt.Printf("round %d: %s: %d rows, longest wait %.1f s\n", n, strings.Join(names, ", "), w.load.acknowledged(), w.load.longestWait().Seconds())
	return errors.Join(err, ctx.Err())
}

func (w *world) draw(faults []fault) fault { return faults[w.random.IntN(len(faults))] }

// hurt does one fault, waits a while, heals it, and waits a while.
func (w *world) hurt(ctx context.Context, f fault) error {
	heal, err := f.do(w)
	if err != nil {
		return err
	}
	w.faults++
	w.kinds[f.kind]++
	w.pause(ctx, 2500*time.Millisecond)
	if err := heal(); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	w.pause(ctx, 1500*time.Millisecond)
	return nil
}

// pause waits for some time up to most, often a short one.
func (w *world) pause(ctx context.Context, most time.Duration) {
	x := w.random.Float64()
	select {
	case <-time.After(time.Duration(x * x * float64(most))):
	case <-ctx.Done():
	}
}

// decideWithin bounds how long a checker may think about one register.
const decideWithin = 5 * time.Minute

// checkHistory checks everything that clients have learnt so far.
func (w *world) checkHistory() error {
	history := w.registers.history()
	w.checked = len(history)
	err := linearizable(history, decideWithin)
	var violation *notLinearizable
	if errors.As(err, &violation) {
		picture := filepath.Join(w.home, fmt.Sprintf("register%d.html", violation.key))
		err = errors.Join(err, porcupine.VisualizePath(register, violation.info, picture), fmt.Errorf("see %s", picture))
	}
	return err
}

// A run that has done less has proved little.
const (
	leastCompleted = 5000
	leastUnknown   = 100
	leastFaults    = 25
	leastKinds     = 6
)

func (w *world) vacuous() error {
	c := w.registers.counts()
	if c.completed < leastCompleted || c.unknownWrites < leastUnknown || w.faults < leastFaults || len(w.kinds) < leastKinds {
		return fmt.Errorf("vacuous: wanted at least %d completed operations, %d writes of unknown outcome, %d faults of %d kinds",
			leastCompleted, leastUnknown, leastFaults, leastKinds)
	}
	return nil
}

// summary prints what was done.
func (w *world) summary() {
	c := w.registers.counts()
	fmt.Printf("%d operations completed on %d registers by %d clients, %d writes and %d reads of unknown outcome, %d refused; %d faults of %d kinds; %d rows\n",
		c.completed, *keys, *clients, c.unknownWrites, c.unknownReads, c.refused, w.faults, len(w.kinds), w.load.acknowledged())
}
