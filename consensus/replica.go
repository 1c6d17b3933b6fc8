package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// replica is a group's state machine on this host, with those who wait for what
// it does.
type replica struct {
	group id.Group
	sm    StateMachine
	// busy is shared by Apply, Checkpoint, Snapshot and a Copy, and exclusive to
	// Install and Close. Lock order: busy, then mu.
	busy sync.RWMutex

	mu struct {
		sync.Mutex
		applied   id.Index
		proposals map[id.Index]proposal
		readers   []reader
		copies    map[id.UUID]*reading    // by other hosts
		stopFetch context.CancelCauseFunc // of the Fetch that runs, or nil
		ended     bool                    // closed, or an Apply has failed: nothing is applied any more
	}
	checkpointed id.Index // nothing up to here needs another checkpoint; owned by Host.checkpoints
}

// proposal waits for the entry at its index.
type proposal struct {
	term id.Term
	out  chan<- outcome // buffered; gets exactly one
}

type outcome struct {
	result any
	err    error
}

// reader waits until index is applied.
type reader struct {
	index id.Index
	out   chan<- outcome
}

func newReplica(g id.Group, sm StateMachine) *replica {
	r := &replica{group: g, sm: sm}
	r.mu.proposals, r.mu.copies = map[id.Index]proposal{}, map[id.UUID]*reading{}
	return r
}

// expect registers who waits for the entry at index.
func (r *replica) expect(index id.Index, term id.Term, out chan<- outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.mu.ended:
		out <- outcome{err: ErrUnknownOutcome}
	case index <= r.mu.applied: // a membership change that was already so
		out <- outcome{}
	default:
		r.mu.proposals[index] = proposal{term: term, out: out}
	}
}

// expectApplied registers who waits until index is applied.
func (r *replica) expectApplied(index id.Index, out chan<- outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.mu.ended:
		out <- outcome{err: ErrStopped}
	case index <= r.mu.applied:
		out <- outcome{}
	default:
		r.mu.readers = append(r.mu.readers, reader{index: index, out: out})
	}
}

// waitApplied returns once index is applied here and the machine has been told.
func (r *replica) waitApplied(ctx context.Context, index id.Index) error {
	out := make(chan outcome, 1)
	r.expectApplied(index, out)
	select {
	case o := <-out:
		return o.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// finished answers those who waited for entries up to last.
func (r *replica) finished(entries []Entry, results []any, last id.Index) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, e := range entries {
		p, ok := r.mu.proposals[e.Index]
		if !ok {
			continue
		}
		delete(r.mu.proposals, e.Index)
		if p.term == e.Term {
			p.out <- outcome{result: results[i]}
		} else {
			p.out <- outcome{err: ErrLost}
		}
	}
	if len(entries) < int(last-r.mu.applied) { // entries without data for sm
		for index, p := range r.mu.proposals {
			if index <= last {
				delete(r.mu.proposals, index)
				p.out <- outcome{}
			}
		}
	}
	r.mu.applied = last
	r.mu.readers = slices.DeleteFunc(r.mu.readers, func(w reader) bool {
		if w.index <= last {
			w.out <- outcome{}
		}
		return w.index <= last
	})
}

// abandon tells everybody who proposed that nobody here knows what becomes of
// their entries.
func (r *replica) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for index, p := range r.mu.proposals {
		delete(r.mu.proposals, index)
		p.out <- outcome{err: ErrUnknownOutcome}
	}
}

// end lets nothing more be applied, copied or read, and answers everybody who
// waits for it. It waits for nobody.
func (r *replica) end() {
	r.mu.Lock()
	r.mu.ended = true
	if r.mu.stopFetch != nil {
		r.mu.stopFetch(ErrStopped)
	}
	readers := r.mu.readers
	r.mu.readers = nil
	r.mu.Unlock()
	r.abandon()
	for _, w := range readers {
		w.out <- outcome{err: ErrStopped}
	}
}

// close answers everybody and closes the state machine.
func (r *replica) close(log *slog.Logger) {
	r.end()
	for _, s := range r.readings() {
		if err := s.close(); err != nil {
			log.Error("snapshot did not close cleanly", "group", r.group, "err", err)
		}
	}
	r.busy.Lock() // nobody is in it any more
	defer r.busy.Unlock()
	if err := r.sm.Close(); err != nil {
		log.Error("state machine did not close cleanly", "group", r.group, "err", err)
	}
}

func (r *replica) hasEnded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.ended
}

// worker calls the state machines of some of the groups. Its queue is bounded by
// the Raft library, which hands out at most 8 MiB per group until they are
// applied, and by maxPins.
type worker struct {
	host *Host
	mu   struct {
		sync.Mutex
		jobs []Effect // Apply, Capture, Install
	}
	ready chan struct{} // one token: there are jobs, or it is time to stop
}

func newWorker(h *Host) *worker { return &worker{host: h, ready: make(chan struct{}, 1)} }

func (w *worker) add(e Effect) {
	w.mu.Lock()
	w.mu.jobs = append(w.mu.jobs, e)
	w.mu.Unlock()
	w.wake()
}

func (w *worker) wake() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

func (w *worker) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.ready:
		}
		w.mu.Lock()
		jobs := w.mu.jobs
		w.mu.jobs = nil
		w.mu.Unlock()
		for _, e := range jobs {
			switch e := e.(type) {
			case Apply:
				w.apply(e)
			case Capture:
				w.capture(e)
			case Install:
				w.install(e)
			}
		}
	}
}

// apply runs one batch. A group whose state machine is gone is passed over, and
// so is one that has failed to apply an earlier batch: it would have a hole.
func (w *worker) apply(a Apply) {
	r := w.host.replica(a.Group)
	if r == nil {
		return
	}
	// Until the machine has been told: a later replica of the same group must
	// not take this one's word for its own.
	r.busy.RLock()
	defer r.busy.RUnlock()
	if r.hasEnded() {
		return
	}
	results, err := r.apply(a.Entries)
	if err != nil {
		w.host.inbox.put(Failed{Group: a.Group, Err: err})
		r.end()
		return
	}
	w.host.inbox.put(Applied{Group: a.Group, Index: a.Index})
	r.finished(a.Entries, results, a.Index)
}

// apply calls the state machine. The caller holds busy.
func (r *replica) apply(entries []Entry) (results []any, err error) {
	if len(entries) == 0 {
		return nil, nil
	}
	defer func() {
		if p := recover(); p != nil { // R5: one bad group must not kill the host
			err = fmt.Errorf("state machine: broken invariant: %v", p)
		}
	}()
	results, err = r.sm.Apply(entries)
	if err == nil && len(results) != len(entries) {
		err = fmt.Errorf("state machine gave %d results for %d entries", len(results), len(entries))
	}
	return results, err
}

// checkpointEvery is how often state machines are made to survive a power cut,
// so that little must be replayed after one.
const checkpointEvery = 5 * time.Second

// checkpoints makes one group's state after another durable.
func (h *Host) checkpoints(ctx context.Context) {
	ticker := time.NewTicker(checkpointEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, r := range h.all() {
			h.checkpoint(ctx, r)
		}
	}
}

func (h *Host) checkpoint(ctx context.Context, r *replica) {
	r.busy.RLock()
	defer r.busy.RUnlock()
	r.mu.Lock()
	applied := r.mu.applied
	idle := r.mu.ended || applied <= r.checkpointed
	r.mu.Unlock()
	if idle || ctx.Err() != nil {
		return
	}
	index, err := r.sm.Checkpoint(ctx)
	if err == nil { // the machine takes no mark of what it does not know to be applied
		err = r.waitApplied(ctx, index)
	}
	switch {
	case ctx.Err() != nil || errors.Is(err, ErrStopped):
	case errors.Is(err, ErrDiskFull): // the log keeps what the state lacks; the next round tries again
	case err != nil:
		h.inbox.put(Failed{Group: r.group, Err: fmt.Errorf("checkpoint: %w", err)})
	case h.do(ctx, Checkpointed{Group: r.group, Index: index}) == nil:
		// The log knows it. What else is applied by now holds no data.
		r.checkpointed = max(index, applied)
	}
}
