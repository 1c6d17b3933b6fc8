package main

import (
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// This file is the language in which scenarios are told: who is there, what
// befalls them, and what must be true then.

const (
	ms  = time.Millisecond
	sec = time.Second
)

// lightLoad is one write in 10 ms, the load at which the bounds were measured.
func lightLoad() load {
	return load{every: 10 * ms, batch: 1, reads: 0.5, astray: 0.05, bytes: 32}
}

// cell starts data hosts and, for an even number of them, an arbitrator, with
// groups 1 to groups on all of them, and waits until all serve in sync.
func (w *world) cell(data, groups int) {
	for i := range data {
		w.newHost(string(rune('A' + i)))
	}
	if data%2 == 0 {
		w.newWitness("W")
	}
	w.run(100 * ms)
	for g := range groups {
		w.found(id.Group(g+1), w.hosts, w.arbs)
	}
	w.load = lightLoad()
	w.startLoad()
	w.wantService(3 * sec)
	w.wantShut(6 * sec)
	w.run(500 * ms)
}

// found makes a group as R40 has it: created everywhere, enrolled, then formed.
func (w *world) found(gid id.Group, hosts []*host, arbs []*witness) *group {
	g := w.newGroup(gid)
	var members []consensus.Member
	var voters []id.Replica
	add := func(b *box) {
		r := g.seat(b)
		voters = append(voters, r)
		members = append(members, g.member(r))
	}
	for _, h := range hosts {
		add(&h.box)
	}
	for _, a := range arbs {
		add(&a.box)
	}
	g.found(voters...)
	g.founding = members
	for i, h := range hosts {
		h.create(g, voters[i], false)
	}
	for i := range arbs {
		g.enroll(hosts[0], voters[len(hosts)+i], false)
	}
	ok := w.until(5*sec, func() bool {
		for _, h := range hosts {
			if h.store.durable[gid] == nil {
				return false
			}
		}
		return g.enrolling == 0
	})
	if !ok {
		w.fail("birth", "group %d: not created everywhere within 5 s", gid)
	}
	for _, h := range hosts {
		h.post(consensus.Form{Group: gid})
	}
	return g
}

func (g *group) member(r id.Replica) consensus.Member {
	s := g.seats[r]
	return consensus.Member{Replica: r, UUID: s.uuid, Witness: s.witness}
}

// create makes a replica on h from the initial record.
func (h *host) create(g *group, r id.Replica, formed bool) {
	if !h.up || h.replicas[g.id] != nil {
		return
	}
	h.newReplica(g, r)
	h.post(consensus.Create{Spec: consensus.GroupSpec{Group: g.id, Replica: r, Members: g.founding, Formed: formed}})
}

// enroll has h ask the arbitrator of replica r to keep its record, or to drop it.
func (g *group) enroll(h *host, r id.Replica, retire bool) {
	q := g.w.newRequest(h, g)
	g.enrolling++
	q.onDone = func(err error) {
		g.enrolling--
		if err != nil {
			g.w.tracef("enroll replica %d of group %d: %v", r, g.id, err)
		}
	}
	h.post(consensus.EnrollWitness{Group: g.id, To: r, Witness: g.seats[r].uuid, Retire: retire, Ticket: q.ticket})
}

// ---- who ----

// lead is the host that leads group 1, waiting for one if need be; follow is
// another data host.
func (w *world) lead() *host {
	var h *host
	if !w.until(3*sec, func() bool { h = w.groups[0].leader(); return h != nil }) {
		w.fail("I9", "group 1 has no leader")
	}
	return h
}

func (w *world) follow() *host {
	l := w.lead()
	for _, h := range w.hosts {
		if h != l && h.up {
			return h
		}
	}
	w.fail("I9", "no follower")
	return nil
}

func (w *world) arb() *witness { return w.arbs[0] }

// mortal is what hosts and arbitrators have in common for a script.
type mortal interface {
	kill()
	powerOff()
	fuse(n int)
	start()
	pause()
	resume()
	addr() *box
}

func (b *box) addr() *box { return b }

func (w *world) everyone() []mortal {
	var all []mortal
	for _, h := range w.hosts {
		if !h.removed {
			all = append(all, h)
		}
	}
	for _, a := range w.arbs {
		if !a.removed {
			all = append(all, a)
		}
	}
	return all
}

// isolate cuts a box from everyone, healing undoes it.
func (w *world) isolate(b *box) {
	for _, o := range w.net.boxes {
		if o != b {
			w.net.cutBoth(b, o)
		}
	}
}

// ---- what must be true ----

// fault marks the moment from which gaps and changes of leader are counted.
func (w *world) fault() {
	for _, g := range w.groups {
		g.gapSince, g.gap, g.changedBefore = w.now, 0, g.changes
	}
}

// longestGap is the longest time without an acknowledgement since fault.
func (g *group) longestGap() time.Duration {
	return max(g.gap, g.w.now-max(g.ackedAt, g.gapSince))
}

// wantGap bounds the longest time without an acknowledgement since fault.
func (w *world) wantGap(limit time.Duration) {
	for _, g := range w.groups {
		gap := g.longestGap()
		w.gaps = append(w.gaps, gap)
		if gap > limit {
			w.fail("gap", "group %d acknowledged nothing for %v, at most %v are allowed", g.id, gap, limit)
		}
	}
}

// wantChanges bounds the changes of leader since fault.
func (w *world) wantChanges(limit int) {
	for _, g := range w.groups {
		if n := g.changes - g.changedBefore; n > limit {
			w.fail("changes", "group %d changed its leader %d times, at most %d are allowed", g.id, n, limit)
		}
	}
}

// wantService is I9: every group acknowledges a write within d.
func (w *world) wantService(d time.Duration) {
	since := w.now
	for _, g := range w.groups {
		if g.dropped {
			continue
		}
		if !w.until(d-(w.now-since), func() bool { return g.acks > 0 && g.ackedAt > since }) {
			w.dump()
			w.fail("I9", "group %d acknowledges nothing within %v", g.id, d)
		}
	}
}

// wantShut is I9: every leader's feed is shut within d, and the H of R18 that
// its openings in this term have earned it. Then any host can go on alone, once
// it has installed what it copied.
func (w *world) wantShut(d time.Duration) {
	since := w.now
	for _, g := range w.groups {
		d = max(d, d+g.hold()-w.conf.HealthyFor)
	}
	for _, g := range w.groups {
		if g.dropped || !g.hasWitness() {
			continue
		}
		ok := w.until(d-(w.now-since), func() bool {
			h := g.leader()
			return h != nil && g.feed(h) == feedShut
		})
		if !ok {
			w.dump()
			w.fail("I9", "group %d: the feed is not shut within %v", g.id, d)
		}
	}
	w.wantApplied(4 * sec)
}

// wantApplied is that every data voter that is up applies what was acknowledged
// by now within d: a copy may be acknowledged before it is installed.
func (w *world) wantApplied(d time.Duration) {
	since := w.now
	for _, g := range w.groups {
		want := g.acked
		late := func(r id.Replica) bool {
			h := g.host(r)
			return h != nil && h.up && !h.mayFail && (h.replicas[g.id] == nil || h.replicas[g.id].applied < want)
		}
		if !g.dropped && !w.until(d-(w.now-since), func() bool { return !slices.ContainsFunc(g.current().in, late) }) {
			w.dump()
			w.fail("I9", "group %d: entry %d is not applied everywhere within %v", g.id, want, d)
		}
	}
}

func (g *group) hasWitness() bool {
	return slices.ContainsFunc(g.current().in, func(r id.Replica) bool { return g.seats[r].witness })
}

// wantSilence is that no group acknowledges anything within d.
func (w *world) wantSilence(d time.Duration) {
	since := w.now
	w.run(d)
	for _, g := range w.groups {
		if g.ackedAt > since {
			w.fail("silence", "group %d acknowledged an entry without those who know what it holds", g.id)
		}
	}
}

// dump writes everybody's view to the trace.
func (w *world) dump() {
	if w.trace == nil {
		return
	}
	for _, h := range w.hosts {
		if h.machine == nil {
			w.tracef("%s is down", h.name)
			continue
		}
		for _, s := range h.machine.Status() {
			w.tracef("%s %+v", h.name, s)
		}
	}
	for _, a := range w.arbs {
		for _, r := range a.durable {
			w.tracef("%s up %t %+v", a.name, a.up, r)
		}
	}
}

// heal ends every fault: links, freezes, slow and hung disks; the dead start.
func (w *world) heal(dead ...mortal) {
	w.net.healAll()
	for _, h := range w.hosts {
		h.store.slow, h.store.hungUntil = 0, 0
	}
	for _, a := range w.arbs {
		a.slow = 0
	}
	for _, m := range w.everyone() {
		m.resume()
		m.fuse(0)
		if !slices.Contains(dead, m) {
			m.start()
		}
	}
}
