package main

import (
	"errors"
	"strings"

	"github.com/tarbitrator/tarbitrator/test/powercut"
	"github.com/tarbitrator/tarbitrator/test/rig"
)

// fault hurts the cluster and returns what heals it.
type fault struct {
	kind, name string
	do         func(w *world) (heal func() error, err error)
}

// chosen is the faults whose kind and name contain a text, by kind.
func chosen(part string) [][]fault {
	var kinds [][]fault
	for _, f := range allFaults() {
		if !strings.Contains(f.kind+" "+f.name, part) {
			continue
		}
		if n := len(kinds); n > 0 && kinds[n-1][0].kind == f.kind {
			kinds[n-1] = append(kinds[n-1], f)
		} else {
			kinds = append(kinds, []fault{f})
		}
	}
	return kinds
}

// allFaults is every fault, those of a kind together.
func allFaults() []fault {
	const a, b, w = rig.A, rig.B, rig.Arbitrator
	return []fault{
		{"kill", "a", killing(a)},
		{"kill", "b", killing(b)},
		{"kill", "w", killing(w)},
		{"kill", "a+b", killing(a, b)},
		{"kill", "a, b at once again", killingInTurn},
		{"restart of all", "", killing(a, b, w)},
		{"stop", "a", stopping(a)},
		{"stop", "b", stopping(b)},
		{"stop", "all", stopping(a, b, w)},
		{"freeze", "a", freezing(a)},
		{"freeze", "b", freezing(b)},
		{"freeze", "w", freezing(w)},
		{"unplug", "a", unplugging(a)},
		{"unplug", "b", unplugging(b)},
		{"unplug", "w", unplugging(w)},
		{"cut", "a-b", cutting([2]string{a, b}, [2]string{b, a})},
		{"cut", "a-w", cutting([2]string{a, w}, [2]string{w, a})},
		{"cut", "b-w", cutting([2]string{b, w}, [2]string{w, b})},
		{"cut one way", "a>b", cutting([2]string{a, b})},
		{"cut one way", "b>a", cutting([2]string{b, a})},
		{"cut one way", "a>w", cutting([2]string{a, w})},
		{"cut one way", "w>a", cutting([2]string{w, a})},
		{"cut one way", "b>w", cutting([2]string{b, w})},
		{"cut one way", "w>b", cutting([2]string{w, b})},
		// Its clients still reach it.
		{"isolate", "a", cutting([2]string{a, b}, [2]string{b, a}, [2]string{a, w}, [2]string{w, a})},
		{"isolate", "b", cutting([2]string{a, b}, [2]string{b, a}, [2]string{b, w}, [2]string{w, b})},
		{"power cut", "a", powerCut(a)},
		{"power cut", "b", powerCut(b)},
		{"power cut", "both", powerCut(a, b)},
		{"hung disk", "a", hanging(a)},
		{"hung disk", "b", hanging(b)},
		{"full disk", "a", filling(a)},
		{"full disk", "b", filling(b)},
	}
}

func killing(names ...string) func(*world) (func() error, error) {
	return func(w *world) (func() error, error) {
		var errs []error
		for _, n := range names {
			errs = append(errs, w.Kill(n))
		}
		return func() error { return w.startAll(names) }, errors.Join(errs...)
	}
}

// killingInTurn kills one data host and, as soon as it runs again, the other:
// the second dies while the first one is catching up.
func killingInTurn(w *world) (func() error, error) {
	if err := errors.Join(w.Kill(rig.A), w.Start(rig.A), w.Kill(rig.B)); err != nil {
		return nil, err
	}
	return func() error { return w.Start(rig.B) }, nil
}

// stopping asks processes to stop, one after the other.
func stopping(names ...string) func(*world) (func() error, error) {
	return func(w *world) (func() error, error) {
		var errs []error
		for _, n := range names {
			_, err := w.Terminate(n)
			errs = append(errs, err)
		}
		return func() error { return w.startAll(names) }, errors.Join(errs...)
	}
}

func (w *world) startAll(names []string) error {
	var errs []error
	for _, n := range names {
		errs = append(errs, w.Start(n))
	}
	return errors.Join(errs...)
}

func freezing(name string) func(*world) (func() error, error) {
	return func(w *world) (func() error, error) {
		return func() error { return w.Thaw(name) }, w.Freeze(name)
	}
}

func unplugging(name string) func(*world) (func() error, error) {
	return func(w *world) (func() error, error) {
		return func() error { return w.Plug(name) }, w.Cut(name)
	}
}

func hanging(name string) func(*world) (func() error, error) {
	return func(w *world) (func() error, error) {
		return func() error { return w.UnhangDisk(name) }, w.HangDisk(name)
	}
}

// nearlyFull is what a full disk has left: less than a host wants for the
// writes that it does although it takes none.
const nearlyFull = 48 << 20

func filling(name string) func(*world) (func() error, error) {
	return func(w *world) (func() error, error) {
		return func() error { return w.EmptyDisk(name) }, w.FillDisk(name, nearlyFull)
	}
}

// cutting drops what goes from one machine to another.
func cutting(links ...[2]string) func(*world) (func() error, error) {
	return func(w *world) (func() error, error) {
		var errs []error
		for _, l := range links {
			errs = append(errs, w.CutLink(l[0], l[1]))
		}
		return w.Heal, errors.Join(errs...)
	}
}

// powerCut takes the power of data hosts away: of their disks is left what was
// synced, and with luck more.
func powerCut(names ...string) func(*world) (func() error, error) {
	return func(w *world) (func() error, error) {
		how := powercut.All[w.random.IntN(len(powercut.All))]
		var errs []error
		for _, n := range names {
			errs = append(errs, w.BreakDisk(n, how))
		}
		for _, n := range names {
			errs = append(errs, w.Kill(n))
		}
		return func() error {
			var errs []error
			for _, n := range names {
				errs = append(errs, w.MendDisk(n))
			}
			return errors.Join(append(errs, w.startAll(names))...)
		}, errors.Join(errs...)
	}
}
