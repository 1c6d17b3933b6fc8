// Package membership hears by gossip which hosts of a cluster are there, and
// where: hints that make a status newer and a connection earlier. It never says
// who belongs to the cluster and decides nothing that must be right: whoever
// answers at an address that it names proves itself in the handshake of
// consensus/peer.
package membership

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Config is fixed after New.
type Config struct {
	Cluster  id.Cluster
	UUID     id.UUID
	Dnode    id.Host
	EndPoint string // as other hosts dial this one: fqdn:serverPort
	// Start counts the starts of the directory, so that news of an earlier one
	// is known to be old. Nonce tells two starts apart whatever they count.
	Start, Nonce uint64
	Key          Key // hosts with another one neither hear this one nor are heard
	// Changed is called by Run whenever Hosts has changed. It must not block.
	// Nil: nobody wants to know.
	Changed func()
}

// Check reports everything that is wrong with c.
func (c Config) Check() error {
	var errs []error
	if c.Cluster == 0 || c.Dnode == 0 || c.UUID.IsZero() {
		errs = append(errs, errors.New("gossip: this host is in no cluster yet"))
	}
	if _, _, err := net.SplitHostPort(c.EndPoint); err != nil || len(c.EndPoint) > maxEndPoint {
		errs = append(errs, fmt.Errorf("gossip: end point %q is not host:port", c.EndPoint))
	}
	if c.Key == (Key{}) {
		errs = append(errs, errors.New("gossip: no key"))
	}
	return errors.Join(errs...)
}

// Key encrypts gossip and proves that it comes from a host of the cluster.
type Key [32]byte

// String hides the key.
func (Key) String() string { return "(key)" }

// DeriveKey makes the key of a cluster whose hosts have not been given one.
func DeriveKey(secret [32]byte) Key { return Key(mac(secret, "tarbitrator gossip key 1")) }

// Print is what hosts compare to see whether they have the same key. It does
// not tell the key.
func (k Key) Print() string {
	print := mac(k, "tarbitrator gossip key print 1")
	return hex.EncodeToString(print[:8])
}

func mac(key [32]byte, what string) [32]byte {
	h := hmac.New(sha256.New, key[:])
	h.Write([]byte(what))
	return [32]byte(h.Sum(nil))
}

// The profile: two to four hosts on one network. A host that is killed is known
// to be gone after a second: it misses a probe, is given another way to answer,
// and is suspected for three intervals. A frozen or busy host that is taken for
// dead says so itself when it wakes.
const (
	probeEvery    = 250 * time.Millisecond
	probeWithin   = 125 * time.Millisecond
	suspectRounds = 3
	streamWithin  = time.Second // one exchange over TCP
	exchangeEvery = 15 * time.Second
	forgetAfter   = 30 * time.Second       // a start that has ended
	leaveWithin   = 200 * time.Millisecond // to hand on that this host leaves
)

// Gossip listens and tells. New makes it, Run runs it.
type Gossip struct {
	cfg   Config
	ports *Ports
	log   *slog.Logger

	lookup func(ctx context.Context, network, name string) ([]netip.Addr, error) // of names

	hosts atomic.Pointer[map[id.UUID]Host] // replaced, never changed
	wake  chan struct{}                    // capacity 1: Seek was called

	mu struct {
		sync.Mutex
		sought []Sought
	}

	// ---- owned by Run ----
	book   book
	seeker seeker
}

// New makes the gossip of a host over ports that it has already taken. Run
// closes them.
func New(cfg Config, ports *Ports, log *slog.Logger) (*Gossip, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	g := &Gossip{cfg: cfg, ports: ports, log: log, lookup: net.DefaultResolver.LookupNetIP, wake: make(chan struct{}, 1)}
	g.book = newBook(cfg.UUID)
	g.seeker = newSeeker()
	g.publish()
	return g, nil
}

// Host is what gossip last said of another host.
type Host struct {
	UUID     id.UUID
	Dnode    id.Host
	EndPoint string // as it wants to be dialled
	Start    uint64
	State    State
	Since    time.Time // of State
}

// State is how gossip sees a host.
type State uint8

// The states of a host.
const (
	Unknown State = iota // never heard of
	Alive
	Silent // does not answer any more: killed, frozen or cut off
	Left   // has said that it stops
)

func (s State) String() string { return [...]string{"unknown", "alive", "silent", "left"}[s] }

// Host returns what is known of a directory; the zero Host if nothing is.
func (g *Gossip) Host(u id.UUID) Host { return (*g.hosts.Load())[u] }

func (g *Gossip) publish() {
	hosts := maps.Clone(g.book.hosts)
	g.hosts.Store(&hosts)
}

// Sought is a host that should be there.
type Sought struct {
	UUID   id.UUID
	Dnode  id.Host
	Linked bool // this host is connected to it by other means: silence of gossip is a fault of gossip
	// Addrs are where its gossip may be, host:port, the most likely one first.
	Addrs []string
}

// Seek says who should be there. What it was told before is forgotten.
func (g *Gossip) Seek(list []Sought) {
	g.mu.Lock()
	g.mu.sought = list
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// Run gossips until ctx ends, and then says that this host leaves. It waits until
// this host's own name leads to an address: after a power cut a host may be up
// before its name server is. It returns early only if it can't begin. The libraries below end their own goroutines
// within a probe interval after it has returned.
func (g *Gossip) Run(ctx context.Context) error {
	defer g.ports.Close()
	at, err := g.awaitAddress(ctx)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	t := newTransport(ctx, g.ports, at)
	defer t.close()
	events := make(chan serf.Event, 64) // serf waits while it is full
	s, err := serf.Create(g.serfConfig(t, events))
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	g.log.Debug("gossip started", "addr", at)
	g.follow(ctx, s, events)

	left := make(chan error, 1)
	go func() { left <- errors.Join(s.Leave(), s.Shutdown()) }()
	for {
		select {
		case <-events: // nobody may be held up by what is no news any more
		case err := <-left:
			if err != nil {
				g.log.Debug("gossip was not left in order", "err", err)
			}
			return nil
		}
	}
}

// serfConfig is the profile. Every start of a host is a member with a name of
// its own: what others remember of an earlier one can't contradict this one.
func (g *Gossip) serfConfig(t memberlist.Transport, events chan<- serf.Event) *serf.Config {
	m := memberlist.DefaultLANConfig()
	m.Transport, m.SecretKey = t, g.cfg.Key[:]
	m.Label = fmt.Sprintf("tarbitrator/%d", g.cfg.Cluster)
	m.ProbeInterval, m.ProbeTimeout, m.SuspicionMult = probeEvery, probeWithin, suspectRounds
	m.SuspicionMaxTimeoutMult = 1 // with so few hosts nobody can confirm a suspicion
	m.TCPTimeout, m.PushPullInterval, m.GossipToTheDeadTime = streamWithin, exchangeEvery, forgetAfter
	m.EnableCompression = false // messages of some tens of bytes

	c := serf.DefaultConfig()
	c.NodeName = fmt.Sprintf("%d-%s-%016x", g.cfg.Dnode, g.cfg.UUID.Short(), g.cfg.Nonce)
	c.Tags = encodeTags(g.cfg)
	c.EventCh, c.MemberlistConfig = events, m
	c.Merge = &merge{cluster: g.cfg.Cluster}
	c.Logger = libraryLog(g.log)
	m.Logger = c.Logger
	c.BroadcastTimeout, c.LeavePropagateDelay = leaveWithin, 0
	// Seek is what finds a host again: it knows where to look.
	c.ReconnectInterval, c.ReconnectTimeout, c.TombstoneTimeout = time.Hour, forgetAfter, forgetAfter
	c.EventBuffer, c.QueryBuffer = 1, 1 // this cluster sends neither
	c.DisableCoordinates, c.EnableNameConflictResolution = true, false
	return c
}

// follow keeps the book and seeks who is missing, until ctx ends.
func (g *Gossip) follow(ctx context.Context, s *serf.Serf, events <-chan serf.Event) {
	joined := make(chan struct{}, 1)
	joining := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			for joining { // its dials end with ctx
				select {
				case <-joined:
					joining = false
				case <-events: // serf waits while they are full
				}
			}
			return
		case e := <-events:
			g.note(e)
		case <-g.wake:
			g.mu.Lock()
			g.seeker.seek(time.Now(), g.mu.sought)
			g.mu.Unlock()
		case <-joined:
			joining = false
		case <-timer.C:
		}
		now := time.Now()
		g.complain(now)
		if !joining {
			if addrs := g.seeker.look(now, g.book.alive); len(addrs) > 0 {
				joining = true
				go func() {
					join(ctx, s, addrs)
					joined <- struct{}{}
				}()
			}
		}
		timer.Reset(g.seeker.again(now))
	}
}

// note takes an event into the book.
func (g *Gossip) note(e serf.Event) {
	m, ok := e.(serf.MemberEvent)
	if !ok {
		return
	}
	changed := false
	for i := range m.Members {
		host, ok := g.read(&m.Members[i], m.Type)
		if !ok || !g.book.note(host) {
			continue
		}
		changed = true
		g.log.Info("gossip", "host", host.Dnode, "state", host.State, "end_point", host.EndPoint, "start", host.Start)
	}
	if changed {
		g.publish()
		if g.cfg.Changed != nil {
			g.cfg.Changed()
		}
	}
}

// read makes a Host of what an event says of a member.
func (g *Gossip) read(m *serf.Member, event serf.EventType) (Host, bool) {
	host, err := parseTags(m.Tags, g.cfg.Cluster)
	if err != nil {
		return Host{}, false // merge has refused it, with words
	}
	host.Since = time.Now()
	switch event {
	case serf.EventMemberJoin, serf.EventMemberUpdate:
		host.State = Alive
	case serf.EventMemberFailed:
		host.State = Silent
	case serf.EventMemberLeave:
		host.State = Left
	default:
		return Host{}, false // reaped: long known to be gone
	}
	return host, true
}

// complain says once when gossip lasts to be blocked, and once when it is not
// any more.
func (g *Gossip) complain(now time.Time) {
	for _, b := range g.seeker.blocked(now, g.book.alive) {
		if b.over {
			g.log.Info("gossip reaches a host again", "host", b.host.Dnode)
			continue
		}
		g.log.Warn("gossip does not reach a host that is connected: the status of hosts is older than it could be, nothing else; open gossipPort for TCP and UDP, and set the same gossipKey on all hosts",
			"host", b.host.Dnode, "tried", b.host.Addrs)
	}
}

// awaitAddress is the address that other hosts are told to gossip to. It asks
// until it knows or ctx ends.
func (g *Gossip) awaitAddress(ctx context.Context) (netip.AddrPort, error) {
	bound := g.ports.Addr()
	if !bound.Addr().IsUnspecified() {
		return bound, nil
	}
	name, _, err := net.SplitHostPort(g.cfg.EndPoint)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("start gossip: %w", err)
	}
	for said := false; ; {
		ip, err := g.ownAddress(ctx, name)
		if err == nil {
			if said {
				g.log.Info("gossip begins: this host's own name leads to an address now", "name", name, "addr", ip)
			}
			return netip.AddrPortFrom(ip, bound.Port()), nil
		}
		if !said && ctx.Err() == nil {
			said = true
			g.log.Warn("gossip waits: this host's own name leads to no address, so others will not find it by that; look at fqdn and at the name server",
				"name", name, "err", err)
		}
		select {
		case <-ctx.Done():
			return netip.AddrPort{}, nil
		case <-time.After(lookupWithin):
		}
	}
}

// ownAddress is the best of the addresses that this host's name has.
func (g *Gossip) ownAddress(ctx context.Context, name string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupWithin)
	defer cancel()
	ips, err := g.lookup(ctx, "ip", name)
	if err != nil {
		return netip.Addr{}, err
	}
	best := ips[0].Unmap()
	for _, ip := range ips {
		if best.IsLoopback() && !ip.IsLoopback() {
			best = ip.Unmap()
		}
	}
	if best.IsLoopback() && name != "localhost" && net.ParseIP(name) == nil {
		// A machine often knows its own name by a loopback address that is of
		// no use to others.
		if ip, ok := firstOutward(); ok {
			best = ip
		}
	}
	return best, nil
}

// firstOutward is an address of this machine that others can reach.
func firstOutward() (netip.Addr, bool) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, false
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.IsGlobalUnicast() {
				return ip.Unmap(), true
			}
		}
	}
	return netip.Addr{}, false
}

// AddrsFor lists where the gossip of the host with this end point may be: at the
// port that it was heard to use, else at those that a configuration like this
// host's would give it.
func AddrsFor(endPoint string, heard, own uint16) []string {
	host, port, err := net.SplitHostPort(endPoint)
	if err != nil {
		return nil
	}
	at := func(p uint16) string { return net.JoinHostPort(host, strconv.Itoa(int(p))) }
	if heard != 0 {
		return []string{at(heard)}
	}
	var list []string
	if p, err := strconv.ParseUint(port, 10, 16); err == nil && p < 65535 {
		list = append(list, at(uint16(p+1)))
	}
	if own != 0 && (len(list) == 0 || list[0] != at(own)) {
		list = append(list, at(own))
	}
	return list
}
