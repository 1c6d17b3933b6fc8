package api

import (
	"container/list"
	"net"
	"sync"
)

// crowd is the open connections of a server, and which of them nobody waits for.
// When there are as many as may be, one of those makes room for the next: the
// oldest that has never brought a request, else the one that has been idle for
// longest. So neither clients that leak connections nor strangers keep anybody
// out, or use up the files that the stores need.
//
//	    accepted         its head is read          answered
//	──────────────▶ fresh ───────────────▶ at work ────────▶ idle
//	                                          ▲               │
//	                                          └───────────────┘
//
// Invariant: a connection whose request is at work is never taken.
type crowd struct {
	most int

	mu sync.Mutex // never held over I/O
	// at is every connection with its place in fresh or idle; nil: at work.
	at          map[net.Conn]*place
	fresh, idle list.List // of net.Conn, the oldest first
}

type place struct {
	in      *list.List
	element *list.Element
}

func newCrowd(most int) *crowd { return &crowd{most: most, at: map[net.Conn]*place{}} }

// enter takes a connection in. leaves, if not nil, has made room for it and is to
// be closed. False: there is no room.
func (c *crowd) enter(nc net.Conn) (leaves net.Conn, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.at) >= c.most {
		front := c.fresh.Front()
		if front == nil {
			front = c.idle.Front()
		}
		if front == nil {
			return nil, false
		}
		leaves = front.Value.(net.Conn)
		c.takeLocked(leaves)
		delete(c.at, leaves)
	}
	c.at[nc] = &place{&c.fresh, c.fresh.PushBack(nc)}
	return leaves, true
}

// works notes that a connection has brought a request.
func (c *crowd) works(nc net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, here := c.at[nc]; here {
		c.takeLocked(nc)
	}
}

// waits notes that its request is answered.
func (c *crowd) waits(nc net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, here := c.at[nc]; here {
		c.takeLocked(nc)
		c.at[nc] = &place{&c.idle, c.idle.PushBack(nc)}
	}
}

// leave forgets a connection that has ended.
func (c *crowd) leave(nc net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.takeLocked(nc)
	delete(c.at, nc)
}

// takeLocked takes a connection out of fresh or idle.
func (c *crowd) takeLocked(nc net.Conn) {
	if p := c.at[nc]; p != nil {
		p.in.Remove(p.element)
		c.at[nc] = nil
	}
}

func (c *crowd) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.at)
}

// gate is a listener that lets in as many as the crowd holds.
type gate struct {
	net.Listener
	crowd *crowd
}

// Accept returns the next connection for which there is room.
func (g gate) Accept() (net.Conn, error) {
	for {
		nc, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		leaves, ok := g.crowd.enter(nc)
		if leaves != nil {
			leaves.Close()
		}
		if ok {
			return nc, nil
		}
		nc.Close()
	}
}
