package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// serving runs a server with few connections and returns where.
func serving(t *testing.T, most int, slow http.HandlerFunc) (s *Server, addr string) {
	t.Helper()
	s = open(t, func(c *Config) { c.MaxConnections = most })
	s.Handle("/slow", slow)
	s.Handle("/hello", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}

// dialled connects and says something that is less than a request.
func dialled(t *testing.T, addr, say string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, say) // it may have been shown the door already
	return c
}

// get asks over a connection that is there already.
func get(c net.Conn, path string) (string, error) {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// However many connect and say nothing, or half a request: there are never more
// connections than allowed, who asks something is answered, and so is who has
// been at work since before.
func TestCrowdKeepsNobodyOut(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	s, addr := serving(t, 8, func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-finish
		io.WriteString(w, "done")
	})
	worker := dialled(t, addr, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-begun
	for i, say := range []string{"", "GET /hel", "POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc"} {
		for range 20 {
			dialled(t, addr, say)
		}
		if got, err := get(dialled(t, addr, ""), "/hello"); got != "hello" {
			t.Errorf("crowd %d: an honest client got %q, %v", i, got, err)
		}
		if n := s.Connections(); n > 8 {
			t.Errorf("crowd %d: %d connections", i, n)
		}
	}
	close(finish)
	resp, err := http.ReadResponse(bufio.NewReader(worker), nil)
	if err != nil {
		t.Fatalf("a request in hand was cut off: %v", err)
	}
	defer resp.Body.Close()
}

// When every connection has a request in hand, the next one is refused.
func TestFullOfWork(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	_, addr := serving(t, 2, func(http.ResponseWriter, *http.Request) {
		begun <- struct{}{}
		<-finish
	})
	for range 2 {
		dialled(t, addr, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
		<-begun
	}
	if got, err := get(dialled(t, addr, ""), "/hello"); err == nil {
		t.Errorf("a third connection got %q", got)
	}
	close(finish)
}
