package main

import (
	"strconv"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// load is what clients do: every interval a write, and now and then a read, at
// every host that thinks it leads, so that a deposed leader is asked too.
type load struct {
	every   time.Duration
	batch   int     // writes at once
	reads   float64 // chance of a read beside a write
	astray  float64 // chance that a read goes to any host at all
	bytes   int     // of a write, at least those of a statement
	on      bool
	value   uint64
	ticket  uint64
	refused int
	issued  int
}

// request is one thing that a client waits for.
type request struct {
	host   *host
	group  *group
	ticket uint64
	read   bool
	floor  id.Index // a read: the highest entry acknowledged before it was asked
	term   id.Term  // a write: where it was accepted
	index  id.Index
	onDone func(err error) // of the manager's requests

	fetch    *fetch                       // of a host that wants a copy
	register uint8                        // of a client's read
	answer   func(ok bool, result uint64) // of a client's operation: once, or never
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// start lets clients work from now on.
func (w *world) startLoad() {
	if w.load.on {
		return
	}
	w.load.on = true
	w.loadLater()
}

func (w *world) loadLater() {
	l := &w.load
	w.after(w.between(l.every/2, l.every*3/2), func() {
		if !l.on {
			return
		}
		for _, g := range w.groups {
			if !g.dropped {
				w.work(g)
			}
		}
		w.loadLater()
	})
}

// work is one round of the clients of a group.
func (w *world) work(g *group) {
	for _, h := range w.hosts {
		r := h.replicas[g.id]
		if !h.up || r == nil {
			continue
		}
		if r.leads {
			w.writeTo(h, g, w.load.batch)
		}
		if r.leads && w.chance(w.load.reads) || w.chance(w.load.astray) {
			w.readFrom(h, g)
		}
	}
}

func (w *world) newRequest(h *host, g *group) *request {
	w.load.ticket++
	q := &request{host: h, group: g, ticket: w.load.ticket}
	h.tickets[q.ticket] = q
	return q
}

func (w *world) writeTo(h *host, g *group, n int) {
	e := consensus.Propose{Group: g.id}
	for range n {
		w.load.value++
		w.load.issued++
		e.Tickets = append(e.Tickets, w.newRequest(h, g).ticket)
		e.Data = append(e.Data, h.replicas[g.id].stamped(statementID{}, 0, w.load.value))
	}
	h.post(e)
}

func (w *world) readFrom(h *host, g *group) {
	q := w.newRequest(h, g)
	q.read, q.floor = true, g.acked
	h.post(consensus.Read{Group: g.id, Ticket: q.ticket})
}

// answered hands the one answer of a ticket to whoever waits for it.
func (h *host) answered(ticket uint64, then func(*request)) {
	q := h.tickets[ticket]
	if q == nil {
		h.w.fail("face", "%s: second answer to ticket %d", h.name, ticket)
	}
	delete(h.tickets, ticket)
	then(q)
}

func (q *request) refused(err error) {
	q.host.w.load.refused++
	if q.onDone != nil {
		q.onDone(err)
	}
	if q.answer != nil {
		q.answer(false, 0)
	}
}

func (q *request) done() {
	if q.onDone != nil {
		q.onDone(nil)
	}
}

// lost is what becomes of an entry in the place of which another stands.
func (q *request) lost() {
	if q.answer != nil {
		q.answer(false, 0)
	}
}

// accepted notes where the leader put a write.
func (h *host) accepted(e consensus.Accepted) {
	h.answered(e.Ticket, func(q *request) {
		if q.onDone != nil {
			q.onDone(nil)
			return
		}
		q.index, q.term = e.Index, e.Term
		r := h.replicas[e.Group]
		if r == nil {
			return
		}
		r.pending[e.Index] = q
	})
}

// outcome is what a client learns when its entry, or another in its place, is
// applied on the host that it asked.
func (g *group) outcome(r *replica, q *request, x consensus.Entry, before id.Index) {
	if x.Term != q.term {
		q.lost()
		return
	}
	g.checkAck(r, x, before)
	g.acks++
	g.acked = max(g.acked, x.Index)
	now := g.w.now
	g.gap = max(g.gap, now-max(g.ackedAt, g.gapSince))
	g.ackedAt = now
}

// readReady checks I8: a read sees at least what was acknowledged before it was
// asked.
func (h *host) readReady(q *request, e consensus.ReadReady) {
	q.group.reads++
	if e.Index < q.floor {
		h.w.fail("I8", "%s: a read of group %d may be served at %d, entry %d was acknowledged before it was asked",
			h.name, e.Group, e.Index, q.floor)
	}
	if r := h.replicas[e.Group]; r != nil && q.answer != nil {
		r.readings = append(r.readings, reading{e.Index, q})
		r.serveReads()
	}
}
