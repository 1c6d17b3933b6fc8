package faults

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tarbitrator/tarbitrator/test/powercut"
	"github.com/tarbitrator/tarbitrator/test/rig"
)

func (n *town) kill(names ...string) {
	n.t.Helper()
	for _, name := range names {
		n.must(n.Kill(name))
	}
}

func (n *town) start(names ...string) {
	n.t.Helper()
	for _, name := range names {
		n.must(n.Start(name))
	}
}

// terminate asks processes to stop, one after the other.
func (n *town) terminate(names ...string) {
	n.t.Helper()
	for _, name := range names {
		code, err := n.Terminate(name)
		n.must(err)
		if code != 0 {
			n.t.Errorf("%s stopped with exit code %d, want 0", name, code)
		}
	}
}

// waitsFor checks that a host without a master names whom it waits for, in its
// answers and in SHOW VGROUPS.
func (n *town) waitsFor(name, who string) {
	n.t.Helper()
	n.refuses(name, "no master", who)
	n.await("SHOW VGROUPS at "+name+" names "+who, func() bool {
		cells := n.column(n.on(name), "SHOW VGROUPS", "waits_for")
		return len(cells) == 2 && !slices.ContainsFunc(cells, func(cell string) bool { return !strings.Contains(cell, who) })
	})
}

// TestStaleHostRefuses: B was away while A wrote on with the arbitrator, then A
// died. B says whom it waits for; A comes back and nothing is missing.
func TestStaleHostRefuses(t *testing.T) {
	n := newTown(t, rig.Options{})
	n.write(rig.A)
	n.kill(rig.B)
	n.write(rig.A)
	n.kill(rig.A)
	n.start(rig.B)
	n.waitsFor(rig.B, "dnode 1")
	n.start(rig.A)
	n.write(rig.B)
	n.intact()
}

// TestStaleHostRefusesAfterArbitratorWasWiped: the same, but the arbitrator has
// forgotten everything meanwhile. An empty one votes for nobody.
func TestStaleHostRefusesAfterArbitratorWasWiped(t *testing.T) {
	n := newTown(t, rig.Options{})
	n.write(rig.A)
	n.kill(rig.B)
	n.write(rig.A)
	n.kill(rig.A, rig.Arbitrator)
	n.must(n.Wipe(rig.Arbitrator))
	n.start(rig.Arbitrator, rig.B)
	n.waitsFor(rig.B, "dnode 1")
	n.start(rig.A)
	n.write(rig.A)
	n.intact() // the arbitrator is enrolled anew, or the feed would not shut
}

// TestAllStoppedAtOnceInSync: everything loses its power at one instant. Any two
// that come back serve.
func TestAllStoppedAtOnceInSync(t *testing.T) {
	n := newTown(t, rig.Options{})
	for _, away := range rig.Everybody {
		n.write(rig.A)
		n.whole()
		n.kill(rig.Everybody...)
		first := rig.A
		for _, name := range rig.Everybody {
			if name != away {
				n.start(name)
			}
		}
		if away == rig.A {
			first = rig.B
		}
		n.write(first)
		n.start(away)
		n.intact()
	}
}

// TestAllStoppedAsync: when everything stops, one host lacks the newest rows.
// With the arbitrator it does not serve; service is back with the other.
func TestAllStoppedAsync(t *testing.T) {
	for name, stop := range map[string]func(n *town, names ...string){
		"killed":     (*town).kill,
		"terminated": (*town).terminate,
	} {
		t.Run(name, func(t *testing.T) {
			n := newTown(t, rig.Options{})
			n.write(rig.A)
			stop(n, rig.A)
			n.write(rig.B)
			stop(n, rig.B, rig.Arbitrator)
			n.start(rig.A, rig.Arbitrator)
			n.waitsFor(rig.A, "dnode 2")
			n.start(rig.B)
			n.write(rig.A)
			n.intact()

			n.terminate(rig.A, rig.B, rig.Arbitrator)
			n.start(rig.Arbitrator, rig.B) // the one with the newest log is enough
			n.write(rig.B)
			n.start(rig.A)
			n.intact()
		})
	}
}

// TestArbitratorDownThenMaster: the second failure stops service; the
// arbitrator's return ends that.
func TestArbitratorDownThenMaster(t *testing.T) {
	n := newTown(t, rig.Options{})
	master, other := n.roles()
	n.kill(rig.Arbitrator)
	n.write(master)
	n.kill(master)
	n.refuses(other, `"code":11,`)
	n.start(rig.Arbitrator)
	n.write(other)
	n.start(master)
	n.intact()
}

// TestLongAbsence: a host was away for longer than the log is kept for it. It is
// given a copy of the data while writing goes on, dies as soon as it has one,
// and comes back with everything.
func TestLongAbsence(t *testing.T) {
	n := newTown(t, rig.Options{Config: []string{"walKeepForReplica 64KiB"}})
	for round := range 2 {
		n.await("B is given a copy", func() bool {
			before := n.count(rig.B, copyInstalled)
			n.kill(rig.B)
			for range 40 {
				n.writeMany(rig.A, 1000)
			}
			hold() // the log is cut below a checkpoint of the state, now and then
			hold()
			n.start(rig.B)
			for range 100 {
				n.writeMany(rig.A, 100)
				if n.count(rig.B, copyInstalled) > before {
					return true
				}
			}
			return false
		})
		if round == 0 {
			n.kill(rig.B)
			n.write(rig.A)
			n.start(rig.B)
		}
		n.intact()
	}
}

// copyInstalled is what a log says once a copy of a group has become its state.
const copyInstalled = "copy installed"

// count is how often a machine's processes have printed a text.
func (n *town) count(name, text string) int {
	log, err := os.ReadFile(n.Log(name))
	n.must(err)
	return strings.Count(string(log), text)
}

// TestFrozen: each process in turn stands still, and goes on as if nothing had
// happened. A client that waited for it meanwhile is not told the past.
func TestFrozen(t *testing.T) {
	n := newTown(t, rig.Options{})
	for _, name := range rig.Everybody {
		master, other := n.roles()
		n.write(master)
		n.must(n.Freeze(name))
		n.write(master, other)
		late := make(chan string, 1)
		if name != rig.Arbitrator {
			go func() { late <- n.answer(name, "SELECT COUNT(*) FROM d.t0") }()
		} else {
			late <- n.answer(master, "SELECT COUNT(*) FROM d.t0")
		}
		hold()
		n.must(n.Thaw(name))
		if said, want := <-late, fmt.Sprintf("[[%d]]", n.rows); strings.HasPrefix(said, `{"code":0,`) && !strings.Contains(said, want) {
			t.Errorf("%s was asked while it stood still and answers %s, want %s", name, said, want)
		}
		n.intact()
	}
}

// TestPowerCycledFiveTimes: A is dead, and B loses its power again and again,
// once in every way. It serves each time, alone with the arbitrator.
func TestPowerCycledFiveTimes(t *testing.T) {
	n := newTown(t, rig.Options{Disks: true})
	n.write(rig.B)
	n.kill(rig.A)
	for cycle := range 5 {
		n.write(rig.B)
		n.must(n.BreakDisk(rig.B, powercut.All[cycle%len(powercut.All)]), n.Kill(rig.B), n.MendDisk(rig.B))
		n.start(rig.B)
	}
	n.write(rig.B)
	n.start(rig.A)
	n.intact()
}

// startFirst is what the log of a host says that must start first.
const startFirst = "start this host first"

// TestTermInEveryOrder stops everything in each order, writing as long as two
// are left. A host that is the last to hold some rows says so when it stops, and
// no other does.
func TestTermInEveryOrder(t *testing.T) {
	for _, order := range [][]string{
		{rig.A, rig.B, rig.Arbitrator}, {rig.B, rig.A, rig.Arbitrator},
		{rig.A, rig.Arbitrator, rig.B}, {rig.B, rig.Arbitrator, rig.A},
		{rig.Arbitrator, rig.A, rig.B}, {rig.Arbitrator, rig.B, rig.A},
	} {
		t.Run(strings.Join(order, ""), func(t *testing.T) {
			n := newTown(t, rig.Options{})
			n.terminate(order[0])
			left := order[1]
			if left == rig.Arbitrator {
				left = order[2]
			}
			n.write(left)
			n.terminate(order[1])
			n.terminate(order[2])
			alone := order[0] != rig.Arbitrator // left has written without the other host
			for _, host := range []string{rig.A, rig.B} {
				if got, want := n.Logged(host, startFirst), alone && host == left; got != want {
					t.Errorf("the log of %s says %q: %v, want %v", host, startFirst, got, want)
				}
			}
			n.start(order...)
			n.write(rig.A, rig.B)
			n.intact()
		})
	}
}
