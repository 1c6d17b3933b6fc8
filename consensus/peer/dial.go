package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// dial connects to addr and shakes hands, as self, with the directory that p
// names: with whoever answers when it names none. The caller serves the
// connection.
func (n *Net) dial(ctx context.Context, addr string, class Class, self Identity, p Peer) (*conn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	nc, err := n.cfg.Dial(dialCtx, addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	if err := nc.SetDeadline(time.Now().Add(handshakeWithin)); err != nil {
		nc.Close()
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	s, err := dialHandshake(nc, n.hello(class, self, p.UUID), self.Secret, p.Arbitrator && !p.Enrolled, n.gate())
	if err != nil {
		nc.Close()
		n.refused(err)
		return nil, fmt.Errorf("shake hands with %s: %w", addr, noPeer(ctx, err))
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		nc.Close()
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	c := newConn(n, nc, s, addr, p.Arbitrator)
	tune(nc, silentRounds*c.round)
	return c, nil
}

// noPeer gives the end of a handshake the meaning that it has for an operator
// when the other side has said nothing of ours.
func noPeer(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, errNotPeer):
		return errors.New("what answers there is neither a tnode nor a tarbitrator")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errors.New("it takes the connection and says nothing: frozen, or neither a tnode nor a tarbitrator")
	case errors.Is(err, io.EOF):
		return fmt.Errorf("it hung up: %w", err)
	}
	return err
}

// Is makes errors.Is(err, ErrSelf) work.
func (e *refusedError) Is(target error) bool { return target == ErrSelf && e.verdict == verdictSelf }

func (n *Net) hello(class Class, self Identity, meant id.UUID) hello {
	return hello{
		class: class, cluster: self.Cluster, host: self.Host, uuid: n.cfg.UUID, meant: meant, addr: n.cfg.Addr,
	}
}

// accept serves the connections of l until it is closed.
func (n *Net) accept(ctx context.Context, l net.Listener) error {
	for {
		nc, err := l.Accept()
		if err == nil {
			n.wg.Go(func() { n.welcome(nc) })
			continue
		}
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return fmt.Errorf("accept connection: %w", err)
		}
		// Out of file descriptors, most likely: those in use will end.
		n.noise("can't accept connections", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// welcome serves one accepted connection.
func (n *Net) welcome(nc net.Conn) {
	if !n.enter(nc) {
		nc.Close()
		return
	}
	c, err := n.prove(nc)
	n.leave(nc)
	if err != nil {
		nc.Close()
		var refused *refusedError
		var copied *copyError
		switch {
		case errors.Is(err, io.EOF): // a look whether the port is open
		case errors.Is(err, ErrSelf): // whoever dialled says it
		case errors.As(err, &copied): // Judge or OnRefusedAsCopy has heard of it
			n.refused(err)
		case errors.As(err, &refused):
			n.noise("connection refused", "remote", nc.RemoteAddr().String(), "why", refused.Error())
		default:
			n.noise("connection ended in the handshake", "remote", nc.RemoteAddr().String(), "err", err)
		}
		return
	}
	if c.remote.Cluster == 0 {
		n.serveGuest(c)
		return
	}
	n.serve(c)
}

// prove shakes hands with whoever has connected.
func (n *Net) prove(nc net.Conn) (*conn, error) {
	if err := nc.SetDeadline(time.Now().Add(handshakeWithin)); err != nil {
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	n.mu.Lock()
	self := n.mu.self
	n.mu.Unlock()
	s, err := acceptHandshake(nc, n.hello(0, self, id.UUID{}), func(h *hello) (verdict, Secret) { return n.judge(h, self) }, n.gate())
	if err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	c := newConn(n, nc, s, "", n.cfg.Keys != nil)
	tune(nc, silentRounds*c.round)
	return c, nil
}

// judge decides who may come in.
func (n *Net) judge(h *hello, self Identity) (verdict, Secret) {
	switch {
	case h.uuid == n.cfg.UUID:
		return verdictSelf, Secret{}
	case h.class > classCalls || h.uuid.IsZero():
		return verdictVersion, Secret{}
	case !h.meant.IsZero() && h.meant != n.cfg.UUID:
		return verdictOtherUUID, Secret{}
	case n.full(h):
		return verdictFull, Secret{}
	case h.cluster == 0 && h.class == classCalls:
		return verdictGuest, Secret{}
	case h.cluster == 0:
		return verdictNoCluster, Secret{}
	case n.cfg.Keys != nil:
		if secret, known := n.cfg.Keys.Secret(h.cluster); known {
			return verdictMember, secret
		}
		return verdictIntroduce, Secret{}
	case self.Cluster == 0:
		return verdictNoCluster, Secret{}
	case self.Cluster != h.cluster:
		return verdictOtherCluster, Secret{}
	}
	return verdictMember, self.Secret
}

// full reports whether there is no room for one more like h.
func (n *Net) full(h *hello) bool {
	if n.stranger(h.cluster) && n.strangers() >= n.cfg.MaxConns/strangersPart {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if h.cluster == 0 {
		return len(n.mu.guests) >= maxGuests
	}
	if n.mu.links[linkKey{h.cluster, h.uuid}] != nil {
		return false // it takes the place of its older connection
	}
	hosts := 0
	for key := range n.mu.links {
		if key.cluster == h.cluster {
			hosts++
		}
	}
	return hosts >= maxHosts || n.mu.accepted >= n.cfg.MaxConns
}

// stranger reports whether an arbitrator does not know a cluster: anybody can
// invent one.
func (n *Net) stranger(c id.Cluster) bool {
	if n.cfg.Keys == nil || c == 0 {
		return false
	}
	_, known := n.cfg.Keys.Secret(c)
	return !known
}

// strangers counts the connections of such clusters.
func (n *Net) strangers() (count int) {
	conns := map[id.Cluster]int{}
	n.mu.Lock()
	for key, l := range n.mu.links {
		conns[key.cluster] += len(l.served)
	}
	n.mu.Unlock()
	for c, k := range conns {
		if n.stranger(c) {
			count += k
		}
	}
	return count
}

// enter notes a connection that has proved nothing yet. When there are too many
// the oldest goes: an honest handshake takes milliseconds.
func (n *Net) enter(nc net.Conn) bool {
	n.mu.Lock()
	var oldest net.Conn
	ok := !n.mu.stopped
	if ok {
		if len(n.mu.unproved) >= maxUnproved {
			oldest = n.mu.unproved[0]
			n.mu.unproved = n.mu.unproved[1:]
		}
		n.mu.unproved = append(n.mu.unproved, nc)
	}
	n.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
	return ok
}

func (n *Net) leave(nc net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := slices.Index(n.mu.unproved, nc); i >= 0 {
		n.mu.unproved = slices.Delete(n.mu.unproved, i, i+1)
	}
}

// serve enters c as the connection of its class and serves it until it ends.
func (n *Net) serve(c *conn) {
	if !n.register(c) {
		c.Close()
		return
	}
	err := c.serve()
	n.unregister(c, err)
}

// serveGuest serves the calls of a guest, for a while.
func (n *Net) serveGuest(c *conn) {
	n.mu.Lock()
	ok := !n.mu.stopped && len(n.mu.guests) < maxGuests
	if ok {
		n.mu.guests[c] = struct{}{}
	}
	n.mu.Unlock()
	if !ok || c.SetReadDeadline(time.Now().Add(guestLife)) != nil {
		c.Close()
	} else {
		_ = c.serve() // a guest that leaves is no news
	}
	n.mu.Lock()
	delete(n.mu.guests, c)
	n.mu.Unlock()
}

// register makes c the connection of its class. An older one is closed, and so
// is everything of an earlier start of the same directory.
func (n *Net) register(c *conn) bool {
	n.mu.Lock()
	self := n.mu.self
	if n.mu.stopped || n.cfg.Keys == nil && (self.Cluster != c.remote.Cluster || self.Secret != c.remote.Secret) {
		n.mu.Unlock()
		return false // SetIdentity came in between
	}
	l := n.linkLocked(linkKey{c.remote.Cluster, c.remote.UUID})
	var closing []*conn
	if l.remote.Start != c.remote.Start {
		closing = l.all()
		l.conns = [3]*conn{}
	} else if old := l.conns[c.class]; old != nil {
		closing = append(closing, old)
	}
	l.conns[c.class], l.remote = c, c.remote
	l.served[c] = struct{}{}
	if c.addr == "" {
		n.mu.accepted++
	}
	l.signal()
	sequence := n.mu.sequence
	n.mu.Unlock()
	if c.class == Beats && sequence > 0 {
		c.queueControl(control{kind: frameSequence, id: sequence})
	}
	n.wake()
	for _, old := range closing {
		old.fail(errReplaced)
	}
	return true
}

// unregister takes c, which has ended, out of its link.
func (n *Net) unregister(c *conn, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := linkKey{c.remote.Cluster, c.remote.UUID}
	l := n.mu.links[key]
	delete(l.served, c)
	l.sent += c.sent.Load()
	l.got += c.got.Load()
	if c.addr == "" {
		n.mu.accepted--
	}
	if l.conns[c.class] == c {
		l.conns[c.class] = nil
		if c.class == Beats {
			l.lost, l.lostWhy = c, err
		}
	}
	if !l.started && len(l.served) == 0 && l.peer == nil {
		delete(n.mu.links, key)
	}
	l.signal()
}

// noise logs what strangers do, a line at most every noiseEvery.
func (n *Net) noise(what string, args ...any) {
	n.mu.Lock()
	now := time.Now()
	quiet := now.Sub(n.mu.noise.last) < noiseEvery
	skipped := n.mu.noise.skipped
	if quiet {
		n.mu.noise.skipped++
	} else {
		n.mu.noise.last, n.mu.noise.skipped = now, 0
	}
	n.mu.Unlock()
	if !quiet {
		n.log.Warn(what, append(args, "skipped", skipped)...)
	}
}
