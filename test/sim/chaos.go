package main

import (
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// chaos is every fault at any moment: 8 to 12 s of it on all members, then
// everything heals and must serve; then one member dies for good, which must be
// survived at once, and the others go through more of it; then they heal, with
// the dead one still dead: healing everybody hides the holes that matter.
type chaos struct {
	w       *world
	spared  mortal // dead for good: no fault starts it
	on      bool
	end     time.Duration // of the storm
	turn    func() bool   // membership: begins a change, or reports that it can't
	changes int
}

func chaosOf(data int, membership bool) func(*world) {
	return func(w *world) {
		groups := 1
		if data == 2 && !membership && w.chance(0.3) {
			groups = 2
		}
		w.cell(data, groups)
		w.load.every = w.between(10*ms, 60*ms)
		if w.chance(0.5) {
			w.startClients(3)
		}
		if w.chance(0.2) {
			w.load.batch = 1 + w.pick(8)
		}
		c := &chaos{w: w}
		if membership {
			c.turn = c.changeSomebody
		}
		c.storm(w.between(6*sec, 12*sec))
		c.calm()
		if membership {
			w.until(20*sec, func() bool { return c.changes == 0 })
			if c.changes > 0 {
				w.dump()
				w.fail("I9", "a change of membership is not done within 20 s after healing")
			}
			w.wantShut(6 * sec)
		}
		c.afterDeath(data)
	}
}

// calm heals everybody but the one who is dead for good, and expects service.
func (c *chaos) calm() {
	if c.spared != nil {
		c.w.heal(c.spared)
		c.w.wantService(2 * sec)
		return
	}
	c.w.heal()
	c.w.wantService(2 * sec)
	c.w.wantShut(6 * sec)
}

// afterDeath kills one member for good and goes on with the others.
func (c *chaos) afterDeath(data int) {
	w := c.w
	all := w.everyone()
	c.spared = all[w.pick(len(all))]
	w.tracef("%s dies for good", c.spared.addr().name)
	if w.chance(0.5) {
		c.spared.kill()
	} else {
		c.spared.powerOff()
	}
	w.wantService(2 * sec)
	c.turn = nil
	c.storm(w.between(2*sec, 5*sec))
	c.calm()
	c.spared.start()
	c.spared = nil
	w.wantShut(8 * sec)
}

// storm does something bad every 50 to 700 ms for d.
func (c *chaos) storm(d time.Duration) {
	w := c.w
	c.on, c.end = true, w.now+d
	w.after(d, func() { c.on = false })
	for w.now < c.end {
		c.strike()
		w.run(min(w.between(50*ms, 700*ms), c.end-w.now))
	}
}

// victim is somebody who is not dead for good.
func (c *chaos) victim() mortal {
	all := c.w.everyone()
	for {
		if m := all[c.w.pick(len(all))]; m != c.spared {
			return m
		}
	}
}

func (c *chaos) host() *host {
	for {
		if h, ok := c.victim().(*host); ok {
			return h
		}
		if h, ok := c.spared.(*host); ok && len(c.w.hosts) == 1 {
			return h
		}
	}
}

// later ends a fault, unless everything healed meanwhile.
func (c *chaos) later(d time.Duration, do func()) {
	c.w.after(d, func() {
		if c.on {
			do()
		}
	})
}

func (c *chaos) strike() {
	w := c.w
	switch n := w.pick(100); {
	case n < 22:
		m := c.victim()
		switch w.pick(3) {
		case 0:
			m.kill()
		case 1:
			m.powerOff()
		default:
			m.fuse(1 + w.pick(100))
		}
		c.later(w.between(20*ms, 2*sec), m.start)
	case n < 40:
		c.cutSomething()
	case n < 50:
		m := c.victim()
		m.pause()
		c.later(w.between(20*ms, 2*sec), m.resume)
	case n < 60:
		h := c.host()
		if w.chance(0.5) {
			h.hang(w.between(50*ms, 2500*ms))
			break
		}
		h.store.slow = w.between(ms, 100*ms)
		c.later(w.between(100*ms, 2*sec), func() { h.store.slow = 0 })
	case n < 64 && len(w.arbs) > 0:
		w.arb().slow = w.between(ms, 200*ms)
		c.later(w.between(100*ms, 2*sec), func() { w.arb().slow = 0 })
	case n < 70:
		w.net.loss = w.rng.Float64() * 0.3
		if w.chance(0.5) {
			w.net.slow = w.between(0, 50*ms)
		}
		c.later(w.between(100*ms, 2*sec), func() { w.net.loss, w.net.slow = 0, 0 })
	case n < 76:
		c.transfer()
	case n < 80:
		c.falseAlarm()
	case n < 83:
		h := c.host()
		if h.up && !h.paused && w.now+300*ms < c.end { // gone before the storm is over
			h.leave()
			c.later(w.between(300*ms, 2*sec), h.start)
		}
	case n < 87:
		c.blackout()
	case n < 88 && w.skewed:
		h := c.host()
		h.skew = w.between(-time.Hour, time.Hour)
		w.tracef("the clock of %s steps to %v", h.name, h.skew)
	case n < 90:
		was := w.load.batch
		w.load.batch = 1 + w.pick(50)
		w.after(w.between(50*ms, 500*ms), func() { w.load.batch = was })
	default:
		if c.turn == nil || c.changes > 0 || !c.turn() {
			w.run(w.between(0, 500*ms))
		}
	}
}

// cutSomething cuts one pair or one member, both ways or one.
func (c *chaos) cutSomething() {
	w := c.w
	a, d := c.victim().addr(), w.between(20*ms, 2500*ms)
	if w.chance(0.2) {
		w.isolate(a)
		c.later(d, func() {
			for _, o := range w.net.boxes {
				w.net.healBoth(a, o)
			}
		})
		return
	}
	b := w.net.boxes[w.pick(len(w.net.boxes))]
	if a == b {
		return
	}
	switch w.pick(3) {
	case 0:
		w.net.cut(a, b)
	case 1:
		w.net.cut(b, a)
	default:
		w.net.cutBoth(a, b)
	}
	c.later(d, func() { w.net.healBoth(a, b) })
}

func (c *chaos) transfer() {
	for _, g := range c.w.groups {
		l := g.leader()
		if l == nil {
			continue
		}
		for _, r := range g.current().in {
			if h := g.host(r); h != nil && h != l && c.w.chance(0.5) {
				l.post(consensus.Transfer{Group: g.id, To: r})
				break
			}
		}
	}
}

func (c *chaos) falseAlarm() {
	h := c.host()
	for _, o := range c.w.hosts {
		if o != h && h.up {
			c.w.alarm(h, o)
			return
		}
	}
}

// alarm has a host believe that another's process is gone while it lives.
func (w *world) alarm(h, other *host) {
	if p := w.net.path(&h.box, &other.box); p.conn != 0 {
		p.conn = 0
		h.post(consensus.Link{Peer: other.uuid, State: consensus.LinkRefused})
		w.net.dialSoon(&h.box, &other.box)
	}
}

// blackout takes the power from all data hosts at once.
func (c *chaos) blackout() {
	w := c.w
	for _, h := range w.hosts {
		if mortal(h) != c.spared && h.up {
			h.powerOff()
			c.later(w.between(20*ms, time.Second), h.start)
		}
	}
}

// changeSomebody begins a change of membership: a data host or the arbitrator
// is replaced by a new one, dead or alive.
func (c *chaos) changeSomebody() bool {
	w, g := c.w, c.w.groups[0]
	if len(w.net.boxes) > 9 || g.current().joint() {
		return false
	}
	in := g.current().in
	old := in[w.pick(len(in))]
	a, h := g.arb(old), g.host(old)
	switch {
	case a != nil:
		fresh := w.newWitness(string(rune('W' - len(w.arbs))))
		g.replaceWitness(old, fresh).ended = func() { c.swap(a) }
	case h != nil:
		fresh := w.newHost(string(rune('A' + len(w.hosts))))
		g.replaceData(old, fresh).ended = func() { c.changes-- }
		if w.chance(0.3) {
			h.powerOff()
		}
	default:
		return false
	}
	c.changes++
	return true
}

// swap ends the arbitrator that was replaced.
func (c *chaos) swap(old *witness) {
	old.kill()
	old.removed = true
	c.changes--
	for i, a := range c.w.arbs { // the one in office is first
		if !a.removed {
			c.w.arbs[0], c.w.arbs[i] = c.w.arbs[i], c.w.arbs[0]
			break
		}
	}
}

// birth is R40 with everything late, twice, and hosts that die in between.
func birth(w *world) {
	w.newHost("A")
	w.newHost("B")
	w.newWitness("W")
	w.run(100 * ms)
	w.found(id.Mnode, w.hosts, w.arbs)
	w.load = lightLoad()
	w.startLoad()
	w.wantService(3 * sec)
	for n := range 3 {
		w.bear(id.Group(n + 2))
	}
	w.heal()
	w.wantService(2 * sec)
	w.wantShut(6 * sec)
}

// bear makes a vgroup the way the mnode's leader does: what it knows about the
// group is creating, then formed; orders are repeated until they are confirmed.
func (w *world) bear(gid id.Group) {
	g := w.newGroup(gid)
	g.dropped = true // no client knows it yet
	var voters []id.Replica
	for _, b := range []*box{&w.hosts[0].box, &w.hosts[1].box, &w.arb().box} {
		r := g.seat(b)
		voters = append(voters, r)
		g.founding = append(g.founding, g.member(r))
	}
	g.found(voters...)
	formed := false
	confirmed := map[*host]bool{}
	order := func(h *host, r id.Replica) {
		w.after(w.between(0, 300*ms), func() {
			switch {
			case !h.up || h.replicas[gid] != nil:
			case formed || confirmed[h]:
				w.tracef("%s refuses to create group %d again", h.name, gid) // R40
			default:
				h.create(g, r, false)
			}
		})
	}
	create := func() bool {
		for i, h := range w.hosts {
			if h.store.durable[gid] != nil {
				confirmed[h] = true
			} else if !confirmed[h] {
				order(h, voters[i])
			}
		}
		return len(confirmed) == 2
	}
	form := func() bool {
		formed = true
		all := true
		for _, h := range w.hosts {
			s, there := h.view(gid)
			if h.up && there && !s.Formed {
				w.after(w.between(0, 200*ms), func() { h.post(consensus.Form{Group: gid}) })
			}
			all = all && there && s.Formed
		}
		return all
	}
	t := w.begin("birth of group "+itoa(uint64(gid)), g.enrolledBy(w.groups[0], voters[2]), create, form)
	c := &chaos{w: w, on: true}
	for end := w.now + 2*sec; w.now < end; w.run(w.between(50*ms, 500*ms)) {
		if h := c.host(); w.chance(0.6) {
			h.powerOff()
			c.later(w.between(20*ms, 400*ms), h.start)
		}
	}
	w.heal()
	if !w.until(10*sec, t.done) {
		w.dump()
		w.fail("I9", "group %d is not born within 10 s after healing", gid)
	}
	g.dropped = false
	g.gapSince = w.now
}
