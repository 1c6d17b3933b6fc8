package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

const (
	// fetchCallWithin bounds one call of a fetch: the other host's disk may hang
	// while its connection lives.
	fetchCallWithin = time.Minute
	// digestBytesPerSecond is what the slowest disk reads, to bound how long a
	// digest may take.
	digestBytesPerSecond = 5_000_000
	// tellEvery is how often a copy under way is logged.
	tellEvery = 10 * time.Second
)

// fetches runs Fetch effects one after another until ctx ends. Each of the
// host's maxFetches fetchers is a goroutine of Run.
func (h *Host) fetches(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-h.toFetch:
			h.fetch(ctx, f)
		}
	}
}

// startFetch hands a Fetch to a fetcher. The machine has no more of them under
// way than there are; of replicas that were dropped one may linger.
func (h *Host) startFetch(f Fetch) {
	select {
	case h.toFetch <- f:
	default:
		h.inbox.put(Fetched{Group: f.Group, Attempt: f.Attempt, Err: errBusyFetching})
	}
}

func (h *Host) fetch(ctx context.Context, f Fetch) {
	begun := time.Now()
	log := h.slog.With("group", f.Group, "peer", f.From.Short())
	image, err := h.copyFrom(ctx, f)
	if err != nil {
		log.Warn("copy from another host failed", "took", time.Since(begun), "err", err)
	} else {
		log.Info("copy from another host complete", "index", image.Index, "took", time.Since(begun))
	}
	h.inbox.put(Fetched{Group: f.Group, Attempt: f.Attempt, Image: image, Err: err})
}

// copyFrom gets a copy of another host's state and makes it durable beside this
// host's own. What is left after a failure, or a death of this process, is gone
// on with the next time, if the other host still has the same snapshot open.
func (h *Host) copyFrom(ctx context.Context, f Fetch) (Image, error) {
	r := h.replica(f.Group)
	if r == nil {
		return Image{}, ErrNoGroup
	}
	r.busy.RLock()
	defer r.busy.RUnlock()
	ctx, done, ok := r.untilEnd(ctx)
	if !ok {
		return Image{}, ErrStopped
	}
	defer done()
	answer, err := h.fetchCall(ctx, f.From, callOpenCopy, openCopy{group: f.Group, above: f.Above}.encode(), 0)
	if err != nil {
		return Image{}, err
	}
	o, err := decodeOpenedCopy(answer)
	if err == nil && o.image.Index <= f.Above {
		err = fmt.Errorf("it ends at entry %d, entry %d is here", o.image.Index, f.Above)
	}
	if err != nil {
		return Image{}, fmt.Errorf("open a copy at host %s: %w", f.From.Short(), err)
	}
	var c Copy
	err = r.guarded(func(sm Snapshotter) (err error) {
		c, err = sm.Receive(o.snapshot, o.image.Index)
		return err
	})
	if err != nil {
		return Image{}, fmt.Errorf("receive a copy: %w", err)
	}
	err = h.receive(ctx, f, o, c)
	if err := errors.Join(err, c.Close()); err != nil {
		return Image{}, err
	}
	return o.image, nil
}

// receive fills a copy and finishes it.
func (h *Host) receive(ctx context.Context, f Fetch, o openedCopy, c Copy) error {
	at := atCopy{group: f.Group, snapshot: o.snapshot, after: c.After()}
	log := h.slog.With("group", f.Group, "peer", f.From.Short(), "index", o.image.Index)
	log.Info("copy from another host begins", "bytes", o.bytes, "continued", at.after != nil)
	p := h.copies.begin(f.Group, h.self, o.bytes)
	defer p.end()
	told := time.Now()
	for end := false; !end; {
		answer, err := h.fetchCall(ctx, f.From, callReadCopy, at.encode(), 0)
		if err != nil {
			return err
		}
		got, err := decodePieces(answer)
		if err != nil {
			return fmt.Errorf("read a copy: %w", err)
		}
		for _, x := range got.list {
			if err := c.Write(x.data, x.next); err != nil {
				return fmt.Errorf("write a copy: %w", err)
			}
			p.add(len(x.data))
			at.after = x.next
		}
		end = got.end
		if time.Since(told) >= tellEvery {
			told = time.Now()
			log.Info("copy from another host under way", "done", p.done.Load(), "bytes", o.bytes)
		}
	}
	whole := atCopy{group: f.Group, snapshot: o.snapshot}
	digest, err := h.fetchCall(ctx, f.From, callDigestCopy, whole.encode(), o.bytes)
	if err != nil {
		return err
	}
	if err := h.finish(ctx, f, at, c, digest); err != nil {
		return fmt.Errorf("finish a copy: %w", err)
	}
	// It also closes by itself, after a while.
	if _, err := h.fetchCall(ctx, f.From, callCloseCopy, whole.encode(), 0); err != nil {
		log.Info("copy is complete, its source not told", "err", err)
	}
	return nil
}

// finish checks a copy and makes it durable. That may take long, so the source is
// asked for what follows the last piece now and then: it lets the log behind its
// snapshot go when it hears nothing.
func (h *Host) finish(ctx context.Context, f Fetch, at atCopy, c Copy, digest []byte) error {
	asking, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() {
		ticker := time.NewTicker(readIdle / 3)
		defer ticker.Stop()
		for {
			select {
			case <-asking.Done():
				return
			case <-ticker.C: // without an answer a part of the log may go, and is copied again
				_, _ = h.fetchCall(asking, f.From, callReadCopy, at.encode(), 0)
			}
		}
	})
	defer wait.Wait()
	defer stop()
	return c.Finish(ctx, digest)
}

// fetchCall makes one call, which may read so many bytes there.
func (h *Host) fetchCall(ctx context.Context, to id.UUID, method string, req []byte, bytes uint64) ([]byte, error) {
	within := fetchCallWithin + time.Duration(bytes/digestBytesPerSecond)*time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, within, errNoAnswer)
	defer cancel()
	answer, err := h.net.Call(ctx, to, method, req)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", to.Short(), err)
	}
	return answer, nil
}

var (
	errNoAnswer     = errors.New("no answer")
	errBusyFetching = errors.New("this host still ends other copies")
)

// install makes a finished copy the state, in the worker's turn and with nobody
// else in the state machine.
func (w *worker) install(e Install) {
	r := w.host.replica(e.Group)
	if r == nil {
		return
	}
	for _, s := range r.readings() { // of a state that goes
		if err := s.close(); err != nil {
			w.host.slog.Error("snapshot did not close cleanly", "group", e.Group, "err", err)
		}
	}
	r.busy.Lock()
	defer r.busy.Unlock()
	if r.hasEnded() {
		return
	}
	err := r.guarded(func(sm Snapshotter) error { return sm.Install(e.Index) })
	if err != nil {
		w.host.inbox.put(Failed{Group: e.Group, Err: fmt.Errorf("install a copy: %w", err)})
		r.end()
		return
	}
	w.host.inbox.put(Applied(e))
	r.abandon() // nobody here knows what became of their entries
	r.finished(nil, nil, e.Index)
}

// guarded calls f with the state machine. R5: one bad group must not kill the
// host.
func (r *replica) guarded(f func(Snapshotter) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("state machine: broken invariant: %v", p)
		}
	}()
	return f(r.sm)
}

// untilEnd returns a context that ends with the replica, too, for the one Fetch
// that runs.
func (r *replica) untilEnd(ctx context.Context) (_ context.Context, done func(), ok bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.ended {
		cancel(ErrStopped)
		return ctx, nil, false
	}
	r.mu.stopFetch = cancel
	return ctx, func() { cancel(nil) }, true
}
