package peer

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// The bounds of a Net.
const (
	handshakeWithin = 5 * time.Second
	dialWithin      = time.Second
	maxUnproved     = 64                     // accepted connections in the handshake; beyond, the oldest is closed
	maxGuests       = 64                     // guest connections
	guestLife       = 60 * time.Second       // of a guest connection
	strangersPart   = 4                      // the part of an arbitrator's connections that clusters which it does not know may take
	maxHosts        = 64                     // directories of one cluster with connections to an arbitrator
	noiseEvery      = 10 * time.Second       // between log lines about strangers
	lastWordsWithin = 100 * time.Millisecond // to write what is queued when a Net stops: a goodbye
)

// classCalls is the class of the connection for calls. It is the carrier's own:
// no message travels on it.
const classCalls Class = 2

// Net keeps the connections of one process: to every peer of SetPeers one for
// Beats, one for Bulk and one for calls; an arbitrator has only those that
// hosts make. All methods may be called from any goroutine.
//
// Of two hosts the one with the smaller UUID dials; the other does too if
// nothing came within 300 ms, so that one good direction is enough. When two
// connections of one class exist, the newer one stays.
type Net struct {
	cfg     Config
	log     *slog.Logger
	methods map[string]method // fixed before Run
	kick    chan struct{}     // capacity 1: a link has no goroutine yet
	wg      sync.WaitGroup    // everything that Run started

	// Never call a callback or do I/O with mu held.
	mu struct {
		sync.Mutex
		self     Identity
		offer    Offer
		sequence uint64 // last told; zero: none
		peers    []Peer // of the last SetPeers
		links    map[linkKey]*link
		unproved []net.Conn // oldest first
		accepted int
		guests   map[*conn]struct{}
		stopped  bool
		noise    struct {
			last    time.Time
			skipped int
		}
	}
}

type linkKey struct {
	cluster id.Cluster
	uuid    id.UUID
}

type method struct {
	run  Handler
	open bool // to guests
}

// NewNet returns a Net that neither listens nor dials until Run.
func NewNet(cfg Config, self Identity, log *slog.Logger) *Net {
	cfg.MaxConns = cmp.Or(cfg.MaxConns, 4096)
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	n := &Net{cfg: cfg, log: log, methods: make(map[string]method), kick: make(chan struct{}, 1)}
	n.mu.offer = cfg.Offer
	if cfg.Offer.Boot == 0 {
		var nonce [8]byte
		rand.Read(nonce[:]) // never fails (crypto/rand, Go 1.24)
		n.mu.offer = cfg.Offer.Next(binary.LittleEndian.Uint64(nonce[:]), 0)
	}
	n.mu.self, n.mu.links, n.mu.guests = self, make(map[linkKey]*link), make(map[*conn]struct{})
	return n
}

// Run accepts connections of l and dials the peers until ctx ends. It closes l.
// When it returns, everything it started has returned too. A Net runs once.
func (n *Net) Run(ctx context.Context, l net.Listener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	n.wg.Go(func() { stop(n.accept(ctx, l)) })
	n.wake()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-n.kick:
			n.startLinks(ctx)
		}
	}
	l.Close()
	n.stop()
	n.wg.Wait()
	return context.Cause(ctx)
}

// stop lets no further connection in and ends those there are, once what is
// queued is written or had time to be.
func (n *Net) stop() {
	n.mu.Lock()
	n.mu.stopped = true
	unproved := slices.Clone(n.mu.unproved)
	var serving []*conn
	for _, l := range n.mu.links {
		serving = append(serving, l.all()...)
	}
	for c := range n.mu.guests {
		serving = append(serving, c)
	}
	n.mu.Unlock()
	for _, nc := range unproved {
		nc.Close()
	}
	lastWords := time.NewTimer(lastWordsWithin)
	defer lastWords.Stop()
	for _, c := range serving {
		c.finish()
	}
	for _, c := range serving {
		select {
		case <-c.done:
			continue
		case <-lastWords.C:
			lastWords.Reset(0) // the others have had their time, too
		}
		c.fail(errClosed)
	}
}

// startLinks gives every link that lacks one its goroutine.
func (n *Net) startLinks(ctx context.Context) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.mu.links {
		if !l.started && n.cfg.Keys == nil {
			l.started = true
			n.wg.Go(func() { l.run(ctx) })
		}
	}
}

func (n *Net) wake() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// SetIdentity makes a guest a member. Connections made as somebody else are
// closed; the peers are dialled again.
func (n *Net) SetIdentity(self Identity) {
	n.mu.Lock()
	var closing []*conn
	if n.mu.self != self {
		n.mu.self = self
		for _, l := range n.mu.links {
			closing = append(closing, l.all()...)
		}
		n.wantLocked()
	}
	n.mu.Unlock()
	n.wake()
	for _, c := range closing {
		c.fail(errClosed)
	}
}

// SetPeers says which directories to keep connections to. Those no longer named
// are closed.
func (n *Net) SetPeers(peers []Peer) {
	n.mu.Lock()
	n.mu.peers = slices.Clone(peers)
	closing := n.wantLocked()
	n.mu.Unlock()
	n.wake()
	for _, c := range closing {
		c.fail(errClosed)
	}
}

// Hint says that a directory has just been heard elsewhere: one that is not
// connected is dialled now, not when its back-off is over.
func (n *Net) Hint(u id.UUID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.mu.links[linkKey{n.mu.self.Cluster, u}]; l != nil && l.peer != nil {
		l.hint = true
		l.signal()
	}
}

// wantLocked gives every peer a link under the own cluster, and returns the
// connections of links that nobody wants any more.
func (n *Net) wantLocked() (closing []*conn) {
	if n.cfg.Keys != nil {
		return nil // an arbitrator takes who comes
	}
	wanted := make(map[linkKey]bool, len(n.mu.peers))
	for _, p := range n.mu.peers {
		if p.UUID.IsZero() || p.UUID == n.cfg.UUID {
			continue
		}
		key := linkKey{n.mu.self.Cluster, p.UUID}
		wanted[key] = true
		p.Addrs = slices.Clone(p.Addrs)
		l := n.linkLocked(key)
		l.peer = &p
		l.signal()
	}
	for key, l := range n.mu.links {
		if !wanted[key] {
			l.peer = nil
			closing = append(closing, l.all()...)
			l.signal()
		}
	}
	return closing
}

// linkLocked returns the link called key, making it if need be.
func (n *Net) linkLocked(key linkKey) *link {
	l := n.mu.links[key]
	if l == nil {
		l = &link{net: n, key: key, notice: make(chan struct{}, 1), served: make(map[*conn]struct{})}
		n.mu.links[key] = l
	}
	return l
}

// Send queues messages to a directory of the own cluster as one frame. It never
// blocks. False: not connected, or the queue is full, and the frame is dropped;
// Raft and the feeder repeat themselves. The messages must not change any more.
func (n *Net) Send(to id.UUID, class Class, msgs []Message) bool {
	n.mu.Lock()
	c := n.connLocked(linkKey{n.mu.self.Cluster, to}, class)
	n.mu.Unlock()
	return c != nil && c.push(msgs)
}

// SendTo is Send for an arbitrator, which serves many clusters.
func (n *Net) SendTo(cluster id.Cluster, to id.UUID, class Class, msgs []Message) bool {
	n.mu.Lock()
	c := n.connLocked(linkKey{cluster, to}, class)
	n.mu.Unlock()
	return c != nil && c.push(msgs)
}

func (n *Net) connLocked(key linkKey, class Class) *conn {
	if l := n.mu.links[key]; l != nil {
		return l.conns[class]
	}
	return nil
}

// MarkOldCopy makes this directory say of itself that it is an old copy, so that
// nobody lets it in any more. Connections that exist are closed.
func (n *Net) MarkOldCopy() {
	n.mu.Lock()
	n.mu.offer.OldCopy = true
	var closing []*conn
	for _, l := range n.mu.links {
		closing = append(closing, l.all()...)
	}
	n.mu.Unlock()
	for _, c := range closing {
		c.fail(errClosed)
	}
}

// gate returns what handshakes end with.
func (n *Net) gate() gate {
	n.mu.Lock()
	defer n.mu.Unlock()
	return gate{n.mu.offer, n.cfg.Judge}
}

// TellSequence tells every directory that is connected, and each that connects
// later, how far this one's log has come, durably (R42).
func (n *Net) TellSequence(sequence uint64) {
	n.mu.Lock()
	n.mu.sequence = sequence
	var beats []*conn
	for _, l := range n.mu.links {
		if c := l.conns[Beats]; c != nil {
			beats = append(beats, c)
		}
	}
	n.mu.Unlock()
	for _, c := range beats {
		c.queueControl(control{kind: frameSequence, id: sequence})
	}
}

// Close ends the connections that a remote directory has made with this Net.
// It may connect again.
func (n *Net) Close(r Remote) {
	n.mu.Lock()
	var closing []*conn
	if l := n.mu.links[linkKey{r.Cluster, r.UUID}]; l != nil {
		closing = l.all()
	}
	n.mu.Unlock()
	for _, c := range closing {
		c.fail(errClosed)
	}
}

// Handle registers a method that others may call. It must be called before Run.
// Guests may call it only if openToGuests.
func (n *Net) Handle(name string, openToGuests bool, h Handler) {
	n.methods[name] = method{h, openToGuests}
}

// Call runs a method on a directory of the own cluster and waits for its
// answer. It does not wait for a connection.
func (n *Net) Call(ctx context.Context, to id.UUID, name string, req []byte) ([]byte, error) {
	n.mu.Lock()
	c := n.connLocked(linkKey{n.mu.self.Cluster, to}, classCalls)
	n.mu.Unlock()
	if c == nil {
		return nil, fmt.Errorf("call %s: %w", name, ErrUnreachable)
	}
	return c.do(ctx, name, req)
}

// CallAddr runs a method on whoever answers at addr, as a guest, over a
// connection of its own. It needs neither Run nor a cluster.
func (n *Net) CallAddr(ctx context.Context, addr, name string, req []byte) ([]byte, error) {
	c, err := n.dial(ctx, addr, classCalls, Identity{}, Peer{})
	if err != nil {
		return nil, fmt.Errorf("call %s: %w: %w", name, ErrUnreachable, err) // err names addr
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = c.serve() })
	defer serving.Wait()
	defer c.fail(errClosed)
	body, err := c.do(ctx, name, req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return body, nil
}

// Links returns the state of all links, ordered by cluster and UUID.
func (n *Net) Links() []Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]Link, 0, len(n.mu.links))
	for _, l := range n.mu.links {
		out = append(out, l.statusLocked())
	}
	slices.SortFunc(out, func(a, b Link) int {
		return cmp.Or(cmp.Compare(a.Remote.Cluster, b.Remote.Cluster), slices.Compare(a.Remote.UUID[:], b.Remote.UUID[:]))
	})
	return out
}
