package main

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/arbitrator"
	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// recoveries are the stories of R35: two of three are lost, the last one goes on
// alone by force, and the lost were not lost.
func recoveries() []scenario {
	return []scenario{
		{"given-up", pair(func(w *world) { givenUp(w, false) })},
		{"given-up-with-the-arbitrator", pair(func(w *world) { givenUp(w, true) })},
	}
}

// givenUp loses the leader while the other host lags, or serves already. It then
// goes on alone, while the given-up host and the arbitrator come and go with what
// they had: there is one master, and nothing that it acknowledges is lost, also
// when a new host has come and it is lost itself. With witnessLost the
// arbitrator's directory is gone; otherwise it retires its replica first.
//
// A real survivor does not even let the given-up directory in; this one does.
func givenUp(w *world, witnessLost bool) {
	g, l, f, a := w.groups[0], w.lead(), w.follow(), w.arb()
	if w.chance(0.7) {
		w.stop(f)
		w.run(w.between(0, 3*sec))
	}
	w.stop(l)
	if w.chance(0.5) {
		f.start()
		w.run(w.between(0, 3*sec))
	}
	w.stop(f)
	var record *wal.Position
	if witnessLost {
		w.stop(a)
		a.wipe()
	} else {
		at := a.last(g.id, g.witnessSeat())
		record = &at
		w.retire(a, f, g)
	}
	n := f.goOnAlone(g, record)
	acks := g.acks
	for _, m := range []mortal{f, l, a} {
		w.after(w.between(0, 2*sec), m.start)
	}
	w.run(2 * sec)
	w.wantService(3 * sec)
	w.comeAndGo(w.between(2*sec, 5*sec), f, l, a)
	w.heal()
	w.wantService(3 * sec)

	c := w.newHost("C")
	w.run(100 * ms)
	rc, ra := n.seat(&c.box), n.seat(&a.box)
	t := w.begin("join the survivor", append(n.admit(c, rc), n.enrolled(ra), n.exchange([]id.Replica{rc, ra}), n.everyoneKnows)...)
	if !w.until(10*sec, t.done) {
		w.dump()
		w.fail("I9", "no new host has joined the survivor within 10 s")
	}
	w.wantShut(6 * sec)
	w.fault()
	f.powerOff()
	w.run(3 * sec)
	w.wantGap(electionGap)
	if g.acks > acks || l.replicas[g.id].leads {
		w.fail("R35", "%s, which was given up, still leads", l.name)
	}
}

// comeAndGo kills, freezes and cuts some boxes for a while.
func (w *world) comeAndGo(d time.Duration, boxes ...mortal) {
	for end := w.now + d; w.now < end; w.run(w.between(50*ms, 500*ms)) {
		m, o := boxes[w.pick(len(boxes))], boxes[w.pick(len(boxes))]
		switch w.pick(4) {
		case 0:
			m.powerOff()
		case 1:
			m.kill()
		case 2:
			m.pause()
			w.after(w.between(20*ms, sec), m.resume)
		default:
			w.net.cutBoth(m.addr(), o.addr())
			w.after(w.between(20*ms, sec), func() { w.net.healBoth(m.addr(), o.addr()) })
		}
		w.after(w.between(20*ms, sec), m.start)
	}
}

// retire has the arbitrator retire its replica of a group, as tnode recover asks
// it to from a stopped host's directory.
func (w *world) retire(a *witness, by *host, g *group) {
	r := g.witnessSeat()
	key := arbitrator.Key{Cluster: cluster, Group: g.id, Replica: r}
	ask := []peer.Message{{Kind: peer.KindRetire, Group: g.id, To: r, Enroll: &peer.Enroll{Witness: a.uuid}}}
	if !w.until(2*sec, func() bool { a.receive(by.uuid, a.uuid, ask); return a.durable[key].Retired }) {
		w.fail("R35", "%s does not retire its replica within 2 s", a.name)
	}
}

// goOnAlone makes a stopped host the only member of a group with what its log
// holds, under a new id, and returns the group as the checker is to see it from
// now on: what others had beyond that is given up. The arbitrator's record, if
// there is one, tells how much that is.
func (h *host) goOnAlone(g *group, record *wal.Position) *group {
	w := h.w
	as := g.next + 1000 // as far above what is known to be given out as mnode goes
	var left consensus.Remains
	var op wal.Op
	h.store.must("recover", h.store.surgery(func(log realLog) error {
		all, err := consensus.ReadRemains(log)
		if err != nil {
			return err
		}
		left = all[slices.IndexFunc(all, func(r consensus.Remains) bool { return r.Group == g.id })]
		op = left.Only(as, h.uuid)
		return log.Append([]wal.Op{op})
	}))
	h.store.durable.apply(appendSteps(nil, &op))
	if record != nil {
		g.checkLoss(h, left, *record)
	}
	n := g.fork(h, as, op.Hard.Term)
	r := h.replicas[g.id]
	r.group, r.id = n, as
	w.tracef("%s goes on alone as replica %d, from entry %d", h.name, as, op.Hard.Commit)
	return n
}

// checkLoss compares what was acknowledged and is lost with what an operator is
// told before, from how far the arbitrator's record goes.
func (g *group) checkLoss(h *host, left consensus.Remains, record wal.Position) {
	log, lost := h.store.durable[g.id], id.Index(0)
	for i := id.Index(2); i <= g.acked; i++ {
		if !log.has(i, g.at(i).term) {
			lost++
		}
	}
	if _, most := left.Missing(record); lost > most {
		g.w.fail("R35", "%d acknowledged entries are lost with %s, at most %d were announced", lost, h.name, most)
	}
}

// fork returns the group as it goes on from what h's log holds: no leader and no
// vote of before counts any more, and no member but this one.
func (g *group) fork(h *host, as id.Replica, term id.Term) *group {
	s := h.store.durable[g.id]
	n := &group{
		w: g.w, id: g.id, seats: map[id.Replica]seat{as: {box: &h.box, uuid: h.uuid}}, next: as + 1, founding: g.founding, gapSince: g.w.now,
		leaders: map[id.Term]id.Replica{}, votes: map[ballot]id.Replica{}, openings: map[id.Term]int{},
		log: slices.Clone(g.log[:s.start.Index-1]),
	}
	for _, c := range g.configs {
		if c.at <= s.start.Index {
			n.configs = append(n.configs, c)
		}
	}
	for i := range s.entries {
		e, at := &s.entries[i], s.start.Index+1+id.Index(i)
		n.log = append(n.log, committed{*e, term - 1})
		if raftpb.EntryType(e.kind) == raftpb.EntryNormal {
			continue
		}
		c, err := n.current().change(at, e)
		if err != nil {
			g.w.fail("face", "group %d: membership entry %d: %v", g.id, at, err)
		}
		n.configs = append(n.configs, c)
	}
	g.w.groups[slices.Index(g.w.groups, g)] = n
	return n
}
