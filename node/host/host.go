package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/alarm"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// Config is fixed after New.
type Config struct {
	DataDir     string        // holds the record, mnode/ and vnode/
	EndPoint    string        // own, as others dial it: fqdn:serverPort
	FirstEP     string        // who is asked first; equal to EndPoint on the first host
	SecondEP    string        // who is asked next, empty for none
	Arbitrator  string        // end point, empty for none
	NumOfMnodes int           // wanted replicas of the metadata; default 3
	Interval    time.Duration // of status reports; default 1 s
	// OfflineThreshold is how long a host may be away before it is removed, if
	// its replicas have another place; zero: for ever.
	OfflineThreshold time.Duration
	NewCluster       bool   // found a cluster although the arbitrator is silent or knows one
	ClusterName      string // given at birth
	Version          string // shown
	Cores            int    // shown
	// Copy says why a directory is refused as an old copy (R42); nil: it is not.
	// Sightings.Copy is one. Nil: nobody is.
	Copy func(u id.UUID) error
	// Found is what this host finds wrong with itself, for its reports; nil:
	// nothing ever. It must not wait.
	Found func() []alarm.Finding
	Hints Hints // nil: there are none
	// Settings are the configuration keys that must be equal on all hosts.
	Settings map[string]string
}

// Check reports everything that is wrong with c.
func (c Config) Check() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("host: no data directory"))
	}
	if c.EndPoint == "" || c.FirstEP == "" {
		errs = append(errs, errors.New("host: no end point, or no firstEp"))
	}
	if c.NumOfMnodes < 1 || c.NumOfMnodes > 3 {
		errs = append(errs, fmt.Errorf("host: numOfMnodes %d, want 1 to 3", c.NumOfMnodes))
	}
	if c.Interval <= 0 {
		errs = append(errs, fmt.Errorf("host: status interval %v, want more than 0", c.Interval))
	}
	return errors.Join(errs...)
}

// Net is what a host needs of the network. *peer.Net is one.
type Net interface {
	Call(ctx context.Context, to id.UUID, method string, req []byte) ([]byte, error)
	CallAddr(ctx context.Context, addr, method string, req []byte) ([]byte, error)
	Handle(method string, openToGuests bool, h peer.Handler)
	SetIdentity(self peer.Identity)
	SetPeers(peers []peer.Peer)
	Links() []peer.Link
}

// Groups is what a host needs of the replicated logs. *consensus.Host is one.
type Groups interface {
	Stored() ([]consensus.Stored, error)
	Attach(ctx context.Context, g id.Group, sm consensus.StateMachine) error
	Create(ctx context.Context, spec consensus.GroupSpec, sm consensus.StateMachine) error
	Form(ctx context.Context, g id.Group) error
	Drop(ctx context.Context, g id.Group) error
	Propose(ctx context.Context, g id.Group, data []byte) (any, error)
	Read(ctx context.Context, g id.Group) error
	ChangeMembers(ctx context.Context, g id.Group, c consensus.Change) error
	Transfer(ctx context.Context, g id.Group, to id.Replica) error
	Enroll(ctx context.Context, g id.Group, r id.Replica, witness id.UUID) error
	Retire(ctx context.Context, g id.Group, r id.Replica, witness id.UUID) error
	Status(g id.Group) (consensus.Status, bool)
	Statuses() []consensus.Status
	Changed() <-chan struct{}
	History() consensus.History
}

// Shard is the state machine of one replica of a database's shard. A
// *vnode.Vnode is one.
type Shard interface {
	consensus.StateMachine
	// Run works for the replica until ctx ends or it is closed.
	Run(ctx context.Context) error
	// Counts returns how many tables and super tables it holds, cheaply.
	Counts() (tables, stables int)
}

// Spec says which shard to open.
type Spec struct {
	Dir      string
	Group    id.Group
	Cluster  id.Cluster
	Database string
	Options  mnode.Options
	Mark     id.Index // durable here as the log says; zero for a new one
}

// Host is this host's part in the cluster. Its exported methods may be called
// by any goroutine once Run has been started; those that only look never wait.
//
// Lock order: each lock alone; nothing foreign is called with one held.
type Host struct {
	cfg    Config
	record *Record
	net    Net
	groups Groups
	open   func(Spec) (Shard, error)
	log    *slog.Logger

	view     atomic.Pointer[mnode.View]         // the newest that this host has
	shards   atomic.Pointer[map[id.Group]Shard] // replaced, never changed
	meta     atomic.Pointer[metadata]           // nil: no replica of the metadata here
	told     atomic.Pointer[told]               // the master's last answer
	done     atomic.Uint64                      // View.Index that the replicas are equal to
	sequence atomic.Uint64                      // of this host's requests to the mnode
	others   atomic.Pointer[[]string]           // where the arbitrator has seen other members last
	waiting  atomic.Pointer[waiting]            // why it is in no cluster yet; nil: it is in one, or nothing is known
	removed  atomic.Pointer[string]             // why the mnode master takes no report of this host; nil: it does
	handlers handlers
	flights  flights

	wakeReconcile chan struct{} // capacity 1
	wakeReport    chan struct{} // capacity 1
	started       chan struct{} // closed once this host is a member and its replicas run

	mu struct {
		sync.Mutex
		changed chan struct{}       // closed at the next newer View
		faults  map[id.Group]string // replicas that can't serve, with the reason
		running map[id.Group]bool   // attached or created in this run
		made    map[id.Group]func() // created, but not noted yet: what starts them
	}
}

// metadata is this host's replica of the mnode, with its master.
type metadata struct {
	mnode  *mnode.Mnode
	master *mnode.Master
}

// told is what the mnode master last said, and when.
type told struct {
	answer mnode.Answer
	at     time.Time
}

// New makes a host and registers its calls with net, which must not run yet.
func New(cfg Config, record *Record, net Net, groups Groups, open func(Spec) (Shard, error), log *slog.Logger) (*Host, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	v, err := loadView(cfg.DataDir)
	if err != nil {
		log.Warn("cached view can't be used, the mnode will send another", "err", err)
	}
	h := &Host{
		cfg: cfg, record: record, net: net, groups: groups, open: open, log: log,
		wakeReconcile: make(chan struct{}, 1), wakeReport: make(chan struct{}, 1), started: make(chan struct{}),
	}
	h.mu.changed = make(chan struct{})
	h.mu.faults = map[id.Group]string{}
	h.mu.running, h.mu.made = map[id.Group]bool{}, map[id.Group]func(){}
	h.view.Store(v)
	h.shards.Store(&map[id.Group]Shard{})
	h.handlers.init()
	h.flights.init()
	h.sequence.Store(0)
	h.registerCalls()
	return h, nil
}

// part is something that runs as long as the host does.
type part func(ctx context.Context) error

// Run makes this host a member, starts its replicas and keeps them as the mnode
// says until ctx ends. It returns early only if the host can't be what it is
// told to be. The network and the groups must be running.
func (h *Host) Run(ctx context.Context) error {
	h.applyPeers(h.View())
	if err := h.enter(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	work, ctx := errgroup.WithContext(ctx)
	starts := make(chan part)
	work.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case run := <-starts:
				work.Go(func() error { return run(ctx) })
			}
		}
	})
	work.Go(func() error { return h.serve(ctx, starts) })
	return work.Wait()
}

// serve starts what this host holds and then follows the cluster's record.
func (h *Host) serve(ctx context.Context, starts chan<- part) error {
	if err := h.attachStored(ctx, starts); err != nil {
		return err
	}
	parts := []part{
		func(ctx context.Context) error { return h.reconcileLoop(ctx, starts) },
		h.reportLoop,
		h.seekLost,
		func(ctx context.Context) error { return h.flights.watch(ctx, h.groups) },
	}
	if h.record.Identity().Founding {
		parts = append(parts, h.found)
	}
	for _, p := range parts {
		if !begin(ctx, starts, p) {
			return nil
		}
	}
	close(h.started)
	return nil
}

// begin hands a part to Run, unless the host stops.
func begin(ctx context.Context, starts chan<- part, p part) bool {
	select {
	case starts <- p:
		return true
	case <-ctx.Done():
		return false
	}
}

// follow adopts what this host's own replica of the metadata applies.
func (h *Host) follow(ctx context.Context, m *mnode.Mnode) error {
	for {
		changed := m.Watch()
		h.adopt(m.View())
		poke(h.wakeReport)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// View returns the newest metadata that this host has. It costs nothing.
func (h *Host) View() *mnode.View { return h.view.Load() }

// adopt takes a View if it is newer than the one at hand.
func (h *Host) adopt(v *mnode.View) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v == nil || v.Index <= h.view.Load().Index {
		return
	}
	h.view.Store(v)
	close(h.mu.changed)
	h.mu.changed = make(chan struct{})
	poke(h.wakeReconcile)
}

// Watch returns a channel that is closed at the next newer View.
func (h *Host) Watch() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.changed
}

// Started is closed once this host is a member of a cluster and its replicas
// run.
func (h *Host) Started() <-chan struct{} { return h.started }

// Shard returns this host's replica of a group, if it runs.
func (h *Host) Shard(g id.Group) (Shard, bool) {
	s, ok := (*h.shards.Load())[g]
	return s, ok
}

// Shards returns all replicas of this host that run. The map must not be
// changed.
func (h *Host) Shards() map[id.Group]Shard { return *h.shards.Load() }

// Boot is the number of this start, unique among all starts of all hosts.
func (h *Host) Boot() uint64 { return h.record.Boot() }

// Self is this host's directory.
func (h *Host) Self() id.UUID { return h.record.Identity().UUID }

// Dnode is this host's number, zero until it is a member.
func (h *Host) Dnode() id.Host { return h.record.Identity().Dnode }

// poke wakes the one who waits on a channel of capacity 1.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
