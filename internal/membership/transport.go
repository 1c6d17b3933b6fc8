package membership

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// The bounds of what strangers can make this host hold.
const (
	maxPacket      = 2 << 10  // a packet above it is none of ours
	maxStreams     = 16       // accepted; beyond, the oldest is closed: an honest exchange takes milliseconds
	maxStreamBytes = 64 << 10 // read from one: the states of a hundred hosts
	retryAccept    = 100 * time.Millisecond
)

// Ports are the sockets of gossip: one number, TCP and UDP.
type Ports struct {
	tcp net.Listener
	udp net.PacketConn
}

// Listen takes the port before anything has begun, so that one that is in use
// is said at once.
func Listen(addr string) (*Ports, error) {
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for gossip on %s (gossipPort, TCP): %w", addr, err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		tcp.Close()
		return nil, fmt.Errorf("listen for gossip on %s (gossipPort, UDP): %w", addr, err)
	}
	return &Ports{tcp: tcp, udp: udp}, nil
}

// Addr is what the ports are bound to.
func (p *Ports) Addr() netip.AddrPort {
	at := p.tcp.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// Close gives the port back. It may be called twice.
func (p *Ports) Close() { _ = errors.Join(p.tcp.Close(), p.udp.Close()) } // nothing is left to lose

// transport carries memberlist's messages over Ports. What strangers send costs
// a bounded amount of memory.
type transport struct {
	ports     *Ports
	advertise netip.AddrPort
	dial      func(addr string, within time.Duration) (net.Conn, error)
	packets   chan *memberlist.Packet // unbuffered: the socket's buffer is the queue, the kernel drops beyond it
	streams   chan net.Conn
	done      chan struct{} // closed by Shutdown
	readers   sync.WaitGroup

	mu struct {
		sync.Mutex
		closed bool
		open   []*stream // accepted and not closed, oldest first
	}
}

// newTransport starts to read from ports. Its dials end with ctx; Shutdown ends
// the rest.
func newTransport(ctx context.Context, ports *Ports, advertise netip.AddrPort) *transport {
	t := &transport{
		ports: ports, advertise: advertise,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), done: make(chan struct{}),
	}
	t.dial = func(addr string, within time.Duration) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
	t.readers.Go(t.readPackets)
	t.readers.Go(t.acceptStreams)
	return t
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("gossip to %q: %w", addr, err)
	}
	_, err = t.ports.udp.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return time.Now(), err
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, within time.Duration) (net.Conn, error) {
	return t.dial(addr, within)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, within time.Duration) (net.Conn, error) {
	return t.dial(a.Addr, within)
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() error {
	t.close()
	return nil
}

// close ends everything and waits for it. It may be called twice.
func (t *transport) close() {
	t.mu.Lock()
	open := slices.Clone(t.mu.open)
	if !t.mu.closed {
		t.mu.closed = true
		close(t.done)
	}
	t.mu.Unlock()
	t.ports.Close()
	for _, s := range open {
		_ = s.Conn.Close() // its reader is told
	}
	t.readers.Wait()
}

// readPackets hands packets on until the socket is closed.
func (t *transport) readPackets() {
	buffer := make([]byte, maxPacket+1)
	for {
		n, from, err := t.ports.udp.ReadFrom(buffer)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil || n == 0 || n > maxPacket:
			continue // an error tells of a packet that this host has sent to nobody
		}
		p := &memberlist.Packet{Buf: slices.Clone(buffer[:n]), From: from, Timestamp: time.Now()}
		select {
		case t.packets <- p:
		case <-t.done:
			return
		}
	}
}

// acceptStreams hands connections on until the socket is closed.
func (t *transport) acceptStreams() {
	for {
		c, err := t.ports.tcp.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of file descriptors, most likely: those in use will end
			select {
			case <-t.done:
				return
			case <-time.After(retryAccept):
			}
			continue
		}
		s := &stream{Conn: c, transport: t, left: io.LimitedReader{R: c, N: maxStreamBytes}}
		if !t.enter(s) {
			continue
		}
		select {
		case t.streams <- s:
		case <-t.done:
			_ = s.Close() // nobody has seen it
			return
		}
	}
}

// enter notes a stream; the oldest one goes when there are too many.
func (t *transport) enter(s *stream) bool {
	t.mu.Lock()
	var oldest net.Conn
	ok := !t.mu.closed
	if ok && len(t.mu.open) >= maxStreams {
		oldest = t.mu.open[0].Conn
		t.mu.open = slices.Delete(t.mu.open, 0, 1)
	}
	if ok {
		t.mu.open = append(t.mu.open, s)
	} else {
		oldest = s.Conn
	}
	t.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close() // its reader is told
	}
	return ok
}

// stream is an accepted connection that can be read only so far.
type stream struct {
	net.Conn
	transport *transport
	left      io.LimitedReader
}

// Read reads up to the bound; beyond it the stream is at its end.
func (s *stream) Read(b []byte) (int, error) { return s.left.Read(b) }

// Close closes the connection and makes room for another.
func (s *stream) Close() error {
	t := s.transport
	t.mu.Lock()
	if i := slices.Index(t.mu.open, s); i >= 0 {
		t.mu.open = slices.Delete(t.mu.open, i, i+1)
	}
	t.mu.Unlock()
	return s.Conn.Close()
}
