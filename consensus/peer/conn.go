package peer

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// The sizes of what is written at once. Frames are cut well below the
// receiver's limits; what is queued meanwhile goes out in one write.
const (
	cutMessages  = 8 << 10   // messages in a frame
	cutBeats     = 32 << 10  // bytes after which a Beats frame is closed
	cutBulk      = 256 << 10 // ... a Bulk frame
	chunkBytes   = 64 << 10  // of a call's body in a frame, so that calls take turns
	batchBytes   = 256 << 10 // about how much goes out in one write
	keepBuffer   = 1 << 20   // a larger write buffer is given back
	queueBeats   = 1 << 20   // bytes that may wait to be written
	queueBulk    = 64 << 20
	silentRounds = 4 // keep-alive rounds without a byte until a connection is given up
)

// Keep-alive rounds: how often a silent side says that it is alive. An
// arbitrator has thousands of connections and is told of trouble by the hosts.
const (
	keepAlive           = time.Second
	keepAliveArbitrator = 5 * time.Second
)

// unheardWithin is how long what was sent may go without the other side's kernel
// confirming it. The rounds of an arbitrator are long, but whoever has something
// to ask it, because the other host has died, must not sit on a dead connection
// for as long.
const unheardWithin = silentRounds * keepAlive

var (
	errSilent   = errors.New("the other side has been silent for too long")
	errReplaced = errors.New("replaced by a newer connection")
	errUnread   = errors.New("the other side asks and does not read the answers")
	errClosed   = errors.New("closed by this side")
)

// conn is one connection with a proved identity. Its reader and its writer are
// the two goroutines that serve starts and awaits.
type conn struct {
	net.Conn
	session
	host    *Net
	addr    string // as dialled; empty when accepted
	buf     *bufio.Reader
	round   time.Duration // between keep-alives
	sent    atomic.Uint64 // bytes
	got     atomic.Uint64
	calls   calls
	done    chan struct{} // closed when both goroutines have ended
	closing chan struct{} // closed by fail

	finishing chan struct{} // closed by finish
	finish    func()        // ends the connection once everything queued is written

	mu struct {
		sync.Mutex
		queue  []queued
		bytes  int         // estimated, of queue
		chunks []*outgoing // bodies of calls, sent in turns
		small  []control
		err    error // why it ended
	}
	wake chan struct{} // capacity 1: something is queued
}

// queued is a frame that waits to be written.
type queued struct {
	msgs  []Message
	bytes int // estimated
}

// control is a frame without a body: of a call, or how far this side's log has
// come.
type control struct {
	kind frameType
	id   uint64 // of the call; the sequence
	fail failure
}

func newConn(n *Net, nc net.Conn, s session, addr string, arbitrator bool) *conn {
	c := &conn{
		Conn: nc, session: s, host: n, addr: addr, round: keepAlive,
		done: make(chan struct{}), closing: make(chan struct{}), finishing: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	if arbitrator && s.remote.Cluster != 0 {
		c.round = keepAliveArbitrator
	}
	size := 2 << 10 // an arbitrator has thousands
	if s.class != Beats {
		size = 16 << 10 // what is larger is read past the buffer
	}
	c.buf = bufio.NewReaderSize(countingReader{nc, &c.got}, size)
	c.finish = sync.OnceFunc(func() { close(c.finishing) })
	if s.class == classCalls {
		c.calls.init()
	}
	return c
}

// fail ends the connection. The first reason stays.
func (c *conn) fail(err error) {
	c.mu.Lock()
	first := c.mu.err == nil
	if first {
		c.mu.err = err
		close(c.closing)
	}
	c.mu.Unlock()
	if first {
		c.Close()
	}
}

func (c *conn) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.err
}

// serve reads and writes until the connection ends, and returns why. Nothing of
// it is delivered after serve has returned.
func (c *conn) serve() error {
	var writer sync.WaitGroup
	writer.Go(func() { c.fail(c.write()) })
	c.fail(c.read())
	writer.Wait()
	c.calls.end()
	close(c.done)
	return c.err()
}

// push queues messages as one frame. False: the queue is full or the connection
// has ended; the newest frame is the one that is dropped, because older ones
// are nearer to being of use.
func (c *conn) push(msgs []Message) bool {
	size, limit := estimate(msgs), queueBulk
	if c.class == Beats {
		limit = queueBeats
	}
	c.mu.Lock()
	ok := c.mu.err == nil && (c.mu.bytes+size <= limit || c.mu.bytes == 0)
	if ok {
		c.mu.queue = append(c.mu.queue, queued{msgs, size})
		c.mu.bytes += size
	}
	c.mu.Unlock()
	if ok {
		c.signal()
	}
	return ok
}

func (c *conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// estimate says about how many bytes msgs will take on the wire.
func estimate(msgs []Message) int {
	n := 0
	for i := range msgs {
		n += 32
		if r := msgs[i].Raft; r != nil {
			for _, e := range r.GetEntries() {
				n += 4 + len(e.GetData())
			}
			n += len(r.GetSnapshot().GetData()) + len(r.GetContext())
		} else if f := msgs[i].Feed; f != nil {
			n += 8 * len(f.Runs)
		}
	}
	return n
}

// ---- writer ----

// write sends what is queued until the connection ends. All that waits goes out
// in one write.
func (c *conn) write() error {
	tick := time.NewTicker(c.round)
	defer tick.Stop()
	var buf []byte
	var deadline time.Time
	silent, heard := 0, uint64(0)
	for {
		var err error
		if buf, err = c.fill(buf[:0]); err != nil {
			return err
		}
		if len(buf) == 0 {
			select {
			case <-c.finishing:
				return errClosed
			default:
			}
			select {
			case <-c.finishing:
				continue // and look once more for what is queued
			case <-c.wake:
				continue
			case <-c.closing:
				return errClosed
			case <-tick.C:
			}
			if got := c.got.Load(); got != heard {
				silent, heard = 0, got
			} else if silent++; silent >= silentRounds {
				return errSilent
			}
			buf, _ = begin(buf, frameNop)
			buf = c.seal.end(buf, 0)
		}
		// Who stops reading is given up like who stops writing. Setting a
		// deadline is not free, so it is done once a round.
		if now := time.Now(); deadline.Sub(now) < (silentRounds-1)*c.round {
			deadline = now.Add(silentRounds * c.round)
			if err := c.SetWriteDeadline(deadline); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
		if _, err := c.Write(buf); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		c.sent.Add(uint64(len(buf)))
		if cap(buf) > keepBuffer {
			buf = nil
		}
	}
}

// fill appends the frames of what is queued, and of calls' bodies one chunk
// each in turn, up to a batch.
func (c *conn) fill(buf []byte) ([]byte, error) {
	queue, small, chunks := c.takeBatch()
	for _, s := range small {
		buf = c.appendControl(buf, s)
	}
	for _, q := range queue {
		var err error
		if buf, err = c.appendMessages(buf, q.msgs); err != nil {
			return buf, err
		}
	}
	finished := 0
	for len(buf) < batchBytes && finished < len(chunks) {
		for _, o := range chunks {
			if o.sent < len(o.body) || !o.begun {
				if buf = c.appendChunk(buf, o); o.sent == len(o.body) {
					finished++
				}
			}
		}
	}
	if finished > 0 {
		c.forgetFinished()
	}
	return buf, nil
}

// takeBatch takes frames of about a batch from the queue.
func (c *conn) takeBatch() (queue []queued, small []control, chunks []*outgoing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, size := 0, 0
	for n < len(c.mu.queue) && size < batchBytes {
		size += c.mu.queue[n].bytes
		n++
	}
	queue = c.mu.queue[:n:n]
	if c.mu.queue = c.mu.queue[n:]; len(c.mu.queue) == 0 {
		c.mu.queue = nil
	}
	c.mu.bytes -= size
	small, c.mu.small = c.mu.small, nil
	return queue, small, c.mu.chunks
}

// forgetFinished removes the bodies that are sent, in order. New ones may have
// been queued behind them meanwhile.
func (c *conn) forgetFinished() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var rest []*outgoing
	for _, o := range c.mu.chunks {
		if !o.begun || o.sent < len(o.body) {
			rest = append(rest, o)
		}
	}
	c.mu.chunks = rest
}

// appendMessages appends msgs as one frame, or as several where one would be
// too long for the receiver.
func (c *conn) appendMessages(buf []byte, msgs []Message) ([]byte, error) {
	cut := cutBulk
	if c.class == Beats {
		cut = cutBeats
	}
	for len(msgs) > 0 {
		n, size := 0, 0
		for n < len(msgs) && n < cutMessages && (n == 0 || size+estimate(msgs[n:n+1]) <= cut) {
			size += estimate(msgs[n : n+1])
			n++
		}
		var start int
		buf, start = begin(buf, frameMessages)
		buf = AppendMessages(buf, msgs[:n])
		if len(buf)-start-headerBytes > frameLimit(c.class) {
			return buf, fmt.Errorf("message to group %d of %d bytes is too large to send", msgs[0].Group, len(buf)-start)
		}
		buf = c.seal.end(buf, start)
		msgs = msgs[n:]
	}
	return buf, nil
}

// ---- reader ----

// read delivers what comes until the connection ends.
func (c *conn) read() error {
	limit := frameLimit(c.class)
	if c.guest() {
		limit = maxGuestFrame
	}
	for {
		kind, payload, err := c.open.readFrame(c.buf, limit)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		switch kind {
		case frameNop:
		case frameMessages:
			if c.class == classCalls {
				return errors.New("read: messages on a connection for calls")
			}
			msgs, err := DecodeMessages(payload)
			if err != nil {
				return fmt.Errorf("decode frame: %w", err)
			}
			if f := c.host.cfg.OnFrame; f != nil {
				f(c.remote, c.class, msgs)
			}
		case frameSequence:
			if err := c.sequence(payload); err != nil {
				return fmt.Errorf("decode sequence: %w", err)
			}
		case frameRequest, frameReply, frameCancel:
			if c.class != classCalls {
				return errors.New("read: a call on a connection for messages")
			}
			if err := c.callFrame(kind, payload); err != nil {
				return fmt.Errorf("decode call: %w", err)
			}
		default:
			return fmt.Errorf("read: unknown frame %d", kind)
		}
	}
}

// sequence hands on how far the other side's log has come.
func (c *conn) sequence(payload []byte) error {
	if c.remote.Cluster == 0 || c.class != Beats {
		return fmt.Errorf("not on a connection of class %d of cluster %d", c.class, c.remote.Cluster)
	}
	d := decoder{b: payload}
	sequence := d.uvarint()
	if d.err != nil || len(d.b) > 0 {
		return cmp.Or(d.err, fmt.Errorf("%d bytes too many", len(d.b)))
	}
	if f := c.host.cfg.OnSequence; f != nil {
		f(c.remote, sequence)
	}
	return nil
}

// countingReader counts the bytes that come in.
type countingReader struct {
	net.Conn
	n *atomic.Uint64
}

func (r countingReader) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.n.Add(uint64(n))
	return n, err
}

// appendControl appends a frame without a body.
func (c *conn) appendControl(buf []byte, s control) []byte {
	buf, start := begin(buf, s.kind)
	buf = binary.AppendUvarint(buf, s.id)
	if s.kind == frameReply {
		buf = append(buf, pieceFirst|pieceLast, byte(s.fail))
		buf = binary.AppendUvarint(buf, 0)
	}
	return c.seal.end(buf, start)
}
