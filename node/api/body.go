package api

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// The ways in which a body can't be taken.
var (
	// ErrBodyTooLong means that one request is longer than the limit.
	ErrBodyTooLong = errors.New("request body is too long")
	// ErrBody means that a body can't be read or decompressed.
	ErrBody = errors.New("unreadable body")
	// ErrOverloaded means that all requests in hand are too many bytes.
	ErrOverloaded = errors.New("too many requests are being served, try again")
)

var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxKeptBody bounds the buffers that the pool keeps, so that one long
// statement does not hold its memory for ever.
const maxKeptBody = 256 << 10

// Body is the body of one request in memory. It counts against the limit of
// all bodies until it is released.
type Body struct {
	server *Server
	buffer *bytes.Buffer
	held   int64
}

// ReadBody reads the body of r, decompressing it if it says so. The caller
// releases what it gets, and then no longer looks at its bytes.
func (s *Server) ReadBody(r *http.Request) (*Body, error) {
	// A body of unknown length counts as the longest; it is corrected below.
	held := r.ContentLength
	if held < 0 || r.Header.Get("Content-Encoding") != "" {
		held = s.config.MaxBodyBytes
	}
	if held > s.config.MaxBodyBytes {
		drain(r)
		return nil, ErrBodyTooLong
	}
	if s.queuedBytes.Add(held) > s.config.MaxQueuedBytes {
		s.queuedBytes.Add(-held)
		return nil, ErrOverloaded
	}
	b := &Body{server: s, buffer: bodies.Get().(*bytes.Buffer), held: held}
	if err := b.read(r, s.config.MaxBodyBytes); err != nil {
		b.Release()
		if errors.Is(err, ErrBodyTooLong) {
			drain(r)
		}
		return nil, err
	}
	excess := b.held - int64(b.buffer.Len())
	b.held -= excess
	s.queuedBytes.Add(-excess)
	return b, nil
}

// maxDrained is how much of a body that is too long is read all the same.
const maxDrained = 16 << 20

// drain reads what a client still sends: one that writes everything before it
// reads would find its connection reset, and no answer. A client that waits to
// be told to go on needs none of it.
func drain(r *http.Request) {
	if r.Header.Get("Expect") == "" {
		_, _ = io.CopyN(io.Discard, r.Body, maxDrained) // the answer says what is wrong, not this
	}
}

func (b *Body) read(r *http.Request, limit int64) error {
	var from io.Reader = r.Body
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return fmt.Errorf("%w: gzip: %w", ErrBody, err)
		}
		from = z
	default:
		return fmt.Errorf("%w: encoding %q is not supported, send gzip or none", ErrBody, encoding)
	}
	n, err := b.buffer.ReadFrom(io.LimitReader(from, limit+1))
	if n > limit {
		return ErrBodyTooLong
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBody, err)
	}
	return nil
}

// Bytes is the body. It is valid until Release.
func (b *Body) Bytes() []byte { return b.buffer.Bytes() }

// Release gives the memory back.
func (b *Body) Release() {
	b.server.queuedBytes.Add(-b.held)
	if b.buffer.Cap() <= maxKeptBody {
		b.buffer.Reset()
		bodies.Put(b.buffer)
	}
	b.buffer = nil
}
