package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/conf"
	"github.com/tarbitrator/tarbitrator/internal/membership"
	"github.com/tarbitrator/tarbitrator/internal/version"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/node/api"
	"github.com/tarbitrator/tarbitrator/node/api/rest"
	"github.com/tarbitrator/tarbitrator/node/host"
	"github.com/tarbitrator/tarbitrator/node/query"
)

// Config is what a host is told at start.
type Config struct {
	conf.Config
	NewCluster bool // found a cluster although the arbitrator is silent (--new-cluster)
	// Ready is called once this host is a member of a cluster and serves.
	Ready func()
	// Flush is called before a panic of a part ends the process: it waits a moment
	// for what was logged to be written.
	Flush func()
}

// Node is one data host. Run starts it.
type Node struct {
	config Config
	log    *slog.Logger
	began  time.Time

	record    *host.Record
	sightings *host.Sightings
	wal       *wal.Log
	writer    *wal.Writer
	space     *space
	last      *lastHolder
	alarms    *alarms
	net       *peer.Net
	groups    *consensus.Host
	host      *host.Host
	engine    *query.Engine
	server    *api.Server
	parts     *layers
	ready     atomic.Bool // this host is a member of a cluster that has begun

	oldCopy atomic.Pointer[string] // why the data directory is one; nil: it is not known to be
	copied  chan struct{}          // closed once oldCopy is set
	refused chan string            // capacity 1: somebody says that it is one

	peers, doors net.Listener
	gossip       *gossip
}

// Run runs a host until ctx ends, then hands its groups over and stops. It
// returns early if the host can't start, or if a part fails.
func Run(ctx context.Context, config Config, log *slog.Logger) error {
	n := &Node{config: config, log: log, began: time.Now(), parts: newLayers(log, config.Flush), copied: make(chan struct{}), refused: make(chan string, 1)}
	if err := n.open(); err != nil {
		n.close()
		return err
	}
	n.build()
	log.Info("starting", "version", version.Build(), "end_point", config.EndPoint(), "http", n.doors.Addr(),
		"data_dir", config.DataDir, "directory", n.record.Identity().UUID, "arbitrator", config.Arbitrator)
	n.start()
	err := n.serve(ctx)
	if err != nil {
		log.Error("this host stops", "err", err)
	}
	if !within(stopWithin, func() { n.shutDown(ctx) }) {
		log.Error("parts do not stop, the process ends without them: nothing that was acknowledged is lost", "waited", stopWithin)
	}
	return err
}

// open takes what only one process may have: directory, log, ports. What is
// taken by someone else is said before anything has begun.
func (n *Node) open() error {
	c := n.config
	var err error
	if n.peers, err = net.Listen("tcp", c.Listen(c.ServerPort)); err != nil {
		return fmt.Errorf("listen for other hosts on %s (serverPort): %w", c.Listen(c.ServerPort), listenError("serverPort", err))
	}
	if n.doors, err = net.Listen("tcp", c.Listen(c.HTTPPort)); err != nil {
		return fmt.Errorf("listen for clients on %s (httpPort): %w", c.Listen(c.HTTPPort), listenError("httpPort", err))
	}
	ports, err := membership.Listen(c.Listen(c.GossipPort))
	if err != nil {
		return listenError("gossipPort", err) // it names the port and its key
	}
	n.gossip = newGossip(c.Config, ports, n.log)
	if n.record, err = host.OpenRecord(c.DataDir); err != nil {
		return err
	}
	if err := n.record.Whole(); err != nil {
		return err
	}
	fs, err := wal.DirFS(filepath.Join(c.DataDir, "wal"))
	if err != nil {
		return err
	}
	if n.wal, err = wal.Open(fs, wal.Options{}); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(c.DataDir, "wal"), err)
	}
	n.sightings = host.OpenSightings(c.DataDir, n.log)
	return n.record.Begin(n.wal.Found())
}

// listenError adds what to do to the error of an address that can't be had.
func listenError(key string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: another program listens there; stop it, or choose another %s", err, key)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: it is not an address of this machine; choose another bind", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: this user may not listen there; choose a port above 1023 as %s", err, key)
	}
	return err
}

// close gives back what open has taken, once nothing runs any more.
func (n *Node) close() {
	if n.peers != nil {
		n.peers.Close()
	}
	if n.doors != nil {
		n.doors.Close()
	}
	if n.gossip != nil {
		n.gossip.ports.Close()
	}
	if n.wal != nil {
		if err := n.wal.Close(); err != nil {
			n.log.Error("the log did not close well", "err", err)
		}
	}
	if n.record != nil {
		_ = n.record.Close() // it only unlocks
	}
}

// build makes the parts. They know each other; none of them runs.
func (n *Node) build() {
	c, log := n.config, n.log
	who := n.record.Identity()
	n.space = &space{
		dir: c.DataDir, log: log,
		replicas: func() int { return len(n.host.Shards()) },
		tell:     func(full bool) { n.groups.DiskSpace(full) },
	}
	n.writer = wal.NewWriter(n.wal, wal.WriterConfig{
		Done: func(seq uint64) { n.groups.Durable(seq) },
		Full: n.space.logFull,
		Log:  log,
	})
	n.net = peer.NewNet(peer.Config{
		UUID: who.UUID, Addr: c.EndPoint(),
		Offer: n.record.Offer(), Judge: n.judge, OnRefusedAsCopy: n.noteRefusal, OnSequence: n.sightings.Heard,
		OnFrame: n.receive, OnLink: n.linked,
	}, peer.Identity{Cluster: who.Cluster, Host: who.Dnode, Secret: peer.Secret(who.Secret)}, log)
	n.alarms = &alarms{look: n.findings, log: log}
	n.groups = consensus.New(groupConfig(c.Config), who.UUID, consensus.Log{LogReader: n.wal, Appender: n.writer}, n.net, log)
	for method, h := range n.groups.Methods() {
		n.net.Handle(method, false, h)
	}
	n.last = &lastHolder{groups: n.groups.Statuses}
}

// groupConfig derives how the groups work from the keys that users may set.
func groupConfig(c conf.Config) consensus.Config {
	g := consensus.DefaultConfig()
	g.Tick = c.Tick()
	g.SilentAfter = c.WaitReplicaTimeout
	g.KeepForReplicaBytes = c.WALKeepForReplica
	return g
}

// start starts the parts, each after what it stands on.
func (n *Node) start() {
	// newHost and newDoors can fail only on a wrong configuration, which ends
	// the host like any other failure of a part.
	if err := errors.Join(n.newHost(), n.newDoors()); err != nil {
		n.parts.start("configuration", func(context.Context) error { return err })
		return
	}
	if why := n.record.OldCopy(); why != "" {
		n.startMarked(why)
		return
	}
	n.parts.start("log", n.writer.Run)
	n.parts.start("network", n.runNet)
	n.parts.start("sightings", func(ctx context.Context) error { return n.sightings.Run(ctx, n.wal.Changed, n.net.TellSequence) })
	n.parts.start("groups", n.groups.Run)
	n.parts.start("disk space", n.space.run)
	n.parts.start("host", n.host.Run)
	n.parts.start("last holder", n.last.run)
	n.parts.start("gossip", n.runGossip)
	n.parts.start("alarms", n.alarms.run)
	n.parts.start("doors", n.runDoors)
}

func (n *Node) runNet(ctx context.Context) error { return n.net.Run(ctx, n.peers) }

func (n *Node) runDoors(ctx context.Context) error { return n.server.Run(ctx, n.doors) }

func (n *Node) newHost() (err error) {
	c := n.config
	shared := map[string]string{}
	for _, v := range c.Shared() {
		shared[v.Name] = v.Value
	}
	n.host, err = host.New(host.Config{
		DataDir: c.DataDir, EndPoint: c.EndPoint(), FirstEP: c.FirstEp, SecondEP: c.SecondEp, Arbitrator: c.Arbitrator,
		NumOfMnodes: c.NumOfMnodes, Interval: c.StatusInterval, OfflineThreshold: c.OfflineThreshold, NewCluster: c.NewCluster, Version: version.Build(),
		Cores: runtime.NumCPU(), Settings: shared, Copy: n.sightings.Copy, Hints: n.gossip,
		Found: n.ownFindings,
	}, n.record, n.net, n.groups, n.openShard, n.log)
	n.net.Handle(callGossip, false, n.gossip.answer)
	return err
}

func (n *Node) newDoors() error {
	if n.host == nil {
		return nil // the reason is known
	}
	c := n.config
	zone, err := Zone(c.Config)
	if err != nil {
		return err
	}
	n.engine = query.New(query.Config{
		MaxWait: c.MaxRetryWaitTime, Zone: zone, Boot: n.host.Boot(),
		Code: func(err error) (uint16, string) {
			f := api.Describe(err)
			return f.Code, f.Text
		},
		Variables: c.Variables(), Shared: c.Shared(),
	}, cluster{n.host, n.alarms}, n.log)
	for method, h := range n.engine.Handlers() {
		n.host.Handle(method, h)
	}
	doors := api.DefaultConfig()
	doors.Addr = c.Listen(c.HTTPPort)
	doors.MaxConnections = clients(doors.MaxConnections, n.log)
	if n.server, err = api.New(doors, n.log); err != nil {
		return err
	}
	keeper := api.NewKeeper(users{n.host}, func() []byte {
		secret := n.host.View().Cluster.Secret
		return secret[:]
	})
	statements := &timed{runner: n.engine}
	metrics := &api.Metrics{}
	metrics.Add(n.collect)
	metrics.Add(n.alarms.collect)
	metrics.Add(statements.collect)
	rest.New(rest.Config{RowLimit: int(c.RestfulRowLimit), StrictStatus: c.HTTPCodeServerError}, n.server, keeper, statements)
	api.Status(n.server, keeper, metrics, vnodes{n}, overall{n}, func() uint32 { return uint32(n.host.Dnode()) })
	n.server.Gate(n.member)
	return nil
}

// member returns nil once this host is a member of a cluster that has begun, and
// as long as it is one. A host that was one before it started is waited for; one
// that nobody has let in is not.
func (n *Node) member(ctx context.Context) error {
	if err := n.refusal(); err != nil {
		return err
	}
	if err := n.host.Removed(); err != nil {
		return err
	}
	if n.ready.Load() {
		return nil
	}
	if err := n.host.Outside(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, n.config.MaxRetryWaitTime)
	defer cancel()
	select {
	case <-n.host.Started():
	default:
		select {
		case <-n.host.Started():
		case <-n.copied:
			return n.refusal()
		case <-ctx.Done():
			return errors.New("this host is starting")
		}
	}
	for {
		changed := n.host.Watch()
		if len(n.host.View().Users) > 0 {
			n.ready.Store(true)
			return nil
		}
		select {
		case <-changed:
		case <-n.copied:
			return n.refusal()
		case <-ctx.Done():
			return errors.New("the cluster is being born")
		}
	}
}

// serve waits until ctx ends or a part fails.
func (n *Node) serve(ctx context.Context) error {
	started := n.host.Started()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-n.parts.failed:
			return err
		case why := <-n.refused:
			n.becomeOldCopy(why)
		case <-started:
			started = nil
			n.log.Info("serving", "dnode", n.host.Dnode(), "cluster", n.record.Identity().Cluster, "http", n.doors.Addr())
			if n.config.Ready != nil {
				n.config.Ready()
			}
		}
	}
}

// shutDown hands over what this host leads while it still serves, so that
// statements under way find the new master, and stops everything.
func (n *Node) shutDown(ctx context.Context) {
	if ctx.Err() != nil && n.host != nil && n.oldCopy.Load() == nil {
		if err := n.groups.HandOver(context.WithoutCancel(ctx)); err != nil {
			n.log.Info("groups stay without a master until another host is back", "err", err)
		}
		n.last.say(n.log, n.nameOf)
	}
	n.parts.stop()
	n.close()
	n.log.Info("stopped")
}
