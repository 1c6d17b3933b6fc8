package vnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
)

var _ consensus.StateMachine = (*Vnode)(nil)

// Replicator is what a replica needs of the consensus host.
type Replicator interface {
	// Propose appends data to the group's log and returns what Apply returned
	// for it on this host, once it is committed and applied here.
	Propose(ctx context.Context, group id.Group, data []byte) (any, error)
	// Read returns once this host has applied everything that was
	// acknowledged before the call.
	Read(ctx context.Context, group id.Group) error
}

// Config says what a replica is. It is fixed after Open.
type Config struct {
	Dir       string        // of this replica alone; dropping the replica is removing it
	Group     id.Group      // whose log it applies
	Cluster   id.Cluster    // the origin of what is written here
	Precision sql.Precision // unit of all timestamps; default milliseconds
	// Keep is how long rows are kept: older ones are refused, and go away.
	// Default 3650 days.
	Keep time.Duration
	// QueueBytes bounds the statements that wait to be proposed; more are
	// refused with consensus.ErrBusy. Default 64 MiB.
	QueueBytes int
	// Room says why there is no room on the disk for more of a copy, nil if
	// there is. It is asked for every megabyte: the stores map their files into
	// memory, so a full disk would not be an error but the end of the process.
	// Nil: there always is.
	Room func() error
}

// DefaultKeep is how long rows are kept unless the database says otherwise.
const DefaultKeep = 3650 * 24 * time.Hour

// Check joins everything that is wrong with c.
func (c Config) Check() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("no directory"))
	}
	if c.Group == 0 || c.Cluster == 0 {
		errs = append(errs, fmt.Errorf("group %d of cluster %d: both are needed", c.Group, c.Cluster))
	}
	if c.Precision > sql.Nanosecond {
		errs = append(errs, fmt.Errorf("bad precision %s", c.Precision))
	}
	if c.Keep < 0 || c.QueueBytes < 0 {
		errs = append(errs, fmt.Errorf("keep %s, queue of %d bytes: negative", c.Keep, c.QueueBytes))
	}
	return errors.Join(errs...)
}

// Vnode is one replica of one shard. Its owner calls Run beside the consensus
// host that applies its log, and Close (or lets the host do so) when that has
// stopped.
//
// What it holds is its state. A copy of another replica's (Receive, Install)
// takes the place of the old one as a whole: who reads goes on with the one that
// it began with until that ends, and fails then.
//
// Lock order: none of the locks of its parts is held while another is taken.
type Vnode struct {
	cfg     Config
	rep     Replicator
	now     func() time.Time
	log     *slog.Logger
	batcher *batcher
	home    *home

	current atomic.Pointer[state] // replaced by Install

	stop    context.CancelFunc // ends what runs for this replica
	stopped context.Context
	runs    sync.WaitGroup // Run, which Close waits for
	mu      struct {
		sync.Mutex
		closed bool
		// ended is the states that were replaced and are still open: Run closes
		// them once nobody uses them.
		ended []*state
	}
}

// Open opens the replica in cfg.Dir, making it if there is none. mark is what
// the log of the group says is durable here (consensus.Stored.Mark), zero for a
// new replica: it decides whether a copy that was finished just before the last
// stop has become the state. now is the wall clock of this host; the log says
// how the store's own messages are handed on.
func Open(cfg Config, mark id.Index, rep Replicator, now func() time.Time, log *slog.Logger) (*Vnode, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("open replica: %w", err)
	}
	if cfg.Keep == 0 {
		cfg.Keep = DefaultKeep
	}
	if cfg.QueueBytes == 0 {
		cfg.QueueBytes = 64 << 20
	}
	log = log.With("group", cfg.Group)
	home, start, err := openHome(cfg.Dir, mark)
	if err != nil {
		return nil, fmt.Errorf("open replica: %w", err)
	}
	v := &Vnode{cfg: cfg, rep: rep, now: now, log: log, home: home}
	first, err := v.openState(start)
	if err != nil {
		return nil, fmt.Errorf("open replica: %w", err)
	}
	v.current.Store(first)
	v.stopped, v.stop = context.WithCancel(context.Background())
	v.batcher = newBatcher(v)
	return v, nil
}

// position is how far the log is applied.
func (v *Vnode) position() position { return v.current.Load().position() }

// Applied is the largest index whose effects this replica holds. After an
// unclean stop it may lack some below it, until the log has been replayed.
func (v *Vnode) Applied() id.Index { return v.position().index }

// Group is the group whose log this replica applies.
func (v *Vnode) Group() id.Group { return v.cfg.Group }

// Precision is the unit of the timestamps.
func (v *Vnode) Precision() sql.Precision { return v.cfg.Precision }

// Run proposes what Write is given and tidies the store, until ctx ends or the
// replica is closed.
func (v *Vnode) Run(ctx context.Context) error {
	v.mu.Lock()
	closed := v.mu.closed
	if !closed {
		v.runs.Add(1)
	}
	v.mu.Unlock()
	if closed {
		return ErrClosed
	}
	defer v.runs.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(v.stopped, cancel)()
	var parts sync.WaitGroup
	parts.Go(func() { v.batcher.run(ctx) })
	parts.Go(func() { v.tidy(ctx) })
	parts.Go(func() { v.sweepStates(ctx) })
	parts.Wait()
	return context.Cause(ctx)
}

// tidy tidies the current state, and the one after it when it is replaced.
func (v *Vnode) tidy(ctx context.Context) {
	for ctx.Err() == nil {
		s, err := v.enter()
		if err != nil {
			return
		}
		during, done := s.during(ctx)
		s.tidy.run(during)
		done()
		s.leave()
	}
}

// Read returns once this replica has applied everything that was acknowledged
// before the call (a linearizable read); then Scan, Aggregate and the catalog
// show it. It fails with consensus.NotLeaderError on a host that does not lead.
func (v *Vnode) Read(ctx context.Context) error {
	if err := v.rep.Read(ctx, v.cfg.Group); err != nil {
		return fmt.Errorf("read group %d: %w", v.cfg.Group, err)
	}
	return nil
}

// Checkpoint implements consensus.StateMachine.
func (v *Vnode) Checkpoint(ctx context.Context) (id.Index, error) {
	s, err := v.enter()
	if err != nil {
		return 0, err
	}
	defer s.leave()
	return s.checkpoint(ctx, v.overtake)
}

// overtake puts copies out of the way that a checkpoint at index has passed: once
// the log has that mark a finished one could be taken for the state.
func (v *Vnode) overtake(index id.Index) error {
	err := v.home.overtake(index)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", consensus.ErrDiskFull, err) // the next checkpoint tries again
	}
	return err
}

// LeaderChanged implements consensus.StateMachine.
func (v *Vnode) LeaderChanged(_ id.Term, leader id.UUID, self bool) {
	v.batcher.leaderChanged(leader, self)
}

// Close implements consensus.StateMachine: it stops Run and those who read, and
// closes the store. Close may be called twice.
func (v *Vnode) Close() error {
	v.mu.Lock()
	if v.mu.closed {
		v.mu.Unlock()
		return nil
	}
	v.mu.closed = true
	v.mu.Unlock()
	v.stop()
	v.batcher.leaderChanged(id.UUID{}, false)
	last := v.current.Load()
	last.end(ErrClosed)
	v.runs.Wait()
	<-last.idle
	_, err := last.checkpoint(context.Background(), v.overtake)
	err = errors.Join(err, last.close())
	for _, s := range v.mu.ended { // nobody else is left who touches it
		<-s.idle
		err = errors.Join(err, s.close())
	}
	return err
}

// Drop closes the replica and removes its directory.
func (v *Vnode) Drop() error {
	return errors.Join(v.Close(), os.RemoveAll(v.cfg.Dir))
}

// oldest is the smallest timestamp that is kept at a moment of the log
// (position.aged). Rows before it do not exist, whether or not they are still in
// the store.
func (c *Config) oldest(at hlc.Stamp) int64 {
	return c.Precision.Of(at.Time().Add(-c.Keep))
}
