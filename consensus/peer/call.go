package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// The bounds of the calls on one connection.
const (
	maxRunning  = 256       // calls of the other side that run here at once; more are refused
	maxPending  = 4096      // calls of this side that wait for answers; more are refused
	maxArriving = 256 << 20 // bytes of bodies that have arrived in part; more end the connection
	maxUnread   = 4096      // answers that the other side has not read; it waits for no more than maxPending
	maxMethod   = 64
)

// The same for a guest, which has proved nothing.
const (
	maxGuestRunning  = 1
	maxGuestBody     = 64 << 10
	maxGuestArriving = maxGuestBody
	maxGuestUnread   = 16
	maxGuestFrame    = chunkBytes + 1<<10 // a piece of a body with its header
)

// failure says why a call has no answer. The numbers are part of the wire
// format.
type failure uint8

const (
	failNone     failure = 0
	failHandler  failure = 1 // a CallError follows
	failBusy     failure = 2
	failNoMethod failure = 3
	failTooLarge failure = 4
)

// Flags of a piece of a body.
const (
	pieceFirst = 1
	pieceLast  = 2
)

// outgoing is a body under way to the other side. Owned by the writer once it
// is queued.
type outgoing struct {
	kind   frameType
	id     uint64
	method string  // requests
	fail   failure // replies
	code   uint16  // ... with failHandler
	body   []byte
	sent   int
	begun  bool
}

// arriving is a body of which pieces have come. Owned by the reader.
type arriving struct {
	method string
	fail   failure
	code   uint16
	want   int
	body   []byte
}

// outcome is what a call has come to.
type outcome struct {
	body []byte
	err  error
}

// calls is the state of the calls on one connection.
type calls struct {
	// ---- owned by the reader ----
	requests map[uint64]*arriving
	replies  map[uint64]*arriving
	bytes    int // announced by all of them

	running sync.WaitGroup // handlers

	mu struct {
		sync.Mutex
		last    uint64
		pending map[uint64]chan outcome            // each gets exactly one
		cancels map[uint64]context.CancelCauseFunc // of running handlers
		ended   bool
	}
}

func (s *calls) init() {
	s.requests, s.replies = make(map[uint64]*arriving), make(map[uint64]*arriving)
	s.mu.pending = make(map[uint64]chan outcome)
	s.mu.cancels = make(map[uint64]context.CancelCauseFunc)
}

// end fails the calls of this side and awaits those of the other.
func (s *calls) end() {
	s.mu.Lock()
	pending := s.mu.pending
	s.mu.pending, s.mu.ended = nil, true
	for _, cancel := range s.mu.cancels {
		cancel(ErrBroken)
	}
	s.mu.Unlock()
	for _, answer := range pending {
		answer <- outcome{err: ErrBroken}
	}
	s.running.Wait()
}

// do runs one call over the connection.
func (c *conn) do(ctx context.Context, method string, req []byte) ([]byte, error) {
	if len(req) > MaxBody {
		return nil, fmt.Errorf("call %s with %d bytes: %w", method, len(req), ErrTooLarge)
	}
	if len(method) == 0 || len(method) > maxMethod {
		return nil, fmt.Errorf("call %q: %w", method, ErrNoMethod)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("call %s: %w", method, err)
	}
	answer := make(chan outcome, 1)
	s := &c.calls
	s.mu.Lock()
	if s.mu.ended || len(s.mu.pending) >= maxPending {
		err := ErrUnreachable
		if !s.mu.ended {
			err = ErrBusy
		}
		s.mu.Unlock()
		return nil, fmt.Errorf("call %s: %w", method, err)
	}
	s.mu.last++
	number := s.mu.last
	s.mu.pending[number] = answer
	s.mu.Unlock()
	c.queueBody(&outgoing{kind: frameRequest, id: number, method: method, body: req})
	select {
	case o := <-answer:
		if o.err != nil {
			return nil, fmt.Errorf("call %s: %w", method, o.err)
		}
		return o.body, nil
	case <-ctx.Done():
		s.mu.Lock()
		delete(s.mu.pending, number)
		s.mu.Unlock()
		c.queueControl(control{kind: frameCancel, id: number})
		return nil, fmt.Errorf("call %s: %w", method, context.Cause(ctx))
	}
}

func (c *conn) queueBody(o *outgoing) {
	c.mu.Lock()
	c.mu.chunks = append(c.mu.chunks, o)
	c.mu.Unlock()
	c.signal()
}

func (c *conn) queueControl(s control) {
	c.mu.Lock()
	c.mu.small = append(c.mu.small, s)
	c.mu.Unlock()
	c.signal()
}

// appendChunk appends the next piece of o as a frame.
func (c *conn) appendChunk(buf []byte, o *outgoing) []byte {
	buf, start := begin(buf, o.kind)
	buf = binary.AppendUvarint(buf, o.id)
	piece := o.body[o.sent:min(len(o.body), o.sent+chunkBytes)]
	flags := byte(0)
	if !o.begun {
		flags |= pieceFirst
	}
	if o.sent+len(piece) == len(o.body) {
		flags |= pieceLast
	}
	buf = append(buf, flags)
	if !o.begun {
		if o.kind == frameRequest {
			buf = append(buf, byte(len(o.method)))
			buf = append(buf, o.method...)
		} else {
			buf = append(buf, byte(o.fail))
			if o.fail == failHandler {
				buf = binary.LittleEndian.AppendUint16(buf, o.code)
			}
		}
		buf = binary.AppendUvarint(buf, uint64(len(o.body)))
	}
	buf = append(buf, piece...)
	o.begun, o.sent = true, o.sent+len(piece)
	return c.seal.end(buf, start)
}

// unread is how much of what calls have queued is not written yet.
func (c *conn) unread() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.mu.small) + len(c.mu.chunks)
}

// callFrame handles a frame of a call.
func (c *conn) callFrame(kind frameType, payload []byte) error {
	if kind == frameRequest && c.unread() > c.bounds().unread {
		return errUnread
	}
	d := decoder{b: payload}
	number := d.uvarint()
	if kind == frameCancel {
		if d.err == nil {
			c.cancel(number)
		}
		return d.err
	}
	bodies := c.calls.requests
	if kind == frameReply {
		bodies = c.calls.replies
	}
	a, last, err := c.piece(&d, kind, bodies, number)
	if err != nil || !last {
		return err
	}
	delete(bodies, number)
	c.calls.bytes -= a.want
	if kind == frameReply {
		c.settle(number, a)
	} else {
		c.start(number, a)
	}
	return nil
}

// piece adds a piece to its body.
func (c *conn) piece(d *decoder, kind frameType, bodies map[uint64]*arriving, number uint64) (a *arriving, last bool, err error) {
	flags := d.flags(2)
	a = bodies[number]
	if (flags&pieceFirst != 0) != (a == nil) {
		return nil, false, fmt.Errorf("piece of call %d out of turn", number)
	}
	if a == nil {
		a = new(arriving)
		if kind == frameRequest {
			a.method = string(d.bytes(min(uint64(d.byte()), maxMethod)))
		} else if a.fail = failure(d.byte()); a.fail == failHandler {
			a.code = uint16(d.byte()) | uint16(d.byte())<<8
		}
		want := d.uvarint()
		bounds := c.bounds()
		if want > bounds.body {
			return nil, false, fmt.Errorf("body of %d bytes: at most %d", want, bounds.body)
		}
		a.want = int(want)
		if c.calls.bytes += a.want; c.calls.bytes > bounds.arriving || len(bodies) >= bounds.pending {
			return nil, false, fmt.Errorf("%d bytes in %d bodies under way", c.calls.bytes, len(bodies))
		}
		bodies[number] = a
	}
	if d.err != nil {
		return nil, false, d.err
	}
	last = flags&pieceLast != 0
	if n := len(a.body) + len(d.b); n > a.want || last != (n == a.want) {
		return nil, false, fmt.Errorf("body of call %d has %d bytes of %d", number, n, a.want)
	}
	if last && a.body == nil {
		a.body = d.b // all in one piece
	} else {
		if a.body == nil {
			a.body = make([]byte, 0, a.want) // within bounds.arriving
		}
		a.body = append(a.body, d.b...)
	}
	return a, last, nil
}

// bounds are what the other side may make this one hold.
type bounds struct {
	body     uint64 // bytes of one
	arriving int    // bytes of those that have come in part
	pending  int    // of those
	unread   int    // answers
}

func (c *conn) bounds() bounds {
	if c.guest() {
		return bounds{maxGuestBody, maxGuestArriving, maxGuestRunning, maxGuestUnread}
	}
	return bounds{MaxBody, maxArriving, maxPending, maxUnread}
}

// guest reports whether the other side is one, and this side the host.
func (c *conn) guest() bool { return c.remote.Cluster == 0 && c.addr == "" }

// settle hands an answer to its caller, if it still waits.
func (c *conn) settle(number uint64, a *arriving) {
	s := &c.calls
	s.mu.Lock()
	answer := s.mu.pending[number]
	delete(s.mu.pending, number)
	s.mu.Unlock()
	if answer == nil {
		return
	}
	var o outcome
	switch a.fail {
	case failNone:
		o.body = a.body
	case failHandler:
		o.err = &CallError{Code: a.code, Text: string(a.body)}
	case failBusy:
		o.err = ErrBusy
	case failNoMethod:
		o.err = ErrNoMethod
	case failTooLarge:
		o.err = ErrTooLarge
	default:
		o.err = fmt.Errorf("%w (unknown failure %d)", ErrBroken, a.fail)
	}
	answer <- o
}

// start runs the handler of a call that has arrived, in a goroutine that the
// connection awaits before it ends.
func (c *conn) start(number uint64, a *arriving) {
	h, ok := c.host.methods[a.method]
	limit, guest := maxRunning, c.remote.Cluster == 0 // on either side
	if guest {
		limit = maxGuestRunning
	}
	if !ok || guest && !h.open {
		c.queueControl(control{frameReply, number, failNoMethod})
		return
	}
	s := &c.calls
	ctx, cancel := context.WithCancelCause(context.Background()) // the caller is on another host
	s.mu.Lock()
	_, twice := s.mu.cancels[number]
	busy := len(s.mu.cancels) >= limit || twice
	if !busy {
		s.mu.cancels[number] = cancel
	}
	s.mu.Unlock()
	if busy {
		cancel(nil)
		c.queueControl(control{frameReply, number, failBusy})
		return
	}
	from := c.remote.UUID
	if guest {
		from = id.UUID{}
	}
	s.running.Go(func() {
		body, err := h.run(ctx, from, a.body)
		cancel(nil)
		s.mu.Lock()
		delete(s.mu.cancels, number)
		s.mu.Unlock()
		c.queueBody(reply(number, body, err))
	})
}

// reply makes the answer of a call out of what its handler returned.
func reply(number uint64, body []byte, err error) *outgoing {
	o := &outgoing{kind: frameReply, id: number, body: body}
	var refusal *CallError
	switch {
	case errors.As(err, &refusal):
		o.fail, o.code, o.body = failHandler, refusal.Code, []byte(refusal.Text)
	case err != nil:
		o.fail, o.body = failHandler, []byte(err.Error())
	case len(body) > MaxBody:
		o.fail, o.body = failTooLarge, nil
	}
	return o
}

// cancel ends the context of a handler whose caller gave up.
func (c *conn) cancel(number uint64) {
	c.calls.mu.Lock()
	cancel := c.calls.mu.cancels[number]
	c.calls.mu.Unlock()
	if cancel != nil {
		cancel(context.Canceled)
	}
}
