package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Handler runs a forwarded request on the host that leads group g, or refuses
// with a *consensus.NotLeaderError if this host does not. from is the host that
// forwards, this one included. An error with SQLCode() reaches the caller with
// code and text.
type Handler func(ctx context.Context, from id.UUID, g id.Group, body []byte) ([]byte, error)

const (
	callPrefix = "group." // + method: [group u32 LE][body] -> reply
	// tryTime bounds one try. A broken connection or another leader ends it much
	// earlier; CREATE DATABASE may take 20 s.
	tryTime    = 30 * time.Second
	firstPause = 10 * time.Millisecond // between rounds that found no master
	lastPause  = 200 * time.Millisecond
)

// handlers are fixed once Run has begun.
type handlers struct {
	mu sync.Mutex
	m  map[string]Handler
}

func (h *handlers) init() { h.m = map[string]Handler{} }

func (h *handlers) get(method string) Handler {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.m[method]
}

// Handle registers a method that Forward can reach on every host. It must be
// called before the network runs.
func (h *Host) Handle(method string, fn Handler) {
	h.handlers.mu.Lock()
	h.handlers.m[method] = fn
	h.handlers.mu.Unlock()
	h.net.Handle(callPrefix+method, false, func(ctx context.Context, from id.UUID, req []byte) ([]byte, error) {
		if len(req) < 4 {
			return nil, fmt.Errorf("call %s: %d bytes are no request", method, len(req))
		}
		g := id.Group(binary.LittleEndian.Uint32(req))
		body, err := fn(ctx, from, g, req[4:])
		return encodeReply(body, err), nil
	})
}

// flight is one forwarded call that is under way.
type flight struct {
	group  id.Group
	target id.UUID
	cancel context.CancelFunc
}

// flights lets one goroutine end every forwarded call whose host is seen to
// lead no more (R46).
type flights struct {
	mu  sync.Mutex
	all map[*flight]struct{}
}

func (f *flights) init() { f.all = map[*flight]struct{}{} }

func (f *flights) add(x *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all[x] = struct{}{}
}

func (f *flights) remove(x *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, x)
}

// watch ends flights to former leaders until ctx ends.
func (f *flights) watch(ctx context.Context, groups Groups) error {
	for {
		changed := groups.Changed()
		leaders := map[id.Group]id.UUID{}
		for _, s := range groups.Statuses() {
			leaders[s.Group] = s.Leader
		}
		f.mu.Lock()
		var stale []*flight
		for x := range maps.Keys(f.all) {
			if leader := leaders[x.group]; !leader.IsZero() && leader != x.target {
				stale = append(stale, x)
			}
		}
		f.mu.Unlock()
		for _, x := range stale {
			x.cancel()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// Forward runs method on the host that leads g and returns its answer. It waits
// for a leader until ctx ends. A try that certainly did nothing is repeated; so
// is one whose outcome is unknown, with the same body: whoever forwards a
// change puts an id into it under which the leader knows a repetition (R46).
func (h *Host) Forward(ctx context.Context, g id.Group, method string, body []byte) ([]byte, error) {
	w := way{h: h, group: g}
	wait := firstPause
	for {
		changed := h.groups.Changed()
		for range w.hosts() { // at most one round over all before a pause
			target, ok := w.next()
			if !ok {
				break
			}
			reply, err := h.try(ctx, target, g, method, body)
			if err == nil {
				return reply, nil
			}
			if ctx.Err() != nil {
				w.note(err)
				return nil, w.giveUp(ctx)
			}
			if !w.note(err) {
				return nil, err
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, w.giveUp(ctx)
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
		wait = min(2*wait, lastPause)
	}
}

// try runs one call. Calls to this host take the short way.
func (h *Host) try(ctx context.Context, target id.UUID, g id.Group, method string, body []byte) ([]byte, error) {
	if target == h.Self() {
		fn := h.handlers.get(method)
		if fn == nil {
			return nil, fmt.Errorf("no such call: %s", method)
		}
		return fn(ctx, target, g, body)
	}
	tried, cancel := context.WithTimeout(ctx, tryTime)
	x := &flight{group: g, target: target, cancel: cancel}
	h.flights.add(x)
	defer func() {
		h.flights.remove(x)
		cancel()
	}()
	req := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(g))
	reply, err := h.net.Call(tried, target, callPrefix+method, append(req, body...))
	if err != nil {
		return nil, err
	}
	return decodeReply(g, reply)
}

// way finds the leader of one group for one request.
type way struct {
	h     *Host
	group id.Group
	hint  id.UUID // whom the last refusal named
	asked int     // members asked in turn
	mayBe bool    // some try may have run
	last  error
}

// hosts returns the data members' directories, this host first if it is one.
func (w *way) hosts() []id.UUID {
	g, _ := w.h.View().Group(w.group)
	var out []id.UUID
	for _, m := range g.Data() {
		out = append(out, m.UUID)
	}
	if w.group == id.Mnode && len(out) == 0 {
		out = append(out, w.h.Self())
	}
	return out
}

// next picks whom to ask: the one that a refusal has just named, the leader
// that this host sees, or one member after the other.
func (w *way) next() (id.UUID, bool) {
	if !w.hint.IsZero() {
		u := w.hint
		w.hint = id.UUID{}
		return u, true
	}
	if s, ok := w.h.groups.Status(w.group); ok && !s.Leader.IsZero() {
		return s.Leader, true
	}
	members := w.hosts()
	if len(members) == 0 {
		return id.UUID{}, false
	}
	u := members[w.asked%len(members)]
	w.asked++
	return u, true
}

// note takes the failure of a try and reports whether another one is in order.
func (w *way) note(err error) bool {
	var notLeader *consensus.NotLeaderError
	switch {
	case errors.As(err, &notLeader):
		if notLeader.Leader != w.h.Self() {
			w.hint = notLeader.Leader
		}
	case errors.Is(err, consensus.ErrLost), errors.Is(err, errAgain), errors.Is(err, consensus.ErrStopped),
		errors.Is(err, consensus.ErrNoGroup), errors.Is(err, peer.ErrUnreachable), errors.Is(err, peer.ErrBusy),
		errors.Is(err, peer.ErrNoMethod):
	case errors.Is(err, consensus.ErrUnknownOutcome), errors.Is(err, peer.ErrBroken),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		w.mayBe = true
	case w.mayBe && (errors.Is(err, consensus.ErrBusy) || errors.Is(err, consensus.ErrDiskFull)):
		// This try did nothing, which says nothing about the earlier one.
	default:
		return false
	}
	w.last = err
	return true
}

// giveUp says what is known when ctx has ended.
func (w *way) giveUp(ctx context.Context) error {
	g, _ := w.h.View().Group(w.group)
	e := &NoMasterError{Group: w.group, CutOff: w.h.cutOff(), Waits: w.h.waitsFor(g), Err: w.last}
	switch {
	case w.mayBe:
		e.Err = fmt.Errorf("%w: %w", consensus.ErrUnknownOutcome, w.last)
	case w.last == nil:
		e.Err = context.Cause(ctx)
	}
	return e
}

// cutOff reports whether there are other members and none of them is linked.
func (h *Host) cutOff() bool {
	links := h.linked()
	others := false
	for _, d := range h.View().Live() {
		if d.UUID.IsZero() || d.UUID == h.Self() {
			continue
		}
		if links[d.UUID] {
			return false
		}
		others = true
	}
	if arb := h.View().Arbitrator.UUID; links[arb] {
		return false
	}
	return others
}

// linked returns the directories that are connected now.
func (h *Host) linked() map[id.UUID]bool {
	out := map[id.UUID]bool{}
	for _, l := range h.net.Links() {
		if l.State == peer.LinkUp {
			out[l.Remote.UUID] = true
		}
	}
	return out
}
