package main

import (
	"errors"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Copies between hosts (R3): a host asks another for the state of a group, reads
// it piece by piece, and has it on its disk before it tells its machine.

const (
	pieceWait = 500 * time.Millisecond // for one piece
	openFor   = 2 * time.Second        // a capture, after it was read last
)

// captured is what a host has opened for another to read.
type captured struct {
	replica *replica
	life    uint64
	by      id.UUID
	image   consensus.Image
	state   state
	readAt  time.Duration
	closed  bool
}

// fetch is a copy on its way.
type fetch struct {
	to     *replica
	life   uint64
	order  consensus.Fetch
	from   *host
	pieces int // still to come
	heard  time.Duration
	source *captured
	ended  bool
}

var errBroken = errors.New("connection lost")

// fetch begins to copy.
func (h *host) fetch(e consensus.Fetch) {
	f := &fetch{to: h.replicas[e.Group], life: h.life, order: e, pieces: 1 + h.w.pick(12), heard: h.w.now}
	if b := h.w.net.home(&h.box, e.From); b != nil {
		f.from = h.w.hostAt(b)
	}
	if f.from == nil || f.to == nil {
		h.w.fail("face", "%s: fetch of group %d from a directory that never was: %s", h.name, e.Group, e.From)
	}
	h.w.copiesBegun++
	f.watch()
	f.call(func() { f.from.askCopy(f) })
}

// call carries a request to the host that is copied.
func (f *fetch) call(do func()) {
	h := f.to.host
	h.w.net.send(&h.box, &f.from.box, peer.Bulk, do)
}

// reply carries an answer back.
func (f *fetch) reply(do func()) {
	h := f.to.host
	h.w.net.send(&f.from.box, &h.box, peer.Bulk, func() {
		if h.life == f.life && !f.ended && !h.paused {
			f.heard = h.w.now
			do()
		}
	})
}

// watch ends a copy of which nothing is heard any more.
func (f *fetch) watch() {
	h := f.to.host
	h.later(20*time.Millisecond, func() {
		switch {
		case f.ended:
		case h.w.now-f.heard > pieceWait && !h.paused:
			f.end(consensus.Image{}, errBroken)
		default:
			f.watch()
		}
	})
}

// end tells the machine, once.
func (f *fetch) end(image consensus.Image, err error) {
	if f.ended {
		return
	}
	f.ended = true
	f.to.host.post(consensus.Fetched{Group: f.order.Group, Attempt: f.order.Attempt, Image: image, Err: err})
}

// askCopy hands the request to the machine of the host that is copied.
func (h *host) askCopy(f *fetch) {
	r := h.replicas[f.order.Group]
	if h.paused || r == nil {
		return
	}
	q := h.w.newRequest(h, r.group)
	q.onDone = func(err error) {
		if err != nil {
			f.reply(func() { f.end(consensus.Image{}, err) })
		}
	}
	q.fetch = f
	h.post(consensus.AskCopy{Group: f.order.Group, For: f.to.host.uuid, Above: f.order.Above, Ticket: q.ticket})
}

// capture opens the state for whoever asked, in the order of the apply worker.
func (r *replica) capture(e consensus.Capture) {
	r.host.answered(e.Ticket, func(q *request) {
		if r.applied < e.Image.Index {
			r.host.w.fail("face", "%s: a copy of group %d at entry %d is captured at %d", r.host.name, r.group.id, e.Image.Index, r.applied)
		}
		c := &captured{replica: r, life: r.host.life, by: e.For, image: e.Image, state: r.state.clone(), readAt: r.host.w.now}
		c.closeLater()
		f := q.fetch
		f.reply(func() {
			f.source = c
			f.next()
		})
	})
}

// closeLater lets the log behind a capture go once nobody reads it.
func (c *captured) closeLater() {
	h := c.replica.host
	h.later(openFor/4, func() {
		if h.w.now-c.readAt < openFor {
			c.closeLater()
			return
		}
		c.closed = true
		h.post(consensus.Release{Group: c.replica.group.id, For: c.by, Index: c.image.Index})
	})
}

// next asks for the next piece, or ends.
func (f *fetch) next() {
	h := f.to.host
	if f.pieces == 0 {
		f.finish()
		return
	}
	h.later(h.w.between(h.w.pieceTakes/15, h.w.pieceTakes), func() {
		if f.ended {
			return
		}
		f.call(func() {
			c := f.source
			if f.from.paused || f.from.life != c.life {
				return
			}
			if c.closed {
				f.reply(func() { f.end(consensus.Image{}, errBroken) })
				return
			}
			c.readAt = h.w.now
			f.reply(func() {
				f.pieces--
				f.next()
			})
		})
	})
}

// finish makes the copy durable beside the state, then tells the machine.
func (f *fetch) finish() {
	h := f.to.host
	h.later(h.store.slow+h.w.between(100*time.Microsecond, 5*time.Millisecond), func() {
		if f.ended {
			return
		}
		if h.paused {
			f.finish()
			return
		}
		f.to.copies[f.source.image.Index] = f.source.state.clone()
		f.end(f.source.image, nil)
	})
}

// install makes a finished copy the state.
func (r *replica) install(e consensus.Install) {
	copied, ok := r.copies[e.Index]
	if !ok {
		r.host.w.fail("R3", "%s installs a copy of group %d at entry %d that it does not have", r.host.name, r.group.id, e.Index)
	}
	r.applied = e.Index
	r.durable, r.durableState, r.recent = e.Index, copied.clone(), nil
	r.load()
	clear(r.copies)
	r.host.w.copiesInstalled++
	for i, q := range r.pending {
		if i <= e.Index { // what became of it is not known here
			delete(r.pending, i)
			q.lost()
		}
	}
}

// choose is what a state machine does when it is opened: the log's mark says
// whether a copy is the state.
func (r *replica) choose(mark id.Index) {
	if copied, ok := r.copies[mark]; ok {
		r.durable, r.durableState, r.recent = mark, copied.clone(), nil
	}
	clear(r.copies)
}
