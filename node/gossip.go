package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/conf"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/membership"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// callGossip asks a connected host where it gossips, and whether with the same
// key: nothing -> gossipPlace.
const callGossip = "gossip.place"

// The rhythm in which a connected host is asked, until it answers.
const (
	askGossipFirst = 250 * time.Millisecond // doubled up to askGossipMost
	askGossipMost  = 15 * time.Second
	askGossipFor   = 2 * time.Second
)

type gossipPlace struct {
	Port  uint16
	Print string // of the key
}

// gossip is this host's part in gossip: it tells whom to seek and where, and
// hands what is heard to whom it makes faster. A host serves on without it.
type gossip struct {
	config conf.Config
	ports  *membership.Ports
	log    *slog.Logger
	wake   chan struct{} // capacity 1: a link, the record or an answer has changed

	key   atomic.Pointer[membership.Key]    // nil: this host is in no cluster yet
	heard atomic.Pointer[membership.Gossip] // nil: it does not run

	mu struct {
		sync.Mutex
		refused map[id.UUID]time.Time // since when the end point of a directory refuses connections
		places  map[id.UUID]asked     // what connected hosts have answered
	}
}

// asked is what one start of a directory has said of its gossip.
type asked struct {
	start peer.Start
	place gossipPlace
	other bool // its key is another one
}

func newGossip(c conf.Config, ports *membership.Ports, log *slog.Logger) *gossip {
	g := &gossip{config: c, ports: ports, log: log, wake: make(chan struct{}, 1)}
	g.mu.refused, g.mu.places = map[id.UUID]time.Time{}, map[id.UUID]asked{}
	return g
}

func (g *gossip) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// EndPoint implements host.Hints.
func (g *gossip) EndPoint(u id.UUID) string {
	if m := g.heard.Load(); m != nil {
		return m.Host(u).EndPoint
	}
	return ""
}

// Gone implements host.Hints: a process whose end point refuses connections is
// gone; one that gossip misses may be frozen or cut off as well.
func (g *gossip) Gone(u id.UUID) (since time.Time, why string) {
	g.mu.Lock()
	since, refuses := g.mu.refused[u]
	g.mu.Unlock()
	if refuses {
		return since, "its process has ended"
	}
	if m := g.heard.Load(); m != nil {
		switch h := m.Host(u); h.State {
		case membership.Silent:
			return h.Since, "it does not answer"
		case membership.Left:
			return h.Since, "it was stopped"
		}
	}
	return time.Time{}, ""
}

// linked takes news of a connection. It never waits.
func (g *gossip) linked(r peer.Remote, s peer.LinkState) {
	g.mu.Lock()
	if s == peer.LinkRefused {
		g.mu.refused[r.UUID] = time.Now()
	} else {
		delete(g.mu.refused, r.UUID)
	}
	g.mu.Unlock()
	g.poke()
}

// answer tells a connected host where this one gossips.
func (g *gossip) answer(context.Context, id.UUID, []byte) ([]byte, error) {
	key := g.key.Load()
	if key == nil {
		return nil, fmt.Errorf("this host does not gossip yet")
	}
	return json.Marshal(gossipPlace{Port: g.config.GossipPort, Print: key.Print()})
}

// runGossip gossips from the moment this host is a member. That it can't is
// said; it ends nothing.
func (n *Node) runGossip(ctx context.Context) error {
	select {
	case <-n.host.Started():
	case <-ctx.Done():
		return nil
	}
	who := n.record.Identity()
	key := membership.DeriveKey(who.Secret)
	if own, set := n.config.GossipSecret(); set {
		key = own
	}
	n.gossip.key.Store(&key)
	m, err := membership.New(membership.Config{
		Cluster: who.Cluster, UUID: who.UUID, Dnode: who.Dnode, EndPoint: n.config.EndPoint(),
		Start: n.record.Offer().Boot, Nonce: n.record.Boot(), Key: key, Changed: n.gossipChanged,
	}, n.gossip.ports, n.log)
	if err == nil {
		n.gossip.heard.Store(m)
		var parts sync.WaitGroup
		parts.Go(func() { n.seekByGossip(ctx, m) })
		err = m.Run(ctx)
		defer parts.Wait()
	}
	if err != nil && ctx.Err() == nil {
		n.log.Error("gossip does not run: this host serves on without it, what SHOW DNODES says is older", "err", err)
	}
	<-ctx.Done()
	return nil
}

// gossipChanged hands news on to the host and to the dialler.
func (n *Node) gossipChanged() {
	n.host.HintsChanged()
	for _, l := range n.net.Links() {
		if l.State != peer.LinkUp && n.gossip.heard.Load().Host(l.Remote.UUID).State == membership.Alive {
			n.net.Hint(l.Remote.UUID)
		}
	}
}

// seekByGossip tells gossip whom to seek, and asks connected hosts where.
func (n *Node) seekByGossip(ctx context.Context, m *membership.Gossip) {
	var questions sync.WaitGroup
	defer questions.Wait()
	wait := askGossipFirst
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := n.host.Watch()
		links := n.net.Links()
		m.Seek(n.gossip.sought(n.host.View(), n.host.Self(), links, n.host.Addrs))
		if open := n.gossip.unasked(links); len(open) > 0 {
			for _, r := range open {
				questions.Go(func() { n.askGossip(ctx, r) })
			}
			questions.Wait() // askGossipFor at most
			timer.Reset(wait)
			wait = min(2*wait, askGossipMost)
		} else {
			wait = askGossipFirst
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-n.gossip.wake:
		case <-timer.C:
		}
	}
}

// askGossip asks one connected host.
func (n *Node) askGossip(ctx context.Context, r peer.Remote) {
	ctx, cancel := context.WithTimeout(ctx, askGossipFor)
	defer cancel()
	reply, err := n.net.Call(ctx, r.UUID, callGossip, nil)
	if err != nil {
		return // it is asked again
	}
	var place gossipPlace
	if err := json.Unmarshal(reply, &place); err != nil {
		n.log.Warn("a host does not say where it gossips", "host", r.Host, "err", err)
	}
	n.gossip.noteAnswer(r, place)
}

// noteAnswer keeps an answer, and says once if the keys differ.
func (g *gossip) noteAnswer(r peer.Remote, place gossipPlace) {
	now := asked{start: r.Start, place: place, other: place.Print != g.key.Load().Print()}
	g.mu.Lock()
	was := g.mu.places[r.UUID]
	g.mu.places[r.UUID] = now
	g.mu.Unlock()
	g.poke()
	switch {
	case now.other && !was.other:
		g.log.Warn("gossip: this host and another have different keys and do not hear each other: set the same gossipKey on all hosts, or on none", "host", r.Host, "addr", r.Addr)
	case was.other && !now.other:
		g.log.Info("gossip: the keys are the same again", "host", r.Host)
	}
}

// unasked lists the connected hosts that have not answered since their start.
func (g *gossip) unasked(links []peer.Link) (open []peer.Remote) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range links {
		if r := l.Remote; l.State == peer.LinkUp && r.Host != 0 && g.mu.places[r.UUID].start != r.Start {
			open = append(open, r)
		}
	}
	return open
}

// sought lists the other members and where their gossip may be; where says at
// which end points they may be dialled.
func (g *gossip) sought(v *mnode.View, self id.UUID, links []peer.Link, where func(mnode.Dnode) []string) []membership.Sought {
	up := map[id.UUID]peer.Remote{}
	for _, l := range links {
		if l.State == peer.LinkUp {
			up[l.Remote.UUID] = l.Remote
		}
	}
	g.mu.Lock()
	places := maps.Clone(g.mu.places)
	g.mu.Unlock()
	var list []membership.Sought
	for _, d := range v.Live() {
		if d.UUID.IsZero() || d.UUID == self {
			continue
		}
		x := membership.Sought{UUID: d.UUID, Dnode: d.ID}
		remote, linked := up[d.UUID]
		place := places[d.UUID]
		x.Linked = linked && !place.other
		if linked && remote.Addr != "" {
			x.Addrs = g.around(remote.Addr, place.place.Port)
		}
		for _, ep := range where(d) {
			x.Addrs = append(x.Addrs, g.around(ep, place.place.Port)...)
		}
		list = append(list, x)
	}
	return list
}

// around lists where a host with this end point may gossip.
func (g *gossip) around(endPoint string, port uint16) []string {
	return membership.AddrsFor(endPoint, port, g.config.GossipPort)
}
