package consensus

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// Log is the write-ahead log as a Host needs it: a *wal.Log to read and a
// *wal.Writer to append.
type Log struct {
	LogReader
	Appender
}

// Appender takes Writes. It does not wait for the disk; whoever owns it calls
// Host.Durable with the highest durable number after each sync.
type Appender interface {
	Append(seq uint64, ops []wal.Op)
}

// Carrier is what a Host needs of the network. *peer.Net is one. Send never
// waits and reports whether the frame was queued; Raft repeats what was not.
type Carrier interface {
	Send(to id.UUID, class peer.Class, msgs []peer.Message) bool
	// Call runs one of the other host's Methods and waits for its answer.
	Call(ctx context.Context, to id.UUID, method string, req []byte) ([]byte, error)
}

// Host runs all groups of this machine: the shell around Machine. It writes what
// the machine wants written, sends what it wants sent, and calls the state
// machines. It holds no rule.
//
// One goroutine, Run's, owns the Machine; everybody else puts events into the
// inbox. Lock order: none is ever held while another is taken.
type Host struct {
	conf    Config
	self    id.UUID
	log     Log
	net     Carrier
	slog    *slog.Logger
	start   time.Time
	inbox   inbox
	replies replies
	workers []*worker
	toFetch chan Fetch // the loop to the fetchers; never closed
	copies  progresses
	pace    pace // of what is sent as copies

	shared struct {
		sync.Mutex
		replicas map[id.Group]*replica
		statuses []Status
		diskHung time.Duration             // Machine.DiskHung at the last tick
		heard    map[id.UUID]time.Duration // when, by the host's clock
		changed  chan struct{}             // closed at the next change of a role
		history  History
		ended    bool
	}

	// ---- owned by Run ----
	machine *Machine
	barrier []barrier // who waits for a Write, oldest first
}

// barrier is a caller that waits until Write seq is durable.
type barrier struct {
	seq  uint64
	done chan struct{} // closed once
}

// applyWorkers is how many goroutines run state machines. A group always meets
// the same one.
const applyWorkers = 4

// New returns a host that does nothing until Run. Whoever owns the log calls
// Durable after each sync; whoever owns the network calls Receive and Linked.
func New(conf Config, self id.UUID, log Log, net Carrier, logger *slog.Logger) *Host {
	h := &Host{conf: conf, self: self, log: log, net: net, slog: logger, start: time.Now()}
	h.inbox.init()
	h.replies.init()
	h.shared.replicas = map[id.Group]*replica{}
	h.shared.heard = map[id.UUID]time.Duration{}
	h.shared.changed = make(chan struct{})
	h.machine = NewMachine(conf, self, log)
	h.toFetch = make(chan Fetch, maxFetches)
	h.pace.bytesPerSecond = conf.CopyBytesPerSecond
	for range applyWorkers {
		h.workers = append(h.workers, newWorker(h))
	}
	return h
}

// Durable says that everything up to Write seq is durable. It never waits.
func (h *Host) Durable(seq uint64) { h.inbox.put(Written{Seq: seq}) }

// DiskSpace says whether the log has room for entries. It never waits.
func (h *Host) DiskSpace(full bool) { h.inbox.put(DiskSpace{Full: full}) }

// Receive takes one frame from a directory whose identity the carrier has
// checked. It waits while too many frames are unread, so that the sender's
// connection fills up instead of this host's memory.
func (h *Host) Receive(from id.UUID, _ peer.Class, msgs []peer.Message) {
	h.inbox.putWaiting(Received{From: from, Messages: msgs})
}

// Linked takes what the carrier knows about the way to a directory.
func (h *Host) Linked(u id.UUID, state LinkState) { h.inbox.put(Link{Peer: u, State: state}) }

// Run drives all groups until ctx ends. When it returns, every goroutine that it
// started has returned, every state machine is closed, and every waiting caller
// has been answered.
func (h *Host) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.Background())
	var workers errgroup.Group
	for _, w := range h.workers {
		workers.Go(func() error { w.run(work); return nil })
	}
	for range maxFetches {
		workers.Go(func() error { h.fetches(work); return nil })
	}
	workers.Go(func() error { h.checkpoints(work); return nil })
	workers.Go(func() error { h.sweep(work); return nil })
	h.loop(ctx)
	stop()
	for _, w := range h.workers {
		w.wake()
	}
	_ = workers.Wait() // workers report through the inbox and return nil
	h.end()
	return context.Cause(ctx)
}

func (h *Host) loop(ctx context.Context) {
	ticker := time.NewTicker(h.conf.Tick)
	defer ticker.Stop()
	for {
		ticked := false
		select {
		case <-ctx.Done():
			h.inbox.close()
			return
		case <-h.inbox.ready:
		case <-ticker.C: // one tick, however long the process was frozen (pitfall 6)
			ticked = true
		}
		events, after := h.inbox.take()
		if ticked {
			events = append(events, Tick{})
		}
		h.step(events, after, ticked)
	}
}

// step runs the machine once and acts on what it says.
func (h *Host) step(events []Event, after []chan struct{}, ticked bool) {
	for _, e := range events {
		if w, ok := e.(Written); ok {
			h.release(w.Seq)
		}
	}
	now := time.Since(h.start)
	effects := h.machine.Step(now, events)
	wrote := uint64(0)
	moved := false
	for _, e := range effects {
		switch e := e.(type) {
		case Write:
			wrote = e.Seq
			h.log.Append(e.Seq, e.Ops)
		case Send:
			h.net.Send(e.To, e.Class, e.Messages)
		case Apply:
			h.workerOf(e.Group).add(e)
		case Capture:
			h.workerOf(e.Group).add(e)
		case Install:
			h.workerOf(e.Group).add(e)
		case Fetch:
			h.startFetch(e)
		case Halt:
			if r := h.replica(e.Group); r != nil {
				r.end()
			}
		case Accepted:
			h.replies.accepted(e)
		case Refused:
			h.replies.refused(e)
		case Enrolled:
			h.replies.done(e.Ticket)
		case ReadReady:
			h.readReady(e)
		case LeaderChange:
			moved = true
			h.leaderChanged(e)
		case Report:
			moved = true
			h.report(e)
		case FailedOver:
			moved = true
			h.failedOver(now, e)
		case Deposed:
			moved = true
			h.deposed(e)
		}
	}
	if ticked || moved || len(after) > 0 {
		h.publish(now, moved)
	}
	for _, done := range after {
		if wrote > 0 {
			h.barrier = append(h.barrier, barrier{seq: wrote, done: done})
		} else {
			close(done)
		}
	}
}

// release lets callers go on whose Write is durable.
func (h *Host) release(seq uint64) {
	n := 0
	for n < len(h.barrier) && h.barrier[n].seq <= seq {
		close(h.barrier[n].done)
		n++
	}
	h.barrier = h.barrier[n:]
}

func (h *Host) report(r Report) {
	log := h.slog.Info
	if r.Bad {
		log = h.slog.Error
	}
	args := r.Args
	if r.Group != 0 {
		args = append([]any{"group", r.Group}, args...)
	}
	log(r.What, args...)
}

// publish makes the machine's view readable by others.
func (h *Host) publish(now time.Duration, changed bool) {
	statuses := h.machine.Status()
	h.copies.mark(statuses)
	h.shared.Lock()
	defer h.shared.Unlock()
	h.shared.statuses, h.shared.diskHung = statuses, h.machine.DiskHung()
	for u, l := range h.machine.peers {
		if l.heard {
			h.shared.heard[u] = l.heardAt
		}
	}
	if changed {
		close(h.shared.changed)
		h.shared.changed = make(chan struct{})
	}
}

func (h *Host) leaderChanged(e LeaderChange) {
	r := h.replica(e.Group)
	if r == nil {
		return
	}
	if !e.Self {
		r.abandon()
	}
	r.sm.LeaderChanged(e.Term, e.Leader, e.Self)
}

func (h *Host) replica(g id.Group) *replica {
	h.shared.Lock()
	defer h.shared.Unlock()
	return h.shared.replicas[g]
}

// all lists the replicas that run here.
func (h *Host) all() []*replica {
	h.shared.Lock()
	defer h.shared.Unlock()
	return slices.Collect(maps.Values(h.shared.replicas))
}

func (h *Host) workerOf(g id.Group) *worker { return h.workers[int(g)%len(h.workers)] }

// end answers everybody who still waits and closes the state machines.
func (h *Host) end() {
	h.shared.Lock()
	replicas := h.shared.replicas
	h.shared.replicas = map[id.Group]*replica{}
	h.shared.ended = true
	close(h.shared.changed)
	h.shared.changed = make(chan struct{})
	h.shared.Unlock()
	for _, r := range replicas {
		r.close(h.slog)
	}
	h.replies.end()
	for _, b := range h.barrier {
		close(b.done)
	}
	_, after := h.inbox.take()
	for _, done := range after {
		close(done)
	}
}

// do hands an event to the machine and waits until what it wrote is durable.
func (h *Host) do(ctx context.Context, e Event) error {
	done := make(chan struct{})
	if !h.inbox.putThen(e, done) {
		return ErrStopped
	}
	select {
	case <-done:
		return h.stopped()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *Host) stopped() error {
	h.shared.Lock()
	defer h.shared.Unlock()
	if h.shared.ended {
		return ErrStopped
	}
	return nil
}

// Stored is one group that the log holds.
type Stored struct {
	Group   id.Group
	Replica id.Replica
	Members []Member
	Formed  bool
	Mark    id.Index
}

// Stored lists the groups that the log holds, ordered by group: at start each of
// them is to be attached or dropped.
func (h *Host) Stored() ([]Stored, error) {
	var list []Stored
	for _, s := range h.log.Groups() {
		g := &group{id: s.Group, members: map[id.Replica]Member{}}
		cs, err := g.decodeMeta(s.Meta)
		if err != nil {
			return nil, fmt.Errorf("read the record of group %d: %w", s.Group, err)
		}
		g.setConf(cs)
		st := Stored{Group: s.Group, Replica: g.self, Formed: g.formed, Mark: s.Mark}
		for _, mem := range g.members {
			st.Members = append(st.Members, mem)
		}
		list = append(list, st)
	}
	return list, nil
}

// Attach starts a stored group with its state machine.
func (h *Host) Attach(ctx context.Context, g id.Group, sm StateMachine) error {
	return h.begin(ctx, g, sm, Attach{Group: g})
}

// Create makes a new replica from the initial record (R40). When it returns nil
// the replica survives a power cut; it stays passive until it is formed.
func (h *Host) Create(ctx context.Context, spec GroupSpec, sm StateMachine) error {
	return h.begin(ctx, spec.Group, sm, Create{Spec: spec})
}

// begin gives a group its state machine and then its replica.
func (h *Host) begin(ctx context.Context, g id.Group, sm StateMachine, e Event) error {
	h.shared.Lock()
	if h.shared.ended || h.shared.replicas[g] != nil {
		ended := h.shared.ended
		h.shared.Unlock()
		if ended {
			return ErrStopped
		}
		return fmt.Errorf("group %d runs already", g)
	}
	h.shared.replicas[g] = newReplica(g, sm)
	h.shared.Unlock()
	return h.do(ctx, e)
}

// Form lets a replica take part: the mnode has recorded that every member
// confirmed its creation (R40).
func (h *Host) Form(ctx context.Context, g id.Group) error { return h.do(ctx, Form{Group: g}) }

// Drop stops a replica and forgets its log. Its state machine is closed.
func (h *Host) Drop(ctx context.Context, g id.Group) error {
	if err := h.do(ctx, Drop{Group: g}); err != nil {
		return err
	}
	h.shared.Lock()
	r := h.shared.replicas[g]
	delete(h.shared.replicas, g)
	h.shared.Unlock()
	if r != nil {
		r.close(h.slog)
	}
	return nil
}

// Status returns one group as this host last saw it, at most a tick ago.
func (h *Host) Status(g id.Group) (Status, bool) {
	for _, s := range h.Statuses() {
		if s.Group == g {
			return s, true
		}
	}
	return Status{}, false
}

// Statuses returns all groups, ordered by group. The slice must not be changed.
func (h *Host) Statuses() []Status {
	h.shared.Lock()
	defer h.shared.Unlock()
	return h.shared.statuses
}

// DiskHung is how long this host's disk has left a write unanswered, zero unless
// that is too long. It is at most a tick old.
func (h *Host) DiskHung() time.Duration {
	h.shared.Lock()
	defer h.shared.Unlock()
	return h.shared.diskHung
}

// Changed returns a channel that is closed at the next change of any role,
// leader or feed, and when History has more.
func (h *Host) Changed() <-chan struct{} {
	h.shared.Lock()
	defer h.shared.Unlock()
	return h.shared.changed
}

// Heard returns how long ago anything arrived from a directory.
func (h *Host) Heard(u id.UUID) (time.Duration, bool) {
	h.shared.Lock()
	defer h.shared.Unlock()
	at, ok := h.shared.heard[u]
	return time.Since(h.start) - at, ok
}
