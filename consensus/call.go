package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// replies matches the machine's answers with those who wait for them.
type replies struct {
	mu struct {
		sync.Mutex
		next    uint64
		waiting map[uint64]call
		ended   bool
	}
}

// call is one caller that waits for the answer to its ticket.
type call struct {
	replica *replica // whom to watch next; nil for an enrolment
	out     chan outcome
}

func (r *replies) init() { r.mu.waiting = map[uint64]call{} }

// begin draws a ticket. The channel gets exactly one outcome.
func (r *replies) begin(on *replica) (uint64, chan outcome) {
	out := make(chan outcome, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.next++
	if r.mu.ended {
		out <- outcome{err: ErrStopped}
		return r.mu.next, out
	}
	r.mu.waiting[r.mu.next] = call{replica: on, out: out}
	return r.mu.next, out
}

// take ends the wait for a ticket's first answer.
func (r *replies) take(ticket uint64) (call, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.mu.waiting[ticket]
	delete(r.mu.waiting, ticket)
	return c, ok
}

func (r *replies) accepted(a Accepted) {
	if c, ok := r.take(a.Ticket); ok {
		c.replica.expect(a.Index, a.Term, c.out)
	}
}

func (r *replies) refused(f Refused) {
	if c, ok := r.take(f.Ticket); ok {
		c.out <- outcome{err: f.Err}
	}
}

func (r *replies) done(ticket uint64) {
	if c, ok := r.take(ticket); ok {
		c.out <- outcome{}
	}
}

// end refuses everybody whose request the machine has not answered.
func (r *replies) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.ended = true
	for t, c := range r.mu.waiting {
		delete(r.mu.waiting, t)
		c.out <- outcome{err: ErrStopped}
	}
}

func (h *Host) readReady(e ReadReady) {
	if c, ok := h.replies.take(e.Ticket); ok {
		c.replica.expectApplied(e.Index, c.out)
	}
}

// Propose appends data to the group's log and returns what the state machine
// made of it. It returns ErrUnknownOutcome when ctx ends, or leadership is lost,
// while the entry is on its way.
func (h *Host) Propose(ctx context.Context, g id.Group, data []byte) (any, error) {
	if len(data) == 0 {
		return nil, errors.New("an empty proposal means nothing")
	}
	r := h.replica(g)
	if r == nil {
		return nil, ErrNoGroup
	}
	begun := time.Now()
	ticket, out := h.replies.begin(r)
	if err := h.inbox.propose(g, ticket, data); err != nil {
		h.replies.take(ticket)
		return nil, err
	}
	select {
	case o := <-out:
		if o.err == nil {
			h.pace.wrote(time.Since(begun))
		}
		return o.result, o.err
	case <-ctx.Done():
		return nil, ErrUnknownOutcome
	}
}

// Read returns once the local state may be read as if it were the only copy. It
// is answered by the group's leader only.
func (h *Host) Read(ctx context.Context, g id.Group) error {
	return h.ask(ctx, g, func(ticket uint64) Event { return Read{Group: g, Ticket: ticket} })
}

// ChangeMembers changes the group's membership and returns once the change is
// applied here. Asking for what is already so is no error.
func (h *Host) ChangeMembers(ctx context.Context, g id.Group, c Change) error {
	return h.ask(ctx, g, func(ticket uint64) Event { return ChangeMembers{Group: g, Ticket: ticket, Change: c} })
}

func (h *Host) ask(ctx context.Context, g id.Group, event func(ticket uint64) Event) error {
	r := h.replica(g)
	if r == nil {
		return ErrNoGroup
	}
	return h.wait(ctx, r, event)
}

func (h *Host) wait(ctx context.Context, r *replica, event func(ticket uint64) Event) error {
	ticket, out := h.replies.begin(r)
	if !h.inbox.put(event(ticket)) {
		h.replies.take(ticket)
		return ErrStopped
	}
	select {
	case o := <-out:
		return o.err
	case <-ctx.Done():
		if _, ok := h.replies.take(ticket); ok {
			h.inbox.put(Forget{Ticket: ticket})
		}
		return context.Cause(ctx)
	}
}

// Enroll asks the arbitrator to keep a record for a replica of a group, and
// waits until it is durable there. Asking again is harmless.
func (h *Host) Enroll(ctx context.Context, g id.Group, r id.Replica, witness id.UUID) error {
	return h.enrolment(ctx, EnrollWitness{Group: g, To: r, Witness: witness})
}

// Retire asks the arbitrator to forget a replica of a group for ever (R24).
func (h *Host) Retire(ctx context.Context, g id.Group, r id.Replica, witness id.UUID) error {
	return h.enrolment(ctx, EnrollWitness{Group: g, To: r, Witness: witness, Retire: true})
}

func (h *Host) enrolment(ctx context.Context, e EnrollWitness) error {
	err := h.wait(ctx, nil, func(ticket uint64) Event { e.Ticket = ticket; return e })
	if err != nil {
		return fmt.Errorf("enrol replica %d of group %d at arbitrator %s: %w", e.To, e.Group, e.Witness.Short(), err)
	}
	return nil
}

// Transfer asks the group's leader, if it is this host, to hand the group to
// another data voter. Watch Status for the result.
func (h *Host) Transfer(ctx context.Context, g id.Group, to id.Replica) error {
	if h.replica(g) == nil {
		return ErrNoGroup
	}
	return h.do(ctx, Transfer{Group: g, To: to})
}

// handOverWithin bounds HandOver: a host that is told to stop stops.
const handOverWithin = time.Second

// HandOver gives away every group that this host leads, waits until others lead
// them, at most a second, and says goodbye (R32, R33).
func (h *Host) HandOver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, handOverWithin)
	defer cancel()
	if err := h.do(ctx, Stopping{}); err != nil {
		return err
	}
	left := h.led()
	for left > 0 && ctx.Err() == nil {
		changed := h.Changed()
		if left = h.led(); left == 0 {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	if err := h.do(context.WithoutCancel(ctx), Leaving{}); err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("%d groups had nobody to take them over", left)
	}
	return nil
}

// led counts the groups that this host leads and another could lead.
func (h *Host) led() int {
	n := 0
	for _, s := range h.Statuses() {
		if s.Role == RoleMaster && len(s.Members) > 1 {
			n++
		}
	}
	return n
}
