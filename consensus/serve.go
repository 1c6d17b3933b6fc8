package consensus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

const (
	// readIdle is how long an opened snapshot waits for its reader, and its log
	// for the reader's own to reach it: longer than a reader waits after a
	// failure.
	readIdle = time.Minute
	// sweepEvery is how often somebody looks for those that nobody reads.
	sweepEvery = 5 * time.Second
	// answerBytes ends the answer to one copy.read. One is under way at a time, so
	// a reader that is far away gets no more than this in each round trip.
	answerBytes = 256 << 10
)

// reading is a snapshot that another host reads here.
type reading struct {
	openedCopy
	replica  *replica
	by       id.UUID
	progress *progress

	// turn holds a token while nobody uses snap.
	turn chan struct{}
	snap Snapshot // nil once closed; whoever has the turn

	mu struct {
		sync.Mutex
		used   time.Time
		cancel context.CancelCauseFunc // of whoever has the turn
		ended  bool
	}
}

// use calls f with the snapshot, one call after another. It ends f when the
// reading ends.
func (s *reading) use(ctx context.Context, f func(context.Context, Snapshot) error) error {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { s.turn <- struct{}{} }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.mu.Lock()
	ended := s.mu.ended
	s.mu.cancel = cancel
	s.mu.Unlock()
	if ended {
		return ErrNoCopy
	}
	err := f(ctx, s.snap)
	s.mu.Lock()
	s.mu.used = time.Now()
	s.mu.Unlock()
	return err
}

// end lets nobody read on. It does not wait for who does.
func (s *reading) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.ended = true
	if s.mu.cancel != nil {
		s.mu.cancel(ErrNoCopy)
	}
}

// close ends the reading and closes the snapshot.
func (s *reading) close() error {
	s.end()
	<-s.turn
	defer func() { s.turn <- struct{}{} }()
	if s.snap == nil {
		return nil
	}
	s.progress.end()
	err := s.snap.Close()
	s.snap = nil
	return err
}

// state reports whether the reading has ended, and for how long nobody has used
// it.
func (s *reading) state() (ended bool, idle time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.ended, time.Since(s.mu.used)
}

// Methods are the calls that other hosts make to copy state from this one, for
// whoever owns the network.
func (h *Host) Methods() map[string]peer.Handler {
	return map[string]peer.Handler{
		callOpenCopy: h.serveOpen, callReadCopy: h.serveRead, callDigestCopy: h.serveDigest, callCloseCopy: h.serveClose,
	}
}

// serveOpen opens a snapshot for from, or finds the one that it has begun to
// read.
func (h *Host) serveOpen(ctx context.Context, from id.UUID, req []byte) ([]byte, error) {
	o, err := decodeOpenCopy(req)
	if err != nil {
		return nil, fmt.Errorf("open a copy: %w", err)
	}
	r := h.replica(o.group)
	if r == nil {
		return nil, ErrNoGroup
	}
	if s := r.reading(from); s != nil && s.image.Index > o.above {
		if ended, _ := s.state(); !ended {
			return s.encode(), nil
		}
	}
	ticket, out := h.replies.begin(r)
	if !h.inbox.put(AskCopy{Group: o.group, For: from, Above: o.above, Ticket: ticket}) {
		h.replies.take(ticket)
		return nil, ErrStopped
	}
	select {
	case a := <-out:
		if a.err != nil {
			return nil, a.err
		}
		return a.result.(*reading).encode(), nil
	case <-ctx.Done(): // it finds the snapshot when it asks again
		h.replies.take(ticket)
		return nil, context.Cause(ctx)
	}
}

// capture opens the state of a group, in the worker's turn.
func (w *worker) capture(c Capture) {
	s, err := w.open(c)
	if err != nil {
		w.host.inbox.put(Release{Group: c.Group, For: c.For, Index: c.Image.Index})
		w.host.replies.refused(Refused{Ticket: c.Ticket, Err: err})
		return
	}
	if call, ok := w.host.replies.take(c.Ticket); ok {
		call.out <- outcome{result: s}
	}
}

func (w *worker) open(c Capture) (*reading, error) {
	r := w.host.replica(c.Group)
	if r == nil {
		return nil, ErrNoGroup
	}
	r.busy.RLock()
	defer r.busy.RUnlock()
	var snap Snapshot
	err := r.guarded(func(sm Snapshotter) (err error) {
		snap, err = sm.Snapshot()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a snapshot of group %d: %w", c.Group, err)
	}
	s := &reading{replica: r, by: c.For, snap: snap, turn: make(chan struct{}, 1)}
	s.image, s.bytes = c.Image, snap.Bytes()
	rand.Read(s.snapshot[:]) // never fails (crypto/rand, Go 1.24)
	s.mu.used = time.Now()
	s.progress = w.host.copies.begin(c.Group, c.For, s.bytes)
	s.turn <- struct{}{}
	old, ok := r.addReading(s)
	if !ok {
		return nil, errors.Join(ErrStopped, s.close())
	}
	if old != nil {
		if err := old.close(); err != nil {
			w.host.slog.Error("snapshot did not close cleanly", "group", c.Group, "err", err)
		}
	}
	w.host.slog.Info("copy is read by another host", "group", c.Group, "peer", c.For.Short(), "index", c.Image.Index, "bytes", s.bytes)
	return s, nil
}

// readingOf finds what a request is about.
func (h *Host) readingOf(from id.UUID, req []byte) (*reading, atCopy, error) {
	a, err := decodeAtCopy(req)
	if err != nil {
		return nil, a, fmt.Errorf("read a copy: %w", err)
	}
	r := h.replica(a.group)
	if r == nil {
		return nil, a, ErrNoGroup
	}
	s := r.reading(from)
	if s == nil || s.snapshot != a.snapshot {
		return nil, a, ErrNoCopy
	}
	return s, a, nil
}

// serveRead reads the piece that is due next, and those that were due meanwhile:
// the less at once, the less of a processor or a wire is taken from a write that
// comes just then.
func (h *Host) serveRead(ctx context.Context, from id.UUID, req []byte) ([]byte, error) {
	s, a, err := h.readingOf(from, req)
	if err != nil {
		return nil, err
	}
	var p pieces
	err = s.use(ctx, func(ctx context.Context, snap Snapshot) error {
		wait := time.Duration(0)
		for n := 0; n < answerBytes && wait <= 0; {
			data, next, err := snap.Read(a.after)
			if errors.Is(err, io.EOF) {
				p.end = true
				break
			}
			if err != nil {
				return fmt.Errorf("read a snapshot of group %d: %w", a.group, err)
			}
			p.list = append(p.list, piece{data: data, next: next})
			n, a.after = n+len(data), next
			s.progress.add(len(data))
			wait = h.pace.take(len(data))
		}
		return waitFor(ctx, wait)
	})
	if err != nil {
		return nil, err
	}
	return p.encode(), nil
}

func (h *Host) serveDigest(ctx context.Context, from id.UUID, req []byte) (digest []byte, err error) {
	s, _, err := h.readingOf(from, req)
	if err != nil {
		return nil, err
	}
	err = s.use(ctx, func(ctx context.Context, snap Snapshot) error {
		digest, err = snap.Digest(ctx)
		return err
	})
	return digest, err
}

// serveClose closes a snapshot. Its log stays until the reader's own reaches it.
func (h *Host) serveClose(_ context.Context, from id.UUID, req []byte) ([]byte, error) {
	s, a, err := h.readingOf(from, req)
	if err != nil {
		return nil, err
	}
	h.slog.Info("copy was read by another host", "group", a.group, "peer", from.Short(), "index", s.image.Index)
	return nil, s.close()
}

// sweep closes what nobody reads any more, until ctx ends.
func (h *Host) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, r := range h.all() {
			for _, s := range r.readings() {
				h.sweepOne(s)
			}
		}
	}
}

func (h *Host) sweepOne(s *reading) {
	ended, idle := s.state()
	inUse := len(s.turn) == 0
	if !ended && (inUse || idle < readIdle) {
		return
	}
	if err := s.close(); err != nil {
		h.slog.Error("snapshot did not close cleanly", "group", s.replica.group, "err", err)
	}
	if !ended {
		h.slog.Warn("copy given up by its reader", "group", s.replica.group, "peer", s.by.Short(), "index", s.image.Index)
	}
	if idle >= readIdle && s.replica.removeReading(s) {
		h.inbox.put(Release{Group: s.replica.group, For: s.by, Index: s.image.Index})
	}
}

// addReading notes who reads a snapshot here, and returns what it has read
// before. It does nothing once the replica has ended.
func (r *replica) addReading(s *reading) (before *reading, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.ended {
		return nil, false
	}
	before = r.mu.copies[s.by]
	r.mu.copies[s.by] = s
	return before, true
}

// removeReading forgets s, if it was not replaced.
func (r *replica) removeReading(s *reading) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.copies[s.by] != s {
		return false
	}
	delete(r.mu.copies, s.by)
	return true
}

// reading returns what directory u reads here, or nil.
func (r *replica) reading(u id.UUID) *reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.copies[u]
}

func (r *replica) readings() []*reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.mu.copies))
}
