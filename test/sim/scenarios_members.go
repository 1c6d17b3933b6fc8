package main

import (
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

func members() []scenario {
	return []scenario{
		{"replace-dead-follower", pair(func(w *world) {
			f := w.follow()
			f.powerOff()
			w.run(300 * ms)
			w.replaceAndKill(f)
		})},
		{"replace-dead-leader", pair(func(w *world) {
			l := w.lead()
			l.powerOff()
			w.run(1500 * ms)
			w.replaceAndKill(l)
		})},
		{"replace-witness-then-death", pair(func(w *world) {
			g, old := w.groups[0], w.arb()
			old.powerOff()
			w.run(sec)
			fresh := w.newWitness("V")
			w.run(100 * ms)
			w.fault()
			t := g.replaceWitness(g.witnessSeat(), fresh)
			if !w.until(5*sec, t.done) {
				w.fail("I9", "the witness is not replaced within 5 s")
			}
			w.wantGap(noise)
			w.wantShut(6 * sec)
			w.fault()
			w.hosts[w.pick(2)].powerOff()
			w.run(3 * sec)
			w.wantGap(electionGap)
		})},
		{"growth", growth},
		{"birth", birth},
		{"alone", func(w *world) { // R39: a lone leader and its reads
			w.cell(1, 1)
			w.load.astray, w.load.every = 1, 2*ms
			for range 6 {
				w.run(w.between(100*ms, 600*ms))
				w.hosts[0].store.slow = w.between(0, 50*ms) // room to read before the first entry is applied
				w.hosts[0].die(w.chance(0.5))
				w.run(w.between(10*ms, 100*ms))
				w.hosts[0].start()
				w.wantService(2500 * ms)
			}
		}},
		{"lost-replica", lostReplica},
		{"led-by-who-leaves", pair(ledByWhoLeaves)},
		{"slow-newcomer", pair(slowNewcomer)},
		{"together", func(w *world) { // R44
			w.cell(2, 3)
			w.load.every = 100 * ms
			f := w.follow()
			for _, g := range w.groups[1:] {
				w.lead().post(consensus.Transfer{Group: g.id, To: f.replicas[g.id].id})
			}
			w.run(20 * sec)
			for _, g := range w.groups {
				if g.leader() != w.lead() {
					w.fail("R44", "after 20 s of calm group %d is led by %v, the mnode by %v", g.id, g.leader(), w.lead())
				}
			}
		}},
	}
}

// lostReplica is R40: a host has lost a replica after it was formed, and an order
// to create it comes late. Nobody will say again that it is formed, so it may not
// make a quorum with an arbitrator that was told nothing yet.
func lostReplica(w *world) {
	w.cell(2, 2)
	g, f := w.groups[1], w.follow()
	acks := g.acks
	for _, h := range w.hosts {
		h.powerOff()
	}
	f.store.forget(g.id)
	delete(f.replicas, g.id)
	f.start()
	w.run(300 * ms)
	f.create(g, g.seatOf(f), false)
	w.run(3 * sec)
	if g.acks > acks {
		w.fail("R40", "group 2 goes on with a replica that was made again")
	}
}

// ledByWhoLeaves is R10b: in the middle of a replacement the leader dies and the
// replica that is to leave is elected. What it tells the witness must be on
// somebody who stays, or the others could never win its vote. Nor may it end the
// change (R22): it hands over.
func ledByWhoLeaves(w *world) {
	g, l, f := w.groups[0], w.lead(), w.follow()
	c := w.newHost("C")
	w.run(100 * ms)
	r := g.seat(&c.box)
	t := w.begin("replace", append(g.admit(c, r), g.exchange([]id.Replica{r}, f.replicas[1].id), g.everyoneKnows)...)
	w.until(5*sec, func() bool { return t.at == 3 }) // caught up
	if !w.closely(5*sec, func() bool { return g.current().joint() }) {
		return // it was over between two looks
	}
	w.net.cut(&l.box, &f.box) // before it tells anybody that the change is to be left
	w.net.cut(&l.box, &c.box)
	w.net.cutBoth(&c.box, &w.arb().box) // it votes, and can't win
	w.run(2 * ms)
	l.powerOff()
	w.closely(3*sec, func() bool { _, voted := g.votes[ballot{r, g.newest + 1}]; return voted })
	if w.chance(0.5) {
		w.net.cut(&f.box, &c.box) // its vote arrives, what it would hear next does not
	}
	w.run(400 * ms)
	f.powerOff()
	w.heal(f)
	w.wantService(3 * sec) // without the one who leaves
	f.start()
	if !w.until(10*sec, t.done) {
		w.fail("I9", "the replacement is not done within 10 s")
	}
}

// slowNewcomer makes a learner a voter right after a pulse has told the witness
// more than its slow disk holds.
func slowNewcomer(w *world) {
	g, f := w.groups[0], w.follow()
	c := w.newHost("C")
	c.store.slow = 250 * ms
	w.run(100 * ms)
	r, a := g.seat(&c.box), w.arb()
	t := w.begin("join", g.admit(c, r)...)
	if !w.until(5*sec, t.done) {
		w.fail("I9", "the new host has not caught up within 5 s")
	}
	was := a.last(1, g.witnessSeat())
	w.until(6*sec, func() bool { return a.last(1, g.witnessSeat()) != was })
	t = w.begin("exchange", g.exchange([]id.Replica{r}, f.replicas[1].id))
	if !w.until(5*sec, t.done) {
		w.fail("I9", "the new host is no voter within 5 s")
	}
	w.heal()
	w.wantShut(8 * sec)
}

// machineLeads reports whether h leads a group in Raft, ready or not.
func (h *host) machineLeads(gid id.Group) bool {
	s, _ := h.view(gid)
	return s.Feed != ""
}

// seatOf is the replica id of a host.
func (g *group) seatOf(h *host) id.Replica {
	for r, s := range g.seats {
		if s.uuid == h.uuid {
			return r
		}
	}
	return 0
}

// replaceAndKill replaces a dead data host, with a leader that dies in the
// middle, and then kills the leader.
func (w *world) replaceAndKill(dead *host) {
	g := w.groups[0]
	old := dead.replicas[1].id
	fresh := w.newHost("C")
	w.run(100 * ms)
	t := g.replaceData(old, fresh)
	if w.chance(0.5) {
		w.run(w.between(50*ms, 500*ms))
		l := w.lead()
		l.powerOff()
		w.run(w.between(50*ms, 500*ms))
		l.start()
	}
	if !w.until(10*sec, t.done) {
		w.dump()
		w.fail("I9", "the dead host is not replaced within 10 s")
	}
	w.wantShut(6 * sec)
	l := w.lead()
	w.fault()
	l.powerOff()
	w.run(3 * sec)
	w.wantGap(electionGap)
}

// growth is R39: the mnode's group grows from one host to two and a witness.
func growth(w *world) {
	w.cell(1, 1)
	g, a := w.groups[0], w.hosts[0]
	b, arb := w.newHost("B"), w.newWitness("W")
	w.run(100 * ms)
	rb, rw := g.seat(&b.box), g.seat(&arb.box)
	steps := append(g.admit(b, rb), g.enrolled(rw), g.exchange([]id.Replica{rb, rw}), g.everyoneKnows)
	t := w.begin("growth", steps...)
	c := &chaos{w: w, on: true}
	for end := w.now + 2*sec; w.now < end && w.chance(0.8); w.run(w.between(50*ms, 400*ms)) {
		m := c.victim()
		m.powerOff()
		c.later(w.between(20*ms, 400*ms), m.start)
	}
	c.on = false
	w.heal()
	if !w.until(10*sec, t.done) {
		w.dump()
		w.fail("I9", "the group has not grown within 10 s after healing")
	}
	w.wantService(2 * sec)
	w.wantShut(6 * sec)
	w.fault()
	if w.chance(0.5) {
		a.powerOff()
	} else {
		b.powerOff()
	}
	w.run(3 * sec)
	w.wantGap(electionGap)
}

// four is an even group of four. When its leader dies several may campaign, and
// a split vote costs another election timeout: the terms that have passed tell.
func four() []scenario {
	kill := func(name string, gap time.Duration, changes, followers int, leader bool) scenario {
		return scenario{name, func(w *world) {
			w.cell(4, 1)
			l, left, term := w.lead(), followers, w.groups[0].lastTerm()
			w.fault()
			for _, h := range w.hosts {
				if h != l && left > 0 {
					h.powerOff()
					left--
				}
			}
			if leader {
				l.powerOff()
			}
			w.run(3 * sec)
			if elections := w.groups[0].lastTerm() - term; elections > 1 {
				gap += time.Duration(elections-1) * electionGap
			}
			w.wantGap(gap)
			w.wantChanges(changes)
		}}
	}
	return []scenario{
		kill("four-one-dies", noise, 0, 1, false),
		kill("four-leader-dies", electionGap, 1, 0, true),
		kill("four-two-die", silentGap, 0, 2, false),
		kill("four-leader-and-one-die", electionGap+200*ms, 1, 1, true),
	}
}
