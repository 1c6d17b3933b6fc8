package peer

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// The timing of a link.
const (
	redialFirst = 50 * time.Millisecond // jittered, doubled up to redialMost
	redialMost  = time.Second
	redialCopy  = 10 * time.Second       // one side is an old copy: it will stay one, and dials itself once it does not
	otherSide   = 300 * time.Millisecond // the larger UUID gives the smaller one this long to dial
	probeWithin = 200 * time.Millisecond
	lookEvery   = 10 * time.Millisecond // while it is in doubt whether a process has ended
	lookWithin  = 50 * time.Millisecond

	maxComplaints = 16 // addresses of one directory whose faults are remembered
)

// link is what a Net knows about one directory, and the connections to it. On a
// host it has a goroutine that dials and that tells OnLink; an arbitrator's has
// none.
//
//	        Beats connected
//	down ────────────────────▶ up
//	 ▲ │                       │ Beats lost: redial its own end point
//	 │ └─ redial refused ──┐   │
//	 │                     ▼   ▼
//	 └───── otherwise ── refused: the process is gone (R32)
type link struct {
	net    *Net
	key    linkKey
	notice chan struct{} // capacity 1: something below has changed

	// Guarded by Net.mu.
	peer      *Peer              // nil: not one that this side dials
	remote    Remote             // as last proved
	conns     [3]*conn           // by class
	served    map[*conn]struct{} // all that have not ended yet
	lost      *conn              // the Beats connection that has ended, until run has seen it
	lostWhy   error
	fault     string  // why the last attempt failed; empty: none did
	answered  id.UUID // the other directory that answered
	state     LinkState
	sent, got uint64 // bytes over connections that have ended
	started   bool   // run has been started
	hint      bool   // Hint was called since run has looked
}

func (l *link) signal() {
	select {
	case l.notice <- struct{}{}:
	default:
	}
}

// all returns every connection that has not ended. Net.mu is held.
func (l *link) all() []*conn {
	out := make([]*conn, 0, len(l.served))
	for c := range l.served {
		out = append(out, c)
	}
	return out
}

func (l *link) statusLocked() Link {
	s := Link{Remote: l.remote, State: l.state, Err: l.fault, Answered: l.answered, Sent: l.sent, Received: l.got}
	s.Remote.Cluster, s.Remote.UUID, s.Remote.Secret = l.key.cluster, l.key.uuid, Secret{}
	for class, c := range l.conns {
		s.Classes[class] = c != nil
	}
	for c := range l.served {
		s.Sent += c.sent.Load()
		s.Received += c.got.Load()
	}
	if l.net.cfg.Keys != nil && l.conns[Beats] != nil {
		s.State = LinkUp
	}
	return s
}

// view is what run looks at, taken together.
type view struct {
	peer    *Peer
	self    Identity
	remote  Remote
	up      bool
	lost    *conn
	lostWhy error
	missing []Class
	hint    bool
}

func (l *link) view() view {
	n := l.net
	n.mu.Lock()
	defer n.mu.Unlock()
	v := view{
		peer: l.peer, self: n.mu.self, remote: l.remote, up: l.conns[Beats] != nil, lost: l.lost, lostWhy: l.lostWhy,
		hint: l.hint,
	}
	l.lost, l.lostWhy, l.hint = nil, nil, false
	if l.peer == nil || l.key.cluster != n.mu.self.Cluster || l.key.cluster == 0 {
		v.peer = nil
		return v
	}
	for _, class := range []Class{Beats, classCalls, Bulk} {
		if l.conns[class] == nil && (class == Beats || !l.peer.Arbitrator) {
			v.missing = append(v.missing, class)
		}
	}
	return v
}

// dialler is the state of a link's goroutine.
type dialler struct {
	*link
	told     Remote            // of the last OnLink
	ever     bool              // the link has been up
	due      time.Time         // of the next attempt
	backoff  time.Duration     // after a round in which no address answered
	next     int               // address to try
	complain map[string]string // the faults that were logged, by address
	lostAt   string            // where the process was whose connection was lost last
	doubt    time.Time         // until then it is asked again whether it has ended
	lookAt   time.Time         // when next
}

// run dials until ctx ends or nobody needs the link any more.
func (l *link) run(ctx context.Context) {
	d := dialler{link: l, complain: map[string]string{}}
	v := l.view()
	d.yield(v)
	for ; ctx.Err() == nil; v = l.view() {
		d.follow(ctx, v)
		if v.peer == nil && l.finish() {
			return
		}
		if v.up && len(v.missing) == 0 {
			d.succeed(v)
		}
		if v.hint {
			d.hurry(v)
		}
		var timer <-chan time.Time
		if act, at := d.plan(v); act != nil {
			wait := time.Until(at)
			if wait <= 0 {
				act(ctx, v)
				continue
			}
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
		case <-l.notice:
		case <-timer:
		}
	}
}

// plan returns what is to be done, and when; nil: nothing.
func (d *dialler) plan(v view) (act func(context.Context, view), at time.Time) {
	if len(v.missing) > 0 {
		act, at = d.attempt, d.due
	}
	if d.doubts(v) && (act == nil || d.lookAt.Before(at)) {
		act, at = d.look, d.lookAt
	}
	return act, at
}

// finish ends a link that has no connection and that nobody wants.
func (l *link) finish() bool {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	if l.peer != nil && l.key.cluster == l.net.mu.self.Cluster || len(l.served) > 0 {
		return false
	}
	delete(l.net.mu.links, l.key)
	return true
}

// follow tells OnLink what has become of the Beats connection.
func (d *dialler) follow(ctx context.Context, v view) {
	if v.lost != nil && d.link.state == LinkUp {
		d.net.log.Info("link lost", "peer", d.key.uuid.Short(), "err", v.lostWhy)
		state := LinkDown
		if d.lostAt = v.lost.addr; d.lostAt == "" {
			d.lostAt = v.lost.remote.Addr
		}
		if !v.up && d.gone(ctx, probeWithin) {
			state = LinkRefused
			d.drain()
		}
		d.tell(d.told, state)
		d.yield(v)
		d.doubt, d.lookAt = time.Now().Add(otherSide), time.Now().Add(lookEvery)
	}
	if !v.up {
		return
	}
	if d.state == LinkUp && d.told.Start != v.remote.Start {
		d.tell(d.told, LinkDown) // it has started anew between two looks
	}
	if d.state != LinkUp {
		d.ever, d.told = true, v.remote
		d.tell(v.remote, LinkUp)
		d.net.log.Info("link up", "peer", d.key.uuid.Short(), "host", v.remote.Host, "addr", v.remote.Addr)
	}
}

// yield lets the other side dial first if it is its turn: two connections at
// once would replace each other.
func (d *dialler) yield(v view) {
	larger := bytes.Compare(d.net.cfg.UUID[:], d.key.uuid[:]) > 0
	if larger && (v.peer == nil || !v.peer.Arbitrator) {
		d.due = time.Now().Add(otherSide)
	}
}

// hurry forgets how often nobody has answered: somebody says that the directory
// is there. The side whose turn it is not still waits for the other.
func (d *dialler) hurry(v view) {
	d.backoff, d.next = 0, 0
	if now := time.Now(); d.due.After(now) {
		was := d.due
		d.due = now
		d.yield(v)
		if d.due.After(was) {
			d.due = was
		}
	}
}

// tell reports a state that differs from the last.
func (d *dialler) tell(r Remote, s LinkState) {
	n := d.net
	n.mu.Lock()
	changed := d.state != s
	d.state = s
	n.mu.Unlock()
	if changed && n.cfg.OnLink != nil {
		n.cfg.OnLink(r, s)
	}
}

// gone reports whether the process at the other end of a lost connection has
// ended: its own end point refuses a connection at once (R32). A timeout, or a
// connection that succeeds, proves nothing.
func (d *dialler) gone(ctx context.Context, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	nc, err := d.net.cfg.Dial(ctx, d.lostAt)
	if err == nil {
		nc.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// doubts reports whether the connection was lost a moment ago, and nobody knows
// yet whether the process has ended.
func (d *dialler) doubts(v view) bool {
	return !v.up && d.state == LinkDown && time.Now().Before(d.doubt)
}

// look asks again: the kernel takes the sockets of a dead process away one after
// the other, that on which it listens perhaps last.
func (d *dialler) look(ctx context.Context, _ view) {
	if d.gone(ctx, lookWithin) {
		d.drain()
		d.tell(d.told, LinkRefused)
	}
	d.lookAt = time.Now().Add(lookEvery)
}

// drain ends what is left of a process that is gone, and waits until nothing of
// it can be delivered any more (R15).
func (d *dialler) drain() {
	n := d.net
	n.mu.Lock()
	var old []*conn
	for c := range d.served {
		if c.remote.Start == d.told.Start {
			old = append(old, c)
		}
	}
	n.mu.Unlock()
	for _, c := range old {
		c.fail(errClosed)
	}
	for _, c := range old {
		<-c.done
	}
}

// attempt dials the first missing class at the next address.
func (d *dialler) attempt(ctx context.Context, v view) {
	addrs := v.addrs()
	if len(addrs) == 0 {
		d.due = time.Now().Add(redialMost)
		return
	}
	if d.next >= len(addrs) {
		d.next = 0
	}
	addr := addrs[d.next]
	c, err := d.net.dial(ctx, addr, v.missing[0], v.self, *v.peer)
	if err == nil {
		if d.net.register(c) {
			d.net.wg.Go(func() { d.net.unregister(c, c.serve()) })
		} else {
			c.Close()
		}
		return
	}
	if ctx.Err() != nil {
		return
	}
	if d.ever && d.state == LinkDown && addr == d.told.Addr && errors.Is(err, syscall.ECONNREFUSED) {
		d.tell(d.told, LinkRefused)
	}
	d.failed(addr, err)
	var copied *copyError
	if errors.As(err, &copied) {
		d.due = time.Now().Add(redialCopy)
		return
	}
	if d.next++; d.next >= len(addrs) {
		d.backoff = min(max(2*d.backoff, redialFirst), redialMost)
		d.due = time.Now().Add(d.backoff/2 + rand.N(d.backoff/2))
	}
}

// addrs are the end points to try: where it was last, then where it may be.
func (v *view) addrs() []string {
	var out []string
	for _, addr := range append([]string{v.remote.Addr}, v.peer.Addrs...) {
		if addr != "" && !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	}
	return out
}

// failed notes why an attempt failed, and logs it when it is news.
func (d *dialler) failed(addr string, err error) {
	kind := "not reachable"
	var refused *refusedError
	var copied *copyError
	switch {
	case errors.As(err, &copied):
		kind = copied.kind()
	case errors.As(err, &refused):
		kind = refused.verdict.String()
	case errors.Is(err, errSecret):
		kind = errSecret.Error()
	}
	n := d.net
	n.mu.Lock()
	d.fault = err.Error()
	d.answered = id.UUID{}
	if refused != nil && refused.verdict == verdictOtherUUID {
		d.answered = refused.uuid
	}
	n.mu.Unlock()
	if d.complain[addr] != kind {
		if len(d.complain) > maxComplaints {
			clear(d.complain) // it has moved a lot
		}
		d.complain[addr] = kind
		n.log.Warn("peer not connected", "peer", d.key.uuid.Short(), "addr", addr, "why", kind, "err", err)
	}
}

// succeed forgets the failures before.
func (d *dialler) succeed(v view) {
	d.backoff = 0
	if len(d.complain) > 0 {
		d.net.log.Info("peer connected again", "peer", d.key.uuid.Short(), "addr", v.remote.Addr)
		clear(d.complain)
	}
	d.net.mu.Lock()
	d.fault, d.answered = "", id.UUID{}
	d.net.mu.Unlock()
}
