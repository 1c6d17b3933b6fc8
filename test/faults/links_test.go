package faults

import (
	"slices"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/test/rig"
)

// cut cuts links in both directions.
func (n *town) cut(pairs ...[2]string) {
	n.t.Helper()
	for _, p := range pairs {
		n.must(n.CutLink(p[0], p[1]), n.CutLink(p[1], p[0]))
	}
}

// hold lets a fault last: longer than two elections and two reports.
func hold() { time.Sleep(3 * time.Second) }

// TestLinkBetweenHostsCut: both hosts reach the arbitrator, and not each other.
// One of them leads everything, and there is at most one change of master.
func TestLinkBetweenHostsCut(t *testing.T) {
	n := newTown(t, rig.Options{})
	master, other := n.roles()
	n.write(master)
	before := n.terms(master)
	n.cut([2]string{rig.A, rig.B})
	n.write(master, other)
	hold()
	n.write(master, other)
	now, ok := n.leader(master)
	if !ok {
		now, ok = n.leader(other)
	}
	if !ok {
		t.Errorf("nobody leads everything")
	}
	groups := uint64(len(n.replicas(now)))
	if after := n.terms(now); after > before+groups {
		t.Errorf("terms have grown by %d in %d groups: want one change of master at most", after-before, groups)
	}
	n.must(n.Heal())
	n.intact()
	n.write(other)
	n.intact()
}

// TestHostCutOff: a host reaches nobody but its clients. It takes nothing and
// answers no linearizable read; the other one serves.
func TestHostCutOff(t *testing.T) {
	n := newTown(t, rig.Options{})
	master, other := n.roles()
	n.write(master)
	n.cut([2]string{master, other}, [2]string{master, rig.Arbitrator})
	n.write(other)
	n.refuses(master, `"code":11,`, "cut off")
	n.write(other)
	n.must(n.Heal())
	n.intact()
}

// TestLinksCutOneWay: on each link in turn one direction fails.
func TestLinksCutOneWay(t *testing.T) {
	n := newTown(t, rig.Options{})
	for _, l := range [][2]string{
		{rig.A, rig.B}, {rig.B, rig.A}, {rig.A, rig.Arbitrator}, {rig.Arbitrator, rig.A}, {rig.B, rig.Arbitrator}, {rig.Arbitrator, rig.B},
	} {
		n.must(n.CutLink(l[0], l[1]))
		n.write(rig.A, rig.B)
		time.Sleep(time.Second)
		n.write(rig.B, rig.A)
		n.must(n.Heal())
		n.intact()
		if t.Failed() {
			t.Fatalf("after the link from %s to %s was cut", l[0], l[1])
		}
	}
}

// TestArbitratorCut: the arbitrator is cut off from one host, and from both. The
// pair does not notice.
func TestArbitratorCut(t *testing.T) {
	n := newTown(t, rig.Options{})
	master, other := n.roles()
	before := n.terms(master)
	for _, from := range [][]string{{master}, {other}, {master, other}} {
		for _, name := range from {
			n.cut([2]string{name, rig.Arbitrator})
		}
		n.write(master)
		hold()
		n.write(other)
		if !n.all(n.on(master), "SHOW VGROUPS", "mode", "sync") {
			t.Errorf("cut off from %v: not in sync", from)
		}
		n.must(n.Heal())
		n.whole()
	}
	if after := n.terms(master); after != before {
		t.Errorf("the sum of terms went from %d to %d: there was an election", before, after)
	}
	n.intact()
}

// TestFlappingLink: the link between the hosts comes and goes. Everything that
// is written meanwhile is there, and at the end nothing flaps any more.
func TestFlappingLink(t *testing.T) {
	n := newTown(t, rig.Options{})
	for round := range 10 {
		n.cut([2]string{rig.A, rig.B})
		n.write(rig.A, rig.B)
		time.Sleep(time.Duration(100+70*round) * time.Millisecond)
		n.must(n.Heal())
		n.write(rig.B, rig.A)
	}
	n.intact()
	before := n.terms(rig.A)
	hold()
	if after := n.terms(rig.A); after != before {
		t.Errorf("the sum of terms went from %d to %d on a healthy link", before, after)
	}
	if roles := n.column(n.both(), "SHOW MNODES", "role"); !slices.Contains(roles, "master") {
		t.Errorf("the mnode has roles %v", roles)
	}
}

// TestGossipPortBlocked: a firewall that nobody has told of the gossip port. Both
// hosts say so, no election is held and no host is taken for away; that one stands
// still is known all the same, as its reports are missed.
func TestGossipPortBlocked(t *testing.T) {
	n := newTown(t, rig.Options{})
	heard := func(state string, times int) {
		t.Helper()
		n.await("gossip has the other host as "+state, func() bool {
			return n.count(rig.A, "msg=gossip host=2 state="+state) == times && n.count(rig.B, "msg=gossip host=1 state="+state) == times
		})
	}
	heard("alive", 1)
	master, other := n.roles()
	before := n.terms(master)
	n.must(n.BlockPort(6031))
	heard("silent", 1)
	n.await("reports count for more than gossip", func() bool { return n.all(n.both(), "SHOW DNODES", "status", "ready") })
	n.await("both hosts say what is blocked", func() bool {
		n.write(master, other)
		if dnodes := n.query(n.both(), "SHOW DNODES"); slices.ContainsFunc(cells(dnodes, "status"), func(s string) bool { return s != "ready" }) {
			t.Fatalf("a host that gossip does not hear counts as away: %v", dnodes.Data)
		}
		const words = "gossip does not reach a host that is connected"
		return n.count(rig.A, words) == 1 && n.count(rig.B, words) == 1
	})
	if after := n.terms(master); after != before {
		t.Errorf("the sum of terms went from %d to %d: there was an election", before, after)
	}

	n.must(n.Freeze(other))
	n.write(master)
	n.await("SHOW DNODES misses the reports of the other host", func() bool {
		return slices.Contains(n.column(n.on(master), "SHOW DNODES", "offline reason"), "status msg timeout")
	})
	n.must(n.Thaw(other))
	n.whole()
	n.kill(master)
	n.write(other)
	n.start(master)
	n.intact()
	n.must(n.Heal())
	n.await("the hosts hear each other again", func() bool {
		return n.count(other, "msg=gossip") > 2 && n.count(master, "state=alive") > 1
	})
	n.write(master, other)
	n.intact()
}
