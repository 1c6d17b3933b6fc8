package e2e

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// firewall stands in front of a process: connections to it pass, until the
// firewall forgets them. Then both ends hold a connection that carries nothing,
// and neither is told.
type firewall struct {
	listener net.Listener
	behind   string

	mu   sync.Mutex
	open []*passage
}

// passage is one connection through a firewall.
type passage struct {
	ends      [2]net.Conn
	mu        sync.Mutex
	forgotten bool
}

// newFirewall listens at an address for a process behind it.
func newFirewall(t *testing.T, at, behind string) *firewall {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	f := &firewall{listener: l, behind: behind}
	go f.run()
	t.Cleanup(func() {
		l.Close()
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, p := range f.open {
			p.ends[0].Close()
			p.ends[1].Close()
		}
	})
	return f
}

func (f *firewall) run() {
	for {
		outer, err := f.listener.Accept()
		if err != nil {
			return
		}
		inner, err := net.Dial("tcp", f.behind)
		if err != nil {
			outer.(*net.TCPConn).SetLinger(0) // a refusal, as far as one can be passed on
			outer.Close()
			continue
		}
		p := &passage{ends: [2]net.Conn{outer, inner}}
		f.mu.Lock()
		f.open = append(f.open, p)
		f.mu.Unlock()
		go p.carry(outer, inner)
		go p.carry(inner, outer)
	}
}

// carry passes bytes one way, and the end of the connection.
func (p *passage) carry(from, to net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		forgotten := p.forgotten
		p.mu.Unlock()
		switch {
		case forgotten && err == nil:
			continue
		case forgotten:
			return // the other end is not told
		case err != nil:
			if !errors.Is(err, io.EOF) {
				to.(*net.TCPConn).SetLinger(0)
			}
			from.Close()
			to.Close()
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			from.Close()
			return
		}
	}
}

// forget makes all connections that pass dead ones. New ones pass.
func (f *firewall) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.open {
		p.mu.Lock()
		p.forgotten = true
		p.mu.Unlock()
	}
}

// behindFirewall puts a data host that has not run yet behind one.
func behindFirewall(t *testing.T, h *process, address string) *firewall {
	t.Helper()
	h.configure("bind " + address)
	h.http = strings.Replace(h.http, "127.0.0.1", address, 1)
	return newFirewall(t, h.peer, strings.Replace(h.peer, "127.0.0.1", address, 1))
}

// TestHalfOpenConnections: connections die without a word on either end, as when
// a firewall between the hosts starts anew; and a host dies while nobody can be
// told, and starts again. Everybody notices by silence, connects anew, and
// nothing that was acknowledged is lost.
func TestHalfOpenConnections(t *testing.T) {
	takesLong(t)
	arb := newArbitrator(t)
	outer := local(freePort(t))
	a := newHost(t, "", outer)
	b := newHost(t, a.peer, outer)
	witness := newFirewall(t, outer, arb.peer)
	hosts := []*firewall{behindFirewall(t, a, "127.0.0.4"), behindFirewall(t, b, "127.0.0.5")}
	forget := func() {
		for _, w := range hosts {
			w.forget()
		}
	}
	arb.start()
	a.start().serving()
	b.start()
	c := dial(t, a, b)
	query(t, c, "CREATE DNODE '"+b.peer+"'")
	await(t, "the second host has a replica of the metadata", func() bool { return only(t, c, "SHOW MNODES", "role", "master", "slave") })
	query(t, c, "CREATE DATABASE d REPLICA 2")
	query(t, c, "CREATE TABLE d.t (ts TIMESTAMP, n BIGINT)")
	whole(t, c)

	witness.forget()
	forget()
	put(t, c, 0, 10)
	whole(t, c)

	forget()
	a.end(syscall.SIGKILL) // most of the time the master
	put(t, c, 10, 20)
	a.start()
	whole(t, c)
	sameDigests(t, c, a, b, 20)
}
