package consensus

import (
	"sync"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// inbox gathers events for the machine. Proposals and reads that arrive while
// the machine works are packed together, so that a busy group costs one pass.
//
// Bounds: frames wait in putWaiting while maxFrames are unread; proposals are
// bounded by the machine (ErrBusy) and by maxProposals here; everything else is
// bounded by what the host itself has under way.
type inbox struct {
	ready chan struct{} // one token: there is something to take

	mu struct {
		sync.Mutex
		events    []Event
		proposals map[id.Group]int // where in events the group's Propose is
		after     []chan struct{}
		frames    int
		waiting   int // proposals
		closed    bool
	}
	room *sync.Cond // frames < maxFrames, or closed
}

const (
	maxFrames    = 1024
	maxProposals = 1 << 16
)

func (b *inbox) init() {
	b.ready = make(chan struct{}, 1)
	b.mu.proposals = map[id.Group]int{}
	b.room = sync.NewCond(&b.mu.Mutex)
}

func (b *inbox) signal() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// put adds an event that must not wait. It reports whether anybody will take it.
func (b *inbox) put(e Event) bool { return b.putThen(e, nil) }

// putThen closes done once the event has been handled and what it wrote is
// durable.
func (b *inbox) putThen(e Event, done chan struct{}) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed {
		return false
	}
	b.mu.events = append(b.mu.events, e)
	if done != nil {
		b.mu.after = append(b.mu.after, done)
	}
	b.signal()
	return true
}

// putWaiting adds a frame as soon as there is room.
func (b *inbox) putWaiting(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.mu.frames >= maxFrames && !b.mu.closed {
		b.room.Wait()
	}
	if b.mu.closed {
		return
	}
	b.mu.frames++
	b.mu.events = append(b.mu.events, e)
	b.signal()
}

// propose adds a proposal to the group's pack.
func (b *inbox) propose(g id.Group, ticket uint64, data []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.mu.closed:
		return ErrStopped
	case b.mu.waiting >= maxProposals:
		return ErrBusy
	}
	b.mu.waiting++
	at, ok := b.mu.proposals[g]
	if !ok {
		at = len(b.mu.events)
		b.mu.proposals[g] = at
		b.mu.events = append(b.mu.events, &Propose{Group: g})
	}
	p := b.mu.events[at].(*Propose)
	p.Tickets = append(p.Tickets, ticket)
	p.Data = append(p.Data, data)
	b.signal()
	return nil
}

// take empties the inbox.
func (b *inbox) take() ([]Event, []chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	events, after := b.mu.events, b.mu.after
	b.mu.events, b.mu.after = nil, nil
	b.mu.frames, b.mu.waiting = 0, 0
	clear(b.mu.proposals)
	b.room.Broadcast()
	for i, e := range events {
		if p, ok := e.(*Propose); ok {
			events[i] = *p
		}
	}
	return events, after
}

// close lets nobody wait any more.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.closed = true
	b.room.Broadcast()
}
