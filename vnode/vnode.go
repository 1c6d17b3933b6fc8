package vnode

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

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
// Lock order: none of the locks of its parts is held while another is taken.
type Vnode struct {
	cfg   Config
	rep   Replicator
	now   func() time.Time
	log   *slog.Logger
	db    *badger.DB
	floor id.Index // applied when the store was opened
	whole bool     // the store was closed well: nothing below floor is missing

	catalog *catalog // written by Apply
	memory  *memory  // written by Apply
	batcher *batcher
	tidy    *tidy

	// applied is written by Apply, and read by everybody.
	applied  atomic.Pointer[position]
	replayed atomic.Uint64 // last index that Apply has put into the store since Open
	// checkpointed is the last checkpoint; written by Checkpoint.
	checkpointed atomic.Pointer[position]
	// forgettable is from which entry on ids had to be known at the checkpoint
	// before the last; written by Checkpoint, read by Apply.
	forgettable atomic.Uint64

	stop    context.CancelFunc // ends what runs for this replica
	stopped context.Context
	runs    sync.WaitGroup // Run and the readers, which Close waits for
	closing struct {
		sync.Mutex
		done bool
	}
}

// Open opens the replica in cfg.Dir, making it if there is none. now is the wall
// clock of this host; the log says how the store's own messages are handed on.
func Open(cfg Config, rep Replicator, now func() time.Time, log *slog.Logger) (*Vnode, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("open replica: %w", err)
	}
	if cfg.Keep == 0 {
		cfg.Keep = DefaultKeep
	}
	if cfg.QueueBytes == 0 {
		cfg.QueueBytes = 64 << 20
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open replica: %w", err)
	}
	log = log.With("group", cfg.Group)
	db, err := openStore(cfg.Dir, log)
	if err != nil {
		return nil, err
	}
	v := &Vnode{cfg: cfg, rep: rep, now: now, log: log, db: db, memory: newMemory()}
	v.stopped, v.stop = context.WithCancel(context.Background())
	v.batcher = newBatcher(v)
	v.tidy = newTidy(v)
	if err := v.load(); err != nil {
		v.stop()
		return nil, errors.Join(fmt.Errorf("open replica in %s: %w", cfg.Dir, err), db.Close())
	}
	return v, nil
}

// load reads what is kept in memory from the store.
func (v *Vnode) load() error {
	txn := v.db.NewTransaction(false)
	defer txn.Discard()
	p, err := readPosition(txn)
	if err != nil {
		return err
	}
	v.applied.Store(&p)
	v.floor = p.index
	v.checkpointed.Store(&position{})
	mark, err := readMark(txn)
	if err != nil {
		return err
	}
	v.whole = mark == p.index
	var rest []objectID
	if v.catalog, rest, err = loadCatalog(txn); err != nil {
		return err
	}
	for _, g := range v.catalog.allGraves() {
		v.tidy.drop(g)
	}
	for _, of := range rest {
		v.tidy.drop(&grave{id: of, name: fmt.Sprintf("table %d", of)})
	}
	err = walk(txn, []byte{keyRemember}, func(key, record []byte) error {
		return v.memory.load(id.Index(binary.BigEndian.Uint64(key[1:])), record)
	})
	if err != nil {
		return fmt.Errorf("read statement ids: %w", err)
	}
	return nil
}

func readMark(txn *badger.Txn) (id.Index, error) {
	item, err := txn.Get([]byte{keyMark})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read checkpoint: %w", err)
	}
	var mark id.Index
	err = item.Value(func(value []byte) error {
		d := decoder{src: value}
		mark = id.Index(d.uint64())
		return d.end()
	})
	return mark, err
}

// position is how far the log is applied.
func (v *Vnode) position() position { return *v.applied.Load() }

func (v *Vnode) setPosition(p position) { v.applied.Store(&p) }

// Applied is the largest index whose effects this replica holds. After an
// unclean stop it may lack some below it, until the log has been replayed.
func (v *Vnode) Applied() id.Index { return v.position().index }

// Group is the group whose log this replica applies.
func (v *Vnode) Group() id.Group { return v.cfg.Group }

// Precision is the unit of the timestamps.
func (v *Vnode) Precision() sql.Precision { return v.cfg.Precision }

// settled reports whether the store is what the log makes of it: nothing below
// Applied is missing, and nothing is being applied a second time.
func (v *Vnode) settled() bool {
	replayed := id.Index(v.replayed.Load())
	return replayed >= v.floor || v.whole && replayed == 0
}

// Run proposes what Write is given and tidies the store, until ctx ends or the
// replica is closed.
func (v *Vnode) Run(ctx context.Context) error {
	if !v.enter() {
		return ErrClosed
	}
	defer v.runs.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(v.stopped, cancel)()
	var parts sync.WaitGroup
	parts.Go(func() { v.batcher.run(ctx) })
	parts.Go(func() { v.tidy.run(ctx) })
	parts.Wait()
	return context.Cause(ctx)
}

// enter counts a user of the store, unless it is closed.
func (v *Vnode) enter() bool {
	v.closing.Lock()
	defer v.closing.Unlock()
	if v.closing.done {
		return false
	}
	v.runs.Add(1)
	return true
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
	if !v.enter() {
		return 0, ErrClosed
	}
	defer v.runs.Done()
	return v.checkpoint(ctx)
}

func (v *Vnode) checkpoint(ctx context.Context) (id.Index, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	// What is asked for now, before the sync, is what the sync makes durable.
	at, before := v.position(), *v.checkpointed.Load()
	if !v.settled() {
		// The store reaches at, but with holes.
		at = position{index: id.Index(v.replayed.Load())}
	}
	gone := v.tidy.gone(before.index)
	if err := syncStore(v.cfg.Dir); err != nil {
		return 0, fmt.Errorf("checkpoint of group %d: %w", v.cfg.Group, err)
	}
	b := newBatch(v.db)
	defer b.discard()
	if err := b.set([]byte{keyMark}, binary.BigEndian.AppendUint64(nil, uint64(at.index))); err != nil {
		return 0, err
	}
	for _, g := range gone {
		if err := b.delete(appendObjectKey(b.key(), keyDropped, g.id)); err != nil {
			return 0, err
		}
	}
	if err := b.commit(); err != nil {
		return 0, err
	}
	// The mark must last before the log knows of the checkpoint: a log with
	// nothing to replay could not tell this replica that nothing is missing.
	if err := syncStore(v.cfg.Dir); err != nil {
		return 0, fmt.Errorf("mark checkpoint of group %d: %w", v.cfg.Group, err)
	}
	v.tidy.forget(gone)
	for _, g := range gone {
		v.catalog.forget(g)
	}
	// The host may not get to note this index: a replay starts there or at the
	// one before.
	v.forgettable.Store(uint64(before.remember))
	v.checkpointed.Store(&at)
	return at.index, nil
}

// LeaderChanged implements consensus.StateMachine.
func (v *Vnode) LeaderChanged(_ id.Term, leader id.UUID, self bool) {
	v.batcher.leaderChanged(leader, self)
}

// Close implements consensus.StateMachine: it stops Run, waits for readers and
// closes the store. Close may be called twice.
func (v *Vnode) Close() error {
	v.closing.Lock()
	done := v.closing.done
	v.closing.done = true
	v.closing.Unlock()
	if done {
		return nil
	}
	v.stop()
	v.batcher.leaderChanged(id.UUID{}, false)
	v.runs.Wait()
	_, err := v.checkpoint(context.Background())
	return errors.Join(err, v.db.Close())
}

// Drop closes the replica and removes its directory.
func (v *Vnode) Drop() error {
	return errors.Join(v.Close(), os.RemoveAll(v.cfg.Dir))
}

// oldest is the smallest timestamp that is kept at a moment of the log. Rows
// before it do not exist, whether or not they are still in the store.
func (v *Vnode) oldest(at hlc.Stamp) int64 {
	return v.cfg.Precision.Of(at.Time().Add(-v.cfg.Keep))
}
