package vnode

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// batcher packs the statements that wait into log entries. One entry is under
// way at a time: what arrives meanwhile goes into the next one, so the busier
// the group the fewer syncs a statement takes. (Measured: two under way are no
// faster, sixteen slower.) It also keeps stamps in the order of the log.
//
// While this host does not lead, or the queue is full, statements are refused:
// nothing waits here for a leader.
type batcher struct {
	v *Vnode

	mu struct {
		sync.Mutex
		leads  bool
		leader id.UUID // zero: none known
		queue  []*waiter
		bytes  int
	}
	some chan struct{} // holds a token while the queue may have something

	// ---- owned by run ----
	clock hlc.Clock
}

// waiter is a statement on its way.
type waiter struct {
	statement []byte
	ctx       context.Context //nolint:containedctx // the caller waits beside it; see cut
	proposed  bool            // guarded by batcher.mu: too late to take it back
	done      chan answer     // one answer, never blocks
}

type answer struct {
	out outcome
	err error
}

func newBatcher(v *Vnode) *batcher {
	return &batcher{v: v, some: make(chan struct{}, 1)}
}

// notLeader is the error of a statement that this host can't propose.
func (b *batcher) notLeader() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.notLeaderLocked()
}

func (b *batcher) notLeaderLocked() error {
	if b.mu.leads {
		return nil
	}
	return &consensus.NotLeaderError{Group: b.v.cfg.Group, Leader: b.mu.leader}
}

// leaderChanged fails everything that waits, unless this host leads.
func (b *batcher) leaderChanged(leader id.UUID, self bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.leader, b.mu.leads = leader, self
	if self {
		return
	}
	err := b.notLeaderLocked()
	for _, w := range b.mu.queue {
		w.done <- answer{err: err}
	}
	b.mu.queue, b.mu.bytes = nil, 0
}

// do has a statement proposed and waits for what became of it.
func (b *batcher) do(ctx context.Context, statement []byte) (outcome, error) {
	w := &waiter{statement: statement, ctx: ctx, done: make(chan answer, 1)}
	if err := b.push(w); err != nil {
		return outcome{}, err
	}
	select {
	case a := <-w.done:
		return a.out, a.err
	case <-ctx.Done():
	}
	if b.withdraw(w) {
		return outcome{}, fmt.Errorf("statement not proposed: %w", context.Cause(ctx))
	}
	select { // it may have been answered in the same moment
	case a := <-w.done:
		return a.out, a.err
	default:
		return outcome{}, fmt.Errorf("%w: %w", consensus.ErrUnknownOutcome, context.Cause(ctx))
	}
}

func (b *batcher) push(w *waiter) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.notLeaderLocked(); err != nil {
		return err
	}
	if b.mu.bytes+len(w.statement) > b.v.cfg.QueueBytes {
		return consensus.ErrBusy
	}
	b.mu.queue = append(b.mu.queue, w)
	b.mu.bytes += len(w.statement)
	select {
	case b.some <- struct{}{}:
	default:
	}
	return nil
}

// withdraw takes a statement back that was not proposed yet. It stays in the
// queue, where cut passes over it.
func (b *batcher) withdraw(w *waiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !w.proposed
}

// run proposes until ctx ends.
func (b *batcher) run(ctx context.Context) {
	defer b.leaderChanged(id.UUID{}, false)
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.some:
		}
		for {
			waiters := b.cut()
			if len(waiters) == 0 {
				break
			}
			b.propose(ctx, waiters)
		}
	}
}

// cut takes the statements of the next entry from the queue. Those whose caller
// has gone are dropped: they are never run.
func (b *batcher) cut() []*waiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	var batch []*waiter
	size, n := entryHeadBytes, 0
	for _, w := range b.mu.queue {
		if w.ctx.Err() != nil {
			n++
			b.mu.bytes -= len(w.statement)
			continue
		}
		if len(batch) > 0 && size+len(w.statement) > maxEntryBytes || len(batch) == maxEntryStatements {
			break
		}
		n++
		b.mu.bytes -= len(w.statement)
		size += len(w.statement)
		w.proposed = true
		batch = append(batch, w)
	}
	clear(b.mu.queue[:n])
	if b.mu.queue = b.mu.queue[n:]; len(b.mu.queue) == 0 {
		b.mu.queue = nil
	}
	return batch
}

// propose makes an entry of waiters, and gives each of them its answer.
func (b *batcher) propose(ctx context.Context, waiters []*waiter) {
	at := b.v.position()
	// The clock is rounded down, and counts from there: stamps with small
	// lower parts take little room in merged blocks.
	wall := b.v.now().UnixNano() &^ (1<<stampShift - 1)
	head := entryHead{
		first:    b.clock.Next(wall, at.stamp),
		origin:   b.v.cfg.Cluster,
		count:    len(waiters),
		remember: at.remember,
	}
	head.remember = max(head.remember, b.v.current.Load().memory.From(head.first))
	b.clock.Next(0, head.first+hlc.Stamp(len(waiters)-1))
	size := entryHeadBytes
	for _, w := range waiters {
		size += len(w.statement)
	}
	// The log may keep the bytes, so every entry has memory of its own.
	entry := appendEntryHead(make([]byte, 0, size), head)
	for _, w := range waiters {
		entry = append(entry, w.statement...)
	}
	result, err := b.v.rep.Propose(ctx, b.v.cfg.Group, entry)
	outcomes, ok := result.([]outcome)
	if err == nil && (!ok || len(outcomes) != len(waiters)) {
		// The place in the log is passed and nobody here has applied it: a copy
		// took its place, or an entry of another leader without data.
		err = fmt.Errorf("%w: the entry of %d statements has result %T", consensus.ErrUnknownOutcome, len(waiters), result)
	}
	if err != nil {
		err = fmt.Errorf("propose to group %d: %w", b.v.cfg.Group, notCanceled(ctx, err))
	}
	for i, w := range waiters {
		if err != nil {
			w.done <- answer{err: err}
			continue
		}
		w.done <- answer{out: outcomes[i]}
	}
}

// notCanceled says of a proposal that this host gave up waiting for, as it
// stops, what that means to a client.
func notCanceled(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) && !errors.Is(err, consensus.ErrUnknownOutcome) {
		return fmt.Errorf("%w: %w", consensus.ErrUnknownOutcome, err)
	}
	return err
}
