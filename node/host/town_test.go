package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tarbitrator/tarbitrator/arbitrator"
	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
	"github.com/tarbitrator/tarbitrator/mnode"
)

const (
	addrA, addrB, addrC, addrW = "a:6030", "b:6030", "c:6030", "w:6042"
	frameTime                  = 100 * time.Microsecond
	dialTime                   = 10 * time.Millisecond // until a house is connected to the arbitrator
)

// town is a few hosts and an arbitrator in one bubble of fake time: the real
// consensus, log, mnode and host, over a network that can be cut and a memory
// disk.
type town struct {
	t   *testing.T
	mu  sync.Mutex
	all map[string]*house // by address
	arb *tower
	cut map[[2]string]bool
}

// tower is the arbitrator with its network side.
type tower struct {
	uuid    id.UUID
	up      bool
	machine *arbitrator.Machine
	start   time.Time
	known   map[string]peer.Identity // end points of hosts that have connected
}

// house is one place where a host can live: its directory, its disk, and the
// one that lives there now.
type house struct {
	town  *town
	addr  string
	dir   string
	disk  *waltest.Disk
	first string // firstEp in its configuration
	alias string // another name of addr
	edit  func(*Config)

	mu       sync.Mutex
	up       bool
	uuid     id.UUID
	identity peer.Identity
	peers    []peer.Peer
	tower    time.Time // since when the arbitrator is among them
	handlers map[string]registered
	*Host
	groups *consensus.Host
	stop   context.CancelFunc
	ended  chan struct{}
	err    error
}

type registered struct {
	guests bool
	run    peer.Handler
}

func newTown(t *testing.T) *town {
	w := &town{t: t, all: map[string]*house{}, cut: map[[2]string]bool{}}
	w.buildTower(id.UUID{0xee})
	return w
}

func (w *town) buildTower(u id.UUID) {
	w.arb = &tower{
		uuid: u, up: true, start: time.Now(), known: map[string]peer.Identity{},
		machine: arbitrator.NewMachine(arbitrator.DefaultConfig(), u, 0, nil),
	}
}

// build makes a place for a host.
func (w *town) build(addr string, seed uint64) *house {
	h := &house{town: w, addr: addr, dir: w.t.TempDir(), disk: waltest.NewDisk(seed), first: addrA}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all[addr] = h
	return h
}

// move starts a host with what an earlier one left behind.
func (h *house) move() {
	t := h.town.t
	t.Helper()
	record, err := OpenRecord(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("at", h.addr)
	}
	file, err := wal.Open(h.disk, wal.Options{SegmentBytes: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	if err := record.Begin(file.Found()); err != nil {
		t.Fatal(err)
	}
	var groups *consensus.Host
	writer := wal.NewWriter(file, wal.WriterConfig{Done: func(seq uint64) { groups.Durable(seq) }})
	groups = consensus.New(consensus.DefaultConfig(), record.Identity().UUID, consensus.Log{LogReader: file, Appender: writer}, h, log)
	h.mu.Lock()
	h.uuid, h.identity, h.peers, h.handlers = record.Identity().UUID, peer.Identity{}, nil, map[string]registered{}
	h.tower = time.Time{}
	h.mu.Unlock()
	for method, run := range groups.Methods() {
		h.Handle(method, false, run)
	}
	cfg := Config{
		DataDir: h.dir, EndPoint: h.addr, FirstEP: h.first, SecondEP: addrB, Arbitrator: addrW,
		NumOfMnodes: 3, Interval: time.Second, Version: "test", Cores: 2, Settings: map[string]string{"arbitrator": addrW},
	}
	if h.edit != nil {
		h.edit(&cfg)
	}
	host, err := New(cfg, record, h, groups, openToy, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h.mu.Lock()
	h.up = true
	h.Host, h.groups, h.stop, h.ended = host, groups, stop, make(chan struct{})
	h.mu.Unlock()
	var parts sync.WaitGroup
	parts.Go(func() { _ = writer.Run(ctx) })
	parts.Go(func() { _ = groups.Run(ctx) })
	parts.Go(func() { h.err = host.Run(ctx); stop() })
	for _, other := range h.town.neighbours(h.addr) {
		other.tell(h.uuid, consensus.LinkUp)
	}
	ended := h.ended
	go func() {
		parts.Wait()
		_ = file.Abandon()
		_ = record.Close()
		close(ended)
	}()
}

// kill ends a host at once; the others learn that its port refuses them.
func (h *house) kill() {
	h.mu.Lock()
	h.up = false
	h.mu.Unlock()
	h.disk.Kill()
	h.stop()
	<-h.ended
	for _, other := range h.town.neighbours(h.addr) {
		other.tell(h.uuid, consensus.LinkRefused)
	}
}

func (w *town) neighbours(addr string) []*house {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*house
	for a, h := range w.all {
		if a != addr && h.alive() {
			out = append(out, h)
		}
	}
	return out
}

func (h *house) alive() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.up
}

// resident is who lives there now.
func (h *house) resident() (*Host, *consensus.Host) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.Host, h.groups
}

// tell tells a host's groups about the way to another.
func (h *house) tell(u id.UUID, state consensus.LinkState) {
	_, groups := h.resident()
	groups.Linked(u, state)
}

func (h *house) receive(from id.UUID, class peer.Class, msgs []peer.Message) {
	_, groups := h.resident()
	groups.Receive(from, class, msgs)
}

func (h *house) lives(u id.UUID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.uuid == u
}

// end stops everybody, so that the bubble can end.
func (w *town) end() {
	for _, h := range w.all {
		if h.alive() {
			h.kill()
		}
	}
}

// reach finds the house that answers at addr, unless the way is cut.
func (w *town) reach(from, addr string) *house {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.all[addr]
	if h == nil || w.cut[[2]string{from, addr}] || w.cut[[2]string{addr, from}] || !h.alive() {
		return nil
	}
	return h
}

// member finds the house of a directory that is a peer on both sides.
func (h *house) member(u id.UUID) *house {
	h.mu.Lock()
	self := h.identity
	var addr string
	for _, p := range h.peers {
		if p.UUID == u {
			addr = p.Addrs[0]
		}
	}
	h.mu.Unlock()
	other := h.town.reach(h.addr, addr)
	if other == nil || self.Cluster == 0 {
		return nil
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	if other.uuid != u || other.identity.Cluster != self.Cluster || other.identity.Secret != self.Secret {
		return nil
	}
	return other
}

// ---- the network as a host sees it ----

func (h *house) SetIdentity(self peer.Identity) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.identity = self
}

func (h *house) SetPeers(peers []peer.Peer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.peers = peers
	if !slices.ContainsFunc(peers, func(p peer.Peer) bool { return p.Arbitrator }) {
		h.tower = time.Time{}
	} else if h.tower.IsZero() {
		h.tower = time.Now()
	}
}

func (h *house) Handle(method string, guests bool, run peer.Handler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handlers[method] = registered{guests: guests, run: run}
}

func (h *house) Links() []peer.Link {
	h.mu.Lock()
	peers := h.peers
	h.mu.Unlock()
	var out []peer.Link
	for _, p := range peers {
		up := p.Arbitrator && h.reachesTower(p.UUID) || h.member(p.UUID) != nil
		state := peer.LinkDown
		if up {
			state = peer.LinkUp
		}
		out = append(out, peer.Link{Remote: peer.Remote{UUID: p.UUID}, State: state})
	}
	return out
}

// reachesTower reports whether the arbitrator answers this house, with a given
// directory or, for a guest, with any.
func (h *house) reachesTower(u id.UUID) bool {
	h.mu.Lock()
	since := h.tower
	h.mu.Unlock()
	if !u.IsZero() && (since.IsZero() || time.Since(since) < dialTime) {
		return false
	}
	w := h.town
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.arb.up && (u.IsZero() || u == w.arb.uuid) && !w.cut[[2]string{h.addr, addrW}]
}

func (h *house) Call(ctx context.Context, to id.UUID, method string, req []byte) ([]byte, error) {
	other := h.member(to)
	if other == nil {
		return nil, peer.ErrUnreachable
	}
	h.mu.Lock()
	from := h.uuid
	h.mu.Unlock()
	return h.call(ctx, other, method, req, from)
}

func (h *house) CallAddr(ctx context.Context, addr, method string, req []byte) ([]byte, error) {
	if addr == addrW && method == callLookup && h.reachesTower(id.UUID{}) {
		return h.town.lookup(req)
	}
	if addr == h.alias {
		return nil, fmt.Errorf("%w: %w", peer.ErrUnreachable, peer.ErrSelf)
	}
	other := h.town.reach(h.addr, addr)
	if other == nil {
		return nil, peer.ErrUnreachable
	}
	return h.call(ctx, other, method, req, id.UUID{})
}

func (w *town) lookup(req []byte) ([]byte, error) {
	var q lookupRequest
	if err := json.Unmarshal(req, &q); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	i, known := w.arb.known[q.EndPoint]
	a := lookupAnswer{Known: known, Cluster: i.Cluster, Dnode: i.Host, Witness: w.arb.uuid.String()}
	for addr := range w.arb.known {
		if known && addr != q.EndPoint {
			a.Others = append(a.Others, addr)
		}
	}
	return json.Marshal(a)
}

// call runs a handler of another house. The connection breaks when one of the
// two dies.
func (h *house) call(ctx context.Context, other *house, method string, req []byte, from id.UUID) ([]byte, error) {
	h.mu.Lock()
	mine := h.ended
	h.mu.Unlock()
	other.mu.Lock()
	r, ok := other.handlers[method]
	theirs := other.ended
	other.mu.Unlock()
	if !ok || from.IsZero() && !r.guests {
		return nil, peer.ErrNoMethod
	}
	type answer struct {
		body []byte
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	got := make(chan answer, 1)
	time.AfterFunc(frameTime, func() {
		body, err := r.run(ctx, from, req)
		got <- answer{body, err}
	})
	select {
	case a := <-got:
		var coded *peer.CallError
		if a.err != nil && !errors.As(a.err, &coded) {
			a.err = &peer.CallError{Text: a.err.Error()}
		}
		return a.body, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-theirs:
	case <-mine:
	}
	return nil, peer.ErrBroken
}

// Send implements consensus.Carrier.
func (h *house) Send(to id.UUID, class peer.Class, msgs []peer.Message) bool {
	if h.reachesTower(to) {
		return h.ask(msgs)
	}
	other := h.member(to)
	if other == nil {
		return false
	}
	h.mu.Lock()
	from := h.uuid
	h.mu.Unlock()
	time.AfterFunc(frameTime, func() {
		if h.member(to) == other && other.alive() {
			other.receive(from, class, msgs)
		}
	})
	return true
}

// ask hands a frame to the arbitrator.
func (h *house) ask(msgs []peer.Message) bool {
	w := h.town
	h.mu.Lock()
	self, u := h.identity, h.uuid
	h.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.arb.known[h.addr] = self
	events := []arbitrator.Event{arbitrator.Received{Cluster: self.Cluster, From: u, To: w.arb.uuid, Messages: msgs}}
	for len(events) > 0 {
		effects := w.arb.machine.Step(time.Since(w.arb.start), events)
		events = nil
		for _, e := range effects {
			switch e := e.(type) {
			case arbitrator.Write:
				events = append(events, arbitrator.Synced{Seq: e.Seq})
			case arbitrator.Send:
				w.answer(e)
			}
		}
	}
	return true
}

func (w *town) answer(e arbitrator.Send) {
	from := w.arb.uuid
	for _, h := range w.all {
		if h.lives(e.To) {
			time.AfterFunc(frameTime, func() {
				if h.alive() && h.reachesTower(from) {
					h.receive(from, peer.Beats, e.Messages)
				}
			})
		}
	}
}

// toy is a shard that remembers what it applied.
type toy struct {
	consensus.Snapshotter // never called: no log is so long that it is cut

	mu      sync.Mutex
	path    string
	applied []string
	index   id.Index
	closed  chan struct{}
}

func openToy(s Spec) (Shard, error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	return &toy{path: filepath.Join(s.Dir, "toy"), closed: make(chan struct{})}, nil
}

func (s *toy) Apply(entries []consensus.Entry) ([]any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	results := make([]any, len(entries))
	for i, e := range entries {
		s.applied = append(s.applied, string(e.Data))
		s.index = e.Index
		results[i] = fmt.Sprintf("%d", len(s.applied))
	}
	return results, nil
}

func (s *toy) Checkpoint(context.Context) (id.Index, error) { return 0, nil }
func (s *toy) LeaderChanged(id.Term, id.UUID, bool)         {}
func (s *toy) Counts() (tables, stables int)                { return 1, 0 }
func (s *toy) Close() error                                 { close(s.closed); return nil }
func (s *toy) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-s.closed:
	}
	return nil
}

func (s *toy) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.applied...)
}

// until waits for a condition, in fake time.
func (w *town) until(what string, ok func() bool) time.Duration {
	w.t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > 2*time.Minute {
			w.t.Fatalf("after 2 minutes still not: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

// pair is a cluster of two hosts with an arbitrator, its metadata on both.
func pair(t *testing.T) (w *town, a, b *house) {
	w = newTown(t)
	a, b = w.build(addrA, 1), w.build(addrB, 2)
	a.move()
	w.until("cluster born", func() bool { return a.View().Cluster.ID != 0 })
	if _, err := a.CreateDnode(t.Context(), addrB); err != nil {
		t.Fatal(err)
	}
	b.move()
	// Also in the record: until the joint change is over, b can't do without a.
	w.until("mnode on both", func() bool {
		return votes(a, id.Mnode) == 3 && votes(b, id.Mnode) == 3 && settled(a) && settled(b)
	})
	return w, a, b
}

// votes counts the voters of a group in the configuration that a host applied.
func votes(h *house, g id.Group) int {
	s, _ := h.groups.Status(g)
	n := 0
	for _, m := range s.Members {
		if !m.Learner {
			n++
		}
	}
	return n
}

func twoReplicas(vgroups int) mnode.Options {
	o := mnode.DefaultOptions()
	o.Replica, o.Vgroups = 2, vgroups
	return o
}

func bubble(t *testing.T, story func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, story)
}
