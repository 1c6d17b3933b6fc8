package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/test/powercut"
	"github.com/tarbitrator/tarbitrator/test/rig"
)

// nearlyFull is less than a host wants for its log and its stores.
const nearlyFull = 48 << 20

// TestDiskFull: leadership leaves a host whose disk is full, and the pair goes
// on. Without another host it refuses rows with the reason, and answers reads.
// Room heals it.
func TestDiskFull(t *testing.T) {
	n := newTown(t, rig.Options{Disks: true})
	n.write(rig.A)
	master, other := n.roles()
	n.must(n.FillDisk(master, nearlyFull))
	n.await("the other host leads", func() bool {
		leader, ok := n.leader(other)
		return ok && leader == other
	})
	n.write(master, other)
	n.must(n.EmptyDisk(master))
	n.intact()

	master, other = n.roles()
	n.kill(other)
	n.write(master)
	n.must(n.FillDisk(master, nearlyFull))
	n.writeUntilRefused(master, `"code":2327,`, "the disk of the master is full")
	if said := n.answer(master, "SELECT COUNT(*) FROM d.t0"); !strings.HasPrefix(said, `{"code":0,`) {
		t.Errorf("a read from a full disk: %s", said)
	}
	n.must(n.EmptyDisk(master))
	n.write(master)
	n.start(other)
	n.intact()
}

// TestDiskFullAtOnce: there is no room left at all, from one moment to the next.
// The host may stop; the other one serves, and nothing is lost.
func TestDiskFullAtOnce(t *testing.T) {
	n := newTown(t, rig.Options{Disks: true})
	n.write(rig.A)
	master, other := n.roles()
	n.must(n.FillDisk(master, 0))
	n.write(master, other)
	time.Sleep(time.Second)
	n.write(other, master)
	n.must(n.EmptyDisk(master))
	if !n.Running(master) {
		t.Logf("%s has stopped", master)
		n.start(master)
	}
	n.write(master, other)
	n.intact()
}

// TestArbitratorDiskFull: an arbitrator keeps tens of bytes for a replica and
// writes them over its own old ones. A disk that others have filled takes
// nothing away from it, neither while it runs nor at a restart. It does not
// begin on a disk that has no room for it.
func TestArbitratorDiskFull(t *testing.T) {
	n := newTown(t, rig.Options{Disks: true})
	master, other := n.roles()
	before := n.terms(master)
	n.must(n.FillDisk(rig.Arbitrator, 0))
	n.write(master)
	hold()
	n.write(other)
	if !n.all(n.on(master), "SHOW VGROUPS", "mode", "sync") || n.terms(master) != before {
		t.Error("the pair has noticed")
	}
	n.kill(rig.Arbitrator)
	n.start(rig.Arbitrator)
	n.kill(other)
	n.write(master)
	n.kill(master)
	n.start(master)
	n.write(master)
	n.start(other)
	n.intact()

	n.kill(rig.Arbitrator)
	n.must(n.EmptyDisk(rig.Arbitrator), n.Wipe(rig.Arbitrator), n.FillDisk(rig.Arbitrator, 0))
	n.start(rig.Arbitrator)
	code, err := n.Ended(rig.Arbitrator, patience)
	n.must(err)
	if code != 1 || !n.Logged(rig.Arbitrator, "no space left") {
		t.Errorf("an arbitrator without room for its log ended with exit code %d, want 1 and the reason", code)
	}
	n.write(master, other)
	n.must(n.EmptyDisk(rig.Arbitrator))
	n.start(rig.Arbitrator)
	n.intact() // it is enrolled anew, or the feed would not shut
}

// TestDiskHangs: the disk of each machine in turn answers nothing for a while.
func TestDiskHangs(t *testing.T) {
	n := newTown(t, rig.Options{Disks: true})
	for _, name := range rig.Everybody {
		master, other := n.roles()
		n.must(n.HangDisk(name))
		n.write(master, other)
		time.Sleep(time.Second)
		n.write(other, master)
		n.must(n.UnhangDisk(name))
		n.intact()
		if t.Failed() {
			t.Fatalf("after the disk of %s hung", name)
		}
	}
}

// TestLogsOnHungDisk: the directory of logs lies on the disk that hangs. The
// master can't write down that it does, and goes on all the same: it asks the
// other host to take over, follows it, and answers those who ask. What it could
// not write down it writes when the disk works again.
func TestLogsOnHungDisk(t *testing.T) {
	n := newTown(t, rig.Options{Disks: true, LogsOnDisk: true})
	master, other := n.roles()
	n.must(n.HangDisk(master))
	n.write(other, master)
	n.await("the host with the hung disk says that the other one leads", func() bool {
		leader, ok := n.leader(master)
		return ok && leader == other
	})
	n.await("the change of master is explained", func() bool {
		return slices.Contains(n.column(n.on(other), "SHOW FAILOVERS", "cause"), "disk hung")
	})
	n.must(n.UnhangDisk(master))
	n.intact()
	for _, line := range []string{"disk hangs", "disk answers again"} {
		n.await("the log of the host says: "+line, func() bool {
			log, err := os.ReadFile(filepath.Join(n.LogDir(master), "tnode.log"))
			return err == nil && strings.Contains(string(log), line)
		})
	}
}

// TestFailedSync: a disk reports errors. The process stops and says why, the
// others serve, and it comes back with a disk that works.
func TestFailedSync(t *testing.T) {
	n := newTown(t, rig.Options{Disks: true})
	for _, name := range rig.Everybody {
		n.must(n.BreakDisk(name, powercut.Default))
		n.write(rig.A, rig.B)
		if name == rig.Arbitrator {
			n.kill(rig.B) // only now must it sync
			n.writeUntilRefused(rig.A)
		}
		code, err := n.Ended(name, patience)
		n.must(err)
		if code != 1 || !n.Logged(name, "input/output error") {
			t.Errorf("%s ended with exit code %d, want 1, and the reason in its log", name, code)
		}
		n.must(n.MendDisk(name))
		n.start(name)
		if name == rig.Arbitrator {
			n.write(rig.A)
			n.start(rig.B)
		}
		n.intact()
	}
}

// writeUntilRefused writes rows until one is refused, in these words. Unless
// they promise that it is not stored it may be: whoever writes next writes it
// again.
func (n *town) writeUntilRefused(name string, why ...string) {
	n.t.Helper()
	said := ""
	n.await("host "+name+" refuses a row", func() bool {
		for i := range tables {
			said = n.answer(name, fmt.Sprintf("INSERT INTO %s VALUES (%d, %d)", table(i), 1_700_000_000_000+n.rows, n.rows))
			if !strings.HasPrefix(said, `{"code":0,`) {
				return true
			}
		}
		n.rows++
		return false
	})
	for _, w := range why {
		if !strings.Contains(said, w) {
			n.t.Errorf("host %s refuses a row with %s, want %q", name, said, w)
		}
	}
}
