package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// onTCP runs a Net on loopback until the test ends or stop is called.
func onTCP(t *testing.T, cfg Config, self Identity, log *slog.Logger) (n *Net, addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	cfg.Addr = addr
	n = NewNet(cfg, self, log)
	n.Handle("echo", true, func(_ context.Context, _ id.UUID, req []byte) ([]byte, error) { return req, nil })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.Run(ctx, l)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	return n, addr, stop
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// On a real network: messages in order, large calls, and a process that has
// ended is told from a wire that is cut.
func TestOverTCP(t *testing.T) {
	var mu sync.Mutex
	var states []LinkState
	var groups []id.Group
	self := Identity{Cluster: testCluster, Host: 1, Secret: testSecret}
	a, addrA, _ := onTCP(t, Config{UUID: uuidOf(1), OnLink: func(_ Remote, s LinkState) {
		mu.Lock()
		defer mu.Unlock()
		states = append(states, s)
	}}, self, quiet())
	self.Host = 2
	b, addrB, stopB := onTCP(t, Config{UUID: uuidOf(2), OnFrame: func(_ Remote, _ Class, msgs []Message) {
		mu.Lock()
		defer mu.Unlock()
		for i := range msgs {
			groups = append(groups, msgs[i].Group)
		}
	}}, self, quiet())
	a.SetPeers([]Peer{{UUID: uuidOf(2), Addrs: []string{addrB}}})
	b.SetPeers([]Peer{{UUID: uuidOf(1), Addrs: []string{addrA}}})
	eventually(t, "all connections", func() bool {
		l := a.Links()
		return len(l) == 1 && l[0].Classes == [3]bool{true, true, true}
	})
	const many = 20000
	for g := range id.Group(many) {
		eventually(t, "room in the queue", func() bool { return a.Send(uuidOf(2), Bulk, beat(g)) })
	}
	eventually(t, "all messages", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(groups) == many
	})
	if !slices.IsSorted(groups) {
		t.Error("messages of one connection came out of order")
	}
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<19)
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			if got, err := a.Call(t.Context(), uuidOf(2), "echo", body); err != nil || !bytes.Equal(got, body) {
				t.Errorf("echo of 8 MiB: %d bytes, %v", len(got), err)
			}
		})
	}
	calls.Wait()
	stopB()
	eventually(t, "refused", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Equal(states, []LinkState{LinkUp, LinkRefused})
	})
}

// counter counts log lines.
type counter struct {
	mu    sync.Mutex
	lines []string
}

func (c *counter) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, string(b))
	return len(b), nil
}

// Strangers are shown the door, with one line in the log for all of them, and
// do not keep an honest host out.
func TestGarbage(t *testing.T) {
	var logged counter
	start := time.Now()
	n, addr, _ := onTCP(t, Config{UUID: uuidOf(1)}, Identity{Cluster: testCluster, Secret: testSecret}, slog.New(slog.NewTextHandler(&logged, nil)))
	for _, garbage := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "TARB\x01\x00\xff\xff", strings.Repeat("\x00", 4096)} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, garbage)
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, err = c.Read(make([]byte, 1))
		var timeout net.Error
		if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("after %.8q: %v, want a closed connection", garbage, err)
		}
		c.Close()
	}
	var silent []net.Conn // they say nothing at all
	for range 3 * maxUnproved {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, c)
	}
	guest := NewNet(Config{UUID: uuidOf(2)}, Identity{}, quiet())
	if got, err := guest.CallAddr(t.Context(), addr, "echo", []byte("x")); err != nil || string(got) != "x" {
		t.Errorf("an honest guest among silent ones: %q, %v", got, err)
	}
	n.mu.Lock()
	unproved := len(n.mu.unproved)
	n.mu.Unlock()
	if unproved > maxUnproved {
		t.Errorf("%d connections that have proved nothing", unproved)
	}
	for _, c := range silent {
		c.Close()
	}
	logged.mu.Lock()
	defer logged.mu.Unlock()
	if n := len(logged.lines); n == 0 || n > 1+int(time.Since(start)/noiseEvery) {
		t.Errorf("%d lines about strangers:\n%s", len(logged.lines), strings.Join(logged.lines, ""))
	}
}

// The address of something else is a typical first mistake.
func TestDialToSomethingElse(t *testing.T) {
	for name, c := range map[string]struct {
		say  string // then it waits for more
		want string
	}{
		"another protocol": {"HTTP/1.1 400 Bad Request\r\n\r\n", "neither a tnode nor a tarbitrator"},
		"silence":          {"", "says nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				if nc, err := l.Accept(); err == nil {
					_, _ = io.WriteString(nc, c.say)
					_, _ = io.Copy(io.Discard, nc)
					nc.Close()
				}
			}()
			guest := NewNet(Config{UUID: uuidOf(9)}, Identity{}, quiet())
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			_, err = guest.CallAddr(ctx, l.Addr().String(), "hello", nil)
			if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want ErrUnreachable with %q", err, c.want)
			}
			if n := strings.Count(err.Error(), l.Addr().String()); n != 1 {
				t.Errorf("the address is in it %d times: %v", n, err)
			}
		})
	}
}
