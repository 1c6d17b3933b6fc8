package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// fakeNet is a network in memory, for bubbles of synctest. A cut address
// answers nothing, a closed one refuses.
type fakeNet struct {
	mu        sync.Mutex
	listeners map[string]*fakeListener
	cut       map[string]bool
	dying     map[string]int // so many more connections are taken by nobody and hung up, every other after 60 ms
	pipes     []*fakePipe
}

func newFakeNet() *fakeNet {
	return &fakeNet{listeners: make(map[string]*fakeListener), cut: make(map[string]bool), dying: make(map[string]int)}
}

type fakeListener struct {
	net  *fakeNet
	addr string
	in   chan net.Conn
	done chan struct{}
	once sync.Once
}

func (n *fakeNet) listen(addr string) *fakeListener {
	l := &fakeListener{net: n, addr: addr, in: make(chan net.Conn), done: make(chan struct{})}
	n.mu.Lock()
	n.listeners[addr] = l
	n.mu.Unlock()
	return l
}

func (l *fakeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.in:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *fakeListener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.net.mu.Lock()
		if l.net.listeners[l.addr] == l {
			delete(l.net.listeners, l.addr)
		}
		l.net.mu.Unlock()
	})
	return nil
}

func (l *fakeListener) Addr() net.Addr { return &net.TCPAddr{} }

var errConnRefused = &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

func (n *fakeNet) dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	l, cut, dying := n.listeners[addr], n.cut[addr], n.dying[addr] > 0
	if dying {
		n.dying[addr]--
	}
	left := n.dying[addr]
	n.mu.Unlock()
	if dying {
		a, b := net.Pipe()
		time.AfterFunc(time.Duration(left%2)*60*time.Millisecond, func() { b.Close() })
		return a, nil
	}
	if cut {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if l == nil {
		return nil, errConnRefused
	}
	a, b := net.Pipe()
	pipe := &fakePipe{Conn: a, net: n, addr: addr}
	n.mu.Lock()
	n.pipes = append(n.pipes, pipe)
	n.mu.Unlock()
	select {
	case l.in <- &fakePipe{Conn: b, net: n, addr: addr}:
		return pipe, nil
	case <-l.done:
		return nil, errConnRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// setCut cuts the way to an address: its connections swallow what is written.
func (n *fakeNet) setCut(addr string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[addr] = cut
}

// fakePipe is one end of a connection; while its address is cut it loses what
// is written.
type fakePipe struct {
	net.Conn
	net  *fakeNet
	addr string
}

func (p *fakePipe) Write(b []byte) (int, error) {
	p.net.mu.Lock()
	cut := p.net.cut[p.addr]
	p.net.mu.Unlock()
	if cut {
		return len(b), nil
	}
	return p.Conn.Write(b)
}

// ---- members ----

var testSecret = Secret{1, 2, 3}

const testCluster = id.Cluster(77)

func uuidOf(n byte) id.UUID { return id.UUID{n} }

// member is one Net of a test and what it was told.
type member struct {
	*Net
	addr string
	stop func()

	mu     sync.Mutex
	got    []Message
	states []string
	lines  []string // logged
}

// Write takes one line of the log.
func (m *member) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines = append(m.lines, string(b))
	return len(b), nil
}

// join starts a Net on the fake network. change may adapt its Config.
func (n *fakeNet) join(t *testing.T, number byte, self Identity, change func(*Config)) *member {
	t.Helper()
	m := &member{addr: fmt.Sprintf("host%d:6030", number)}
	cfg := Config{
		UUID: uuidOf(number), Addr: m.addr, Dial: n.dial,
		OnFrame: func(_ Remote, _ Class, msgs []Message) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.got = append(m.got, msgs...)
		},
		OnLink: func(r Remote, s LinkState) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.states = append(m.states, fmt.Sprintf("%d %v", r.UUID[0], s))
		},
	}
	if change != nil {
		change(&cfg)
	}
	m.Net = NewNet(cfg, self, slog.New(slog.NewTextHandler(m, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	m.stop = func() {
		cancel()
		<-done
	}
	m.Handle("echo", false, func(_ context.Context, _ id.UUID, req []byte) ([]byte, error) { return req, nil })
	m.Handle("hello", true, func(_ context.Context, from id.UUID, req []byte) ([]byte, error) {
		return fmt.Appendf(nil, "%v %s", from.IsZero(), req), nil
	})
	m.Handle("refuse", false, func(context.Context, id.UUID, []byte) ([]byte, error) {
		return nil, fmt.Errorf("wrapped: %w", &CallError{Code: 0x0334, Text: "more dnodes are needed"})
	})
	m.Handle("wait", false, func(ctx context.Context, _ id.UUID, _ []byte) ([]byte, error) {
		<-ctx.Done()
		m.mu.Lock()
		m.states = append(m.states, "handler: "+context.Cause(ctx).Error())
		m.mu.Unlock()
		return nil, context.Cause(ctx)
	})
	l := n.listen(m.addr)
	go func() {
		defer close(done)
		_ = m.Run(ctx, l)
	}()
	return m
}

func (m *member) told() []string {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.states
	m.states = nil
	return out
}

func (m *member) received() []Message {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.got
	m.got = nil
	return out
}

// linked returns hosts 1 and 2, which know each other.
func linked(t *testing.T, n *fakeNet) (a, b *member) {
	t.Helper()
	self := Identity{Cluster: testCluster, Host: 1, Secret: testSecret}
	a = n.join(t, 1, self, nil)
	self.Host = 2
	b = n.join(t, 2, self, nil)
	a.SetPeers([]Peer{{UUID: uuidOf(2), Addrs: []string{b.addr}}})
	b.SetPeers([]Peer{{UUID: uuidOf(1), Addrs: []string{a.addr}}})
	return a, b
}

// callErr runs a call whose error is wanted.
func callErr(m *member, to byte, method string) error {
	_, err := m.Call(context.Background(), uuidOf(to), method, nil)
	if err == nil {
		return errors.New("no error")
	}
	return err
}
