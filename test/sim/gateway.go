package main

import (
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// client asks one host, its gateway, for one thing after the other. The gateway
// carries it to whom it takes for the leader, and repeats what has an unknown
// outcome under the same number (R46), until the client gives up.
type client struct {
	w       *world
	group   *group
	gateway *host
	op      *operation
	life    uint64 // of the gateway, when op was asked
	try     uint64 // counts tries: an answer to an earlier one is not heard
	target  *host
	conn    uint64 // that the try was sent on
	term    id.Term
	since   time.Duration // of the try
}

const (
	clientPatience = 20 * time.Second // maxRetryWaitTime
	tryPatience    = time.Second      // of one try, the frame of which may be lost
)

// startClients lets n clients work on the registers of each group, while there is
// load.
func (w *world) startClients(n int) {
	for _, g := range w.groups {
		for range n {
			c := &client{w: w, group: g, gateway: w.hosts[w.pick(len(w.hosts))]}
			w.after(w.between(0, 100*time.Millisecond), c.work)
		}
	}
}

// work is one look of the client every few milliseconds: it asks, watches over a
// try, or gives up.
func (c *client) work() {
	w := c.w
	w.after(w.between(2*time.Millisecond, 12*time.Millisecond), c.work)
	switch h := c.gateway; {
	case h.removed || h.dir.oldCopy:
		c.op, c.gateway = nil, w.hosts[w.pick(len(w.hosts))]
	case c.op == nil && w.load.on && !c.group.dropped && h.up && !h.paused && w.chance(0.4):
		c.ask()
	case c.op == nil:
	case c.life != h.life || w.now-c.op.start > clientPatience:
		c.op = nil // its outcome stays unknown
	case !h.paused && c.broken():
		c.send()
	}
}

// ask begins an operation.
func (c *client) ask() {
	w := c.w
	c.life = c.gateway.life
	c.op = &operation{start: w.now, register: uint8(w.pick(registersOfGroup)), read: w.chance(0.5)}
	c.group.history = append(c.group.history, c.op)
	if !c.op.read {
		w.load.value++
		c.op.value = w.load.value
		c.gateway.sequence++
		c.op.who = statementID{c.gateway.dir.starts.Nonce, c.gateway.sequence}
	}
	c.send()
}

// broken reports whether a try must be abandoned: its connection is gone,
// another leader or term is seen, or it has taken too long.
func (c *client) broken() bool {
	if c.target == nil || c.w.now-c.since > tryPatience {
		return true
	}
	if s, ok := c.gateway.view(c.group.id); ok && s.Term != c.term {
		return true
	}
	return c.target != c.gateway && c.w.net.path(&c.gateway.box, &c.target.box).conn != c.conn
}

// send tries once: with the leader that the gateway sees, else with anybody.
func (c *client) send() {
	w, h := c.w, c.gateway
	c.try++
	c.target, c.since, c.term = nil, w.now, 0
	s, _ := h.view(c.group.id)
	c.term = s.Term
	if s.Leader.IsZero() || s.Leader == h.uuid {
		c.target = w.hosts[w.pick(len(w.hosts))]
		if s.Leader == h.uuid {
			c.target = h
		}
	} else if b := w.net.home(&h.box, s.Leader); b != nil {
		c.target = w.hostAt(b)
	}
	op, try, target := c.op, c.try, c.target
	if target == nil {
		return
	}
	if target == h {
		h.serve(c.group, op, func(ok bool, value uint64) { c.answered(op, try, ok, value) })
		return
	}
	c.conn = w.net.path(&h.box, &target.box).conn
	w.net.send(&h.box, &target.box, peer.Bulk, func() {
		target.serve(c.group, op, func(ok bool, value uint64) {
			w.net.send(&target.box, &h.box, peer.Bulk, func() { c.answered(op, try, ok, value) })
		})
	})
}

// answered takes the answer to a try.
func (c *client) answered(op *operation, try uint64, ok bool, value uint64) {
	if c.op != op || c.try != try || c.gateway.life != c.life || c.gateway.paused {
		return
	}
	if !ok {
		c.target = nil // again, at the next look
		return
	}
	op.done, op.finish, op.result = true, c.w.now, value
	c.op = nil
}

// serve carries an operation out on the host that leads, or refuses. A frozen
// process does so when it goes on: it may be asked twice then.
func (h *host) serve(g *group, op *operation, answer func(ok bool, value uint64)) {
	if h.paused {
		h.later(10*time.Millisecond, func() { h.serve(g, op, answer) })
		return
	}
	r := h.replicas[g.id]
	if !h.up || r == nil || !r.leads {
		answer(false, 0)
		return
	}
	q := h.w.newRequest(h, g)
	q.answer = answer
	if op.read {
		q.read, q.floor, q.register = true, g.acked, op.register
		h.post(consensus.Read{Group: g.id, Ticket: q.ticket})
		return
	}
	h.post(consensus.Propose{Group: g.id, Tickets: []uint64{q.ticket}, Data: [][]byte{r.stamped(op.who, op.register, op.value)}})
}

// reading is a read that waits until its index is applied.
type reading struct {
	index id.Index
	q     *request
}

// serveReads answers what waited for the entries that are applied now.
func (r *replica) serveReads() {
	kept := r.readings[:0]
	for _, x := range r.readings {
		if x.index > r.applied {
			kept = append(kept, x)
			continue
		}
		x.q.answer(true, r.state.registers[x.q.register].last())
	}
	r.readings = kept
}
