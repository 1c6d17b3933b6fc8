package main

import (
	"runtime/debug"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// host is one data host: the shell around a consensus.Machine. It turns effects
// into disk, wire and calls, slowly and in the order the real shell does, and
// holds no rule.
type host struct {
	box
	store    storage
	machine  *consensus.Machine // nil while the process is dead
	inbox    []consensus.Event
	handled  []consensus.Event // an earlier inbox, to be used again
	stepping bool              // a step is set
	stepNow  func()            // step
	replicas map[id.Group]*replica
	tickets  map[uint64]*request
	cpu      time.Duration // longest wait for the processor
	lookAt   time.Duration // when the checker looks at it again
	mayFail  bool          // its disk was tampered with: groups may be faulty
	removed  bool          // wiped or retired: never started again

	dir  directory
	seen map[id.UUID]peer.Sighting // what this life knows of others, kept now and then

	skew     time.Duration // of the clock on its wall
	sequence uint64        // of the statements that it carries for clients

	tickOwed bool          // ticks passed while it was frozen: one of them comes (pitfall 6)
	pausedAt time.Duration // when it froze last
	frozen   time.Duration // for how long in all, without the present
}

// newHost adds a data host with an empty directory.
func (w *world) newHost(name string) *host {
	h := w.vacant(name)
	h.start()
	return h
}

// vacant adds a data host that was not started yet.
func (w *world) vacant(name string) *host {
	h := &host{box: w.box(name, false), replicas: map[id.Group]*replica{}, cpu: 15 * time.Microsecond}
	h.stepNow = h.step
	h.dir.kept = map[id.UUID]peer.Sighting{}
	h.linked = func(to *box, state consensus.LinkState) {
		if state != consensus.LinkUp {
			h.keepSightings()
		}
		h.post(consensus.Link{Peer: to.uuid, State: state})
	}
	h.offer = func() peer.Offer { return h.dir.starts }
	h.judges, h.refusedBy, h.heardOf = h.judge, h.refused, h.heardSequence
	if w.skewed {
		h.skew = w.between(-time.Hour, time.Hour)
	}
	h.store.init(h)
	w.hosts = append(w.hosts, h)
	w.net.add(&h.box)
	return h
}

// start starts the process over whatever the disk holds.
func (h *host) start() {
	if h.up || h.removed || h.dir.oldCopy {
		return
	}
	h.life++
	h.up, h.paused = true, false
	h.inbox, h.stepping, h.tickOwed = nil, false, false
	h.tickets = map[uint64]*request{}
	if !h.store.open() {
		h.w.after(50*time.Millisecond, h.start)
		return
	}
	h.begin()
	h.machine = consensus.NewMachine(h.w.conf, h.uuid, h.store.log)
	h.w.tracef("%s starts", h.name)
	for _, s := range h.store.log.Groups() {
		r := h.replicas[s.Group]
		if r == nil {
			h.w.fail("disk", "%s: group %d appeared from nowhere", h.name, s.Group)
		}
		r.restart(s.Mark)
		h.later(h.w.between(time.Millisecond, 20*time.Millisecond), func() {
			h.post(consensus.Attach{Group: s.Group})
		})
	}
	for _, g := range h.w.groups { // created, and not on disk: the create was lost
		if _, there := h.replicas[g.id]; there && !h.store.holds(g.id) {
			delete(h.replicas, g.id)
		}
	}
	h.later(h.w.between(0, h.w.conf.Tick), h.tick)
	h.dialAll()
}

func (h *host) tick() {
	h.later(h.w.conf.Tick, h.tick)
	if h.paused {
		h.tickOwed = true
		return
	}
	h.post(consensus.Tick{})
}

// post hands an event to the machine, with whatever else comes within the next
// microseconds.
func (h *host) post(e consensus.Event) {
	if !h.up {
		return
	}
	h.inbox = append(h.inbox, e)
	if !h.stepping && !h.paused {
		h.stepping = true
		h.later(h.w.between(time.Microsecond, h.cpu), h.stepNow)
	}
}

func (h *host) step() {
	h.stepping = false
	if h.paused || len(h.inbox) == 0 {
		return
	}
	events := h.inbox
	h.inbox = h.handled[:0]
	effects := h.stepMachine(events)
	clear(events)
	h.handled = events
	h.foresee(effects)
	for _, e := range effects {
		h.act(e)
		if !h.up {
			return
		}
	}
	h.w.looked(h)
}

// foresee notes whose feed changes in this step: what such a leader sends in it
// may come from before the change.
func (h *host) foresee(effects []consensus.Effect) {
	for _, e := range effects {
		if e, ok := e.(consensus.Report); ok && e.What == "feed changed" && h.replicas[e.Group] != nil {
			r := h.replicas[e.Group]
			r.wasShutIn, r.shutIn = r.shutIn, 0
		}
	}
}

// stepMachine steps, and makes a panic of the machine a finding.
func (h *host) stepMachine(events []consensus.Event) []consensus.Effect {
	defer func() {
		if p := recover(); p != nil {
			h.w.fail("panic", "%s: %v\n%s", h.name, p, debug.Stack())
		}
	}()
	return h.machine.Step(h.w.now, events)
}

// act carries out one effect.
func (h *host) act(e consensus.Effect) {
	switch e := e.(type) {
	case consensus.Write:
		h.store.write(e)
	case consensus.Send:
		h.send(e)
	case consensus.Apply:
		h.take(e.Group, e)
	case consensus.Capture:
		h.take(e.Group, e)
	case consensus.Install:
		h.take(e.Group, e)
	case consensus.Fetch:
		h.fetch(e)
	case consensus.Accepted:
		h.accepted(e)
	case consensus.Refused:
		h.answered(e.Ticket, func(q *request) { q.refused(e.Err) })
	case consensus.ReadReady:
		h.answered(e.Ticket, func(q *request) { h.readReady(q, e) })
	case consensus.Enrolled:
		h.answered(e.Ticket, func(q *request) { q.done() })
	case consensus.LeaderChange:
		h.leaderChanged(e)
	case consensus.Report:
		h.reported(e)
	}
}

func (h *host) take(g id.Group, e consensus.Effect) {
	if r := h.replicas[g]; r != nil {
		r.take(e)
	}
}

func (h *host) reported(e consensus.Report) {
	h.w.tracef("%s group %d: %s %v", h.name, e.Group, e.What, e.Args)
	switch r := h.replicas[e.Group]; {
	case e.What == "group is faulty":
		h.w.faulty(h, e)
	case e.What == "feed changed" && r != nil:
		s, _ := h.view(e.Group)
		if r.wasShutIn == s.Term && s.Feed == feedOpen {
			r.group.openings[s.Term]++
		}
		if r.wasShutIn = 0; s.Feed == feedShut {
			r.shutIn = s.Term
		}
	}
}

func (h *host) leaderChanged(e consensus.LeaderChange) {
	h.w.fold(1, uint64(h.at), uint64(e.Group), uint64(e.Term), uint64(e.Leader[0]))
	r := h.replicas[e.Group]
	if r == nil {
		return
	}
	r.leads = e.Self
	if e.Self {
		r.group.served(h, r, e.Term)
	}
}

// send puts a frame on the wire, after the checker has read it.
func (h *host) send(e consensus.Send) {
	to := h.w.net.home(&h.box, e.To)
	if to == nil {
		h.w.fail("wire", "%s sends to a directory that never was: %s", h.name, e.To)
	}
	for i := range e.Messages {
		h.said(to, &e.Messages[i])
	}
	h.w.fold(2, uint64(h.at), uint64(to.at), uint64(len(e.Messages)))
	h.w.carry(&h.box, to, e.To, e.Class, e.Messages)
}

// carry brings messages to the directory meant, which was at to. In one run of
// eight the frame is the bytes that go over a real wire, decoded at each arrival;
// else the messages themselves, which nobody may change.
func (w *world) carry(from, to *box, meant id.UUID, class peer.Class, messages []peer.Message) {
	if !w.wire {
		w.net.send(from, to, class, func() { w.deliver(from, to, meant, messages) })
		return
	}
	frame := peer.AppendMessages(nil, messages)
	w.net.send(from, to, class, func() {
		decoded, err := peer.DecodeMessages(frame)
		if err != nil {
			w.fail("wire", "a frame of %d messages can't be decoded: %v", len(messages), err)
		}
		w.deliver(from, to, meant, decoded)
	})
}

// deliver brings a frame to whoever has the address now.
func (w *world) deliver(from, to *box, meant id.UUID, messages []peer.Message) {
	w.fold(3, uint64(from.at), uint64(to.at), uint64(len(messages)))
	if a := w.arbAt(to); a != nil {
		a.receive(from.uuid, meant, messages)
		return
	}
	if h := w.hostAt(to); h != nil && h.uuid == meant {
		for i := range messages {
			h.heard(from, &messages[i])
		}
		if h.paused && len(h.inbox) >= frozenFrames {
			return
		}
		h.heardAnswers(from, messages)
		h.post(consensus.Received{From: from.uuid, Messages: messages})
	}
}

// frozenFrames bounds what the kernel keeps for a frozen process.
const frozenFrames = 4096

func (w *world) hostAt(b *box) *host {
	for _, h := range w.hosts {
		if &h.box == b {
			return h
		}
	}
	return nil
}

func (w *world) arbAt(b *box) *witness {
	for _, a := range w.arbs {
		if &a.box == b {
			return a
		}
	}
	return nil
}

// ---- faults ----

// kill ends the process: what it had not yet handed to the kernel is lost, what
// it had is not. Its peers see their connections reset and a redial refused.
func (h *host) kill() { h.die(true) }

// powerOff ends the machine: of what was not synced any part may be lost, and
// nobody is told.
func (h *host) powerOff() { h.die(false) }

// fuse has the process or the machine die in the middle of the n-th operation on
// its disk from now.
func (h *host) fuse(n int) { h.store.disk.DieAfter(n) }

func (h *host) die(process bool) {
	if !h.up {
		return
	}
	h.w.tracef("%s dies, power off: %t", h.name, !process)
	h.end(process, func() { h.w.net.gone(&h.box, process) })
}

// end ends this life; its peers notice as gone says.
func (h *host) end(process bool, gone func()) {
	h.w.fold(4, uint64(h.at))
	h.up = false
	h.life++
	h.machine = nil
	h.store.die(process)
	for _, r := range h.replicas {
		r.leads = false
	}
	gone()
}

// pause freezes the process; resume lets it go on, with all that came meanwhile.
func (h *host) pause() {
	h.w.tracef("%s freezes", h.name)
	if !h.paused {
		h.paused, h.pausedAt = true, h.w.now
	}
}

func (h *host) resume() {
	if !h.paused {
		return
	}
	h.w.tracef("%s goes on", h.name)
	h.paused = false
	h.frozen += h.w.now - h.pausedAt
	if h.tickOwed && h.up {
		h.tickOwed = false
		h.inbox = append(h.inbox, consensus.Tick{})
	}
	if h.up && len(h.inbox) > 0 {
		h.stepping = true
		h.later(h.w.between(time.Microsecond, h.cpu), h.stepNow)
	}
}

// leave stops the process as SIGTERM does: it hands over, waits a little, says
// goodbye and goes.
func (h *host) leave() {
	h.post(consensus.Stopping{})
	h.later(200*time.Millisecond, func() {
		h.post(consensus.Leaving{})
		h.tellNow()
		h.later(time.Millisecond, h.kill)
	})
}
