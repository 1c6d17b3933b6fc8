package main

import (
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// told is how old a copy must be for others to know that the directory has gone
// further: the rhythm in which they are told, and a little for the way.
const told = sightingsEvery + 300*ms

// copies are the stories of directories that were put back from a copy, or were
// started twice (R30, R42).
func copies() []scenario {
	return []scenario{
		{"old-copy", pair(oldCopy)},
		{"old-copy-beside-leader", pair(oldCopyBesideLeader)},
		{"young-copy-beside-leader", pair(youngCopyBesideLeader)},
		{"old-copy-of-three", oldCopyOfThree},
		{"copy-started-too", pair(copyStartedToo)},
		{"copied-while-stopped", pair(copiedWhileStopped)},
		{"witness-old-copy-in-sync", pair(witnessOldCopyInSync)},
		{"witness-old-copy-async", pair(witnessOldCopyAsync)},
		{"witness-old-copy-without-leader", pair(witnessOldCopyWithoutLeader)},
	}
}

// wantRefused is R42: somebody recognises the directory of h as an old copy, and
// it stops.
func (w *world) wantRefused(h *host, d time.Duration) {
	if !w.until(d, func() bool { return h.dir.oldCopy }) {
		w.fail("R42", "an old copy of %s is not refused within %v", h.name, d)
	}
}

// wantTainted is R30: the arbitrator knows that its directory is an old copy.
func (w *world) wantTainted(a *witness, d time.Duration) {
	ok := w.until(d, func() bool {
		for _, r := range a.durable {
			if !r.Tainted && !r.Retired {
				return false
			}
		}
		return len(a.durable) > 0
	})
	if !ok {
		w.fail("R30", "an old copy of %s is not refused within %v", a.name, d)
	}
}

// stop ends a process one way or another.
func (w *world) stop(m mortal) {
	if w.chance(0.5) {
		m.kill()
	} else {
		m.powerOff()
	}
}

// oldCopy leaves only the arbitrator to know, which may have been started again
// meanwhile.
func oldCopy(w *world) {
	l, f := w.lead(), w.follow()
	b := f.backup()
	if w.chance(0.5) {
		w.run(w.between(told, 12*sec))
	} else {
		w.run(w.between(told+sightingsEvery, 16*sec)) // told, and written down
		w.stop(w.arb())
		w.run(w.between(10*ms, 400*ms))
		w.arb().start()
	}
	w.stop(l)
	w.stop(f)
	f.restore(b)
	w.run(100 * ms)
	f.start()
	w.wantRefused(f, 2*sec)
	w.wantSilence(3 * sec)
	w.fault()
	l.start()
	w.wantService(3 * sec)
}

// oldCopyBesideLeader is the usual case: the other host serves on, and the copy
// is replaced by a new member.
func oldCopyBesideLeader(w *world) {
	g, f := w.groups[0], w.follow()
	b, old := f.backup(), f.replicas[1].id
	w.run(w.between(told, 12*sec))
	w.fault()
	w.stop(f)
	w.run(w.between(400*ms, sec)) // nobody takes it for responsive any more
	f.restore(b)
	f.start()
	w.wantRefused(f, 2*sec)
	w.run(sec)
	w.wantGap(silentGap)
	w.restoreAsNew(g, old)
}

// restoreAsNew is what the operator does about a refused directory.
func (w *world) restoreAsNew(g *group, old id.Replica) {
	t := g.replaceData(old, w.newHost("C"))
	if !w.until(10*sec, t.done) {
		w.dump()
		w.fail("I9", "the old copy is not replaced within 10 s")
	}
	w.wantShut(8 * sec)
	w.fault()
	w.lead().powerOff()
	w.run(3 * sec)
	w.wantGap(electionGap)
}

// youngCopyBesideLeader is the other side of the bound: what nobody was told yet
// may pass. The leader knows what it was acknowledged, so nothing is lost, and
// the replica stops by itself or takes part again once there is a new leader.
func youngCopyBesideLeader(w *world) {
	g, f := w.groups[0], w.follow()
	b, old := f.backup(), f.replicas[1].id
	w.run(w.between(20*ms, told))
	w.fault()
	w.stop(f)
	w.run(w.between(400*ms, sec)) // nobody takes it for responsive any more
	f.restore(b)
	f.start()
	w.run(3 * sec)
	w.wantGap(stallGap)
	w.restoreAsNew(g, old)
}

// oldCopyOfThree has no arbitrator that would know the positions of the log. A
// and B go on while C lags; then B comes back as it was, without A. Only what C
// has heard of B's log keeps them from forgetting what A and B acknowledged.
func oldCopyOfThree(w *world) {
	w.cell(3, 1)
	a := w.lead()
	var b, c *host
	for _, h := range w.hosts {
		switch {
		case h == a:
		case b == nil:
			b = h
		default:
			c = h
		}
	}
	w.net.cutBoth(&a.box, &c.box)
	w.load.on = false
	w.run(w.between(100*ms, 400*ms))
	copied := b.backup()
	if w.chance(0.5) {
		w.run(w.between(told, 8*sec)) // it starts once more, so the copy is of an earlier start
		w.stop(b)
		w.run(w.between(10*ms, 100*ms))
		b.start()
	}
	if w.chance(0.5) { // many writes, or one
		w.load.every = w.between(10*ms, 100*ms)
		w.startLoad()
		w.run(w.between(200*ms, 2*sec))
	} else {
		acks := w.groups[0].acks
		w.load.every = 100 * ms
		w.startLoad()
		w.until(sec, func() bool { return w.groups[0].acks > acks })
	}
	w.load.on = false
	w.run(told + w.between(0, 4*sec))
	if w.chance(0.5) { // what C was told is on its disk
		w.run(sightingsEvery)
		w.stop(c)
		w.run(w.between(10*ms, 100*ms))
		c.start()
		w.run(200 * ms)
	}
	w.stop(b)
	w.stop(a)
	w.net.healAll()
	b.restore(copied)
	w.run(w.between(0, 500*ms))
	b.start()
	w.startLoad()
	w.wantSilence(4 * sec)
	w.wantRefused(b, 0)
	w.fault()
	a.start()
	w.wantService(3 * sec)
}

// copyStartedToo starts a copy of a running host beside it.
func copyStartedToo(w *world) {
	h := w.hosts[w.pick(2)]
	b := h.backup()
	w.run(w.between(told, 12*sec))
	w.fault()
	t := h.twin(b)
	w.wantRefused(t, 2*sec)
	w.run(4 * sec)
	if h.dir.oldCopy {
		w.fail("R42", "%s is refused because a copy of it was started", h.name)
	}
	w.wantGap(noise)
	w.wantChanges(0)
}

// copiedWhileStopped starts a directory and its faithful copy: none is older, so
// who comes second is refused, or each by somebody.
func copiedWhileStopped(w *world) {
	h := w.hosts[w.pick(2)]
	w.stop(h)
	b := h.backup()
	w.run(w.between(100*ms, 2*sec))
	h.copied, h.mayFail = true, true
	t := h.twin(b)
	w.run(w.between(0, 100*ms))
	h.start()
	ok := w.until(3*sec, func() bool { return h.dir.oldCopy || t.dir.oldCopy })
	if !ok {
		w.fail("R42", "%s runs twice", h.name)
	}
	w.wantService(3 * sec)
}

// witnessOldCopyInSync is noticed by the leader, which hears the generation with
// every answer. Service goes on, and the arbitrator is emptied and enrolled anew.
func witnessOldCopyInSync(w *world) {
	g, a := w.groups[0], w.arb()
	b, was := a.backup(), a.written
	w.run(w.between(told, 12*sec))
	if a.written == was {
		return // nothing was written: the copy is as good as the original
	}
	w.fault()
	w.stop(a)
	w.run(w.between(0, sec))
	a.restore(b)
	a.start()
	w.wantTainted(a, 2*sec)
	w.rewipe()
	t := g.replaceWitness(g.witnessSeat(), a)
	if !w.until(5*sec, t.done) {
		w.fail("I9", "the arbitrator is not replaced within 5 s")
	}
	w.wantGap(noise)
	w.wantShut(6 * sec)
	w.fault()
	w.lead().powerOff()
	w.run(3 * sec)
	w.wantGap(electionGap)
}

// witnessOldCopyAsync: the arbitrator alone holds the majority's other half. The
// leader, which heard it say so, must not be given away.
func witnessOldCopyAsync(w *world) {
	f, a := w.follow(), w.arb()
	w.stop(f)
	w.run(w.between(0, sec))
	b := a.backup()
	w.run(w.between(500*ms, 4*sec))
	w.stop(a)
	a.restore(b)
	w.run(w.between(0, 300*ms))
	a.start()
	w.wantTainted(a, 2*sec)
	w.wantSilence(2 * sec)
	w.fault()
	f.start()
	w.wantService(3 * sec)
}

// witnessOldCopyWithoutLeader: the leader that heard the newest generation is
// gone, the follower was told of one that is new enough.
func witnessOldCopyWithoutLeader(w *world) {
	l, a := w.lead(), w.arb()
	b := a.backup()
	w.run(generationEvery + w.between(told, 8*sec))
	w.stop(l)
	a.powerOff()
	a.restore(b)
	w.run(w.between(0, 100*ms))
	a.start()
	w.wantTainted(a, 2*sec)
	w.wantSilence(3 * sec)
	w.fault()
	l.start()
	w.wantService(3 * sec)
}
