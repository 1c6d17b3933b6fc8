package vnode

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// state is what a replica holds: a store, and what is kept in memory of it. A
// copy that takes its place is another state, in another directory.
//
// It is in use from enter to leave. Once it has ended nobody enters it any more,
// those who are in it are told, and when the last one has left it is closed.
type state struct {
	cfg   Config
	log   *slog.Logger
	dir   string
	start id.Index // of a copy: everything up to here was in it; zero for a state that began empty
	db    *badger.DB
	floor id.Index // applied when the store was opened
	whole bool     // the store was closed well, or is a copy: nothing below floor is missing

	catalog *catalog // written by Apply
	memory  *memory  // written by Apply
	tidy    *tidy

	// applied is written by Apply, and read by everybody.
	applied  atomic.Pointer[position]
	replayed atomic.Uint64 // last index that Apply has put into the store since it was opened
	// checkpointed is the last checkpoint; written by Checkpoint.
	checkpointed atomic.Pointer[position]
	// forgettable is from which entry on ids had to be known at the checkpoint
	// before the last; written by Checkpoint, read by Apply.
	forgettable atomic.Uint64

	life   context.Context // ends with the state; its cause is why
	finish context.CancelCauseFunc
	idle   chan struct{} // closed once the state has ended and nobody is in it
	use    struct {
		sync.Mutex
		users     int
		ended     bool
		snapshots map[*snapshot]struct{} // open ones: close lets go of their views
	}
}

// openState opens the state that began as a copy of index start, or empty.
func (v *Vnode) openState(start id.Index) (*state, error) {
	dir := v.home.state(start)
	db, err := openStore(dir, v.log)
	if err != nil {
		return nil, err
	}
	s := newState(v.cfg, db, dir, start, v.log)
	if err := s.load(); err != nil {
		s.finish(err)
		return nil, errors.Join(fmt.Errorf("open state in %s: %w", dir, err), db.Close())
	}
	return s, nil
}

func newState(cfg Config, db *badger.DB, dir string, start id.Index, log *slog.Logger) *state {
	s := &state{cfg: cfg, log: log, dir: dir, start: start, db: db, memory: newMemory(), idle: make(chan struct{})}
	s.life, s.finish = context.WithCancelCause(context.Background())
	s.use.snapshots = make(map[*snapshot]struct{})
	s.tidy = newTidy(s)
	return s
}

// load reads what is kept in memory from the store.
func (s *state) load() error {
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	p, err := readPosition(txn)
	if err != nil {
		return err
	}
	// Entries without data for a state machine may stand before the copy's index.
	p.index = max(p.index, s.start)
	s.setPosition(p)
	s.floor = p.index
	s.checkpointed.Store(&position{})
	mark, err := readMark(txn)
	if err != nil {
		return err
	}
	s.whole = max(mark, s.start) == p.index
	var rest []objectID
	if s.catalog, rest, err = loadCatalog(txn); err != nil {
		return err
	}
	for _, g := range s.catalog.allGraves() {
		s.tidy.drop(g)
	}
	for _, of := range rest {
		s.tidy.drop(&grave{id: of, name: fmt.Sprintf("table %d", of)})
	}
	err = walk(txn, []byte{keyRemember}, func(key, record []byte) error {
		return s.memory.load(id.Index(binary.BigEndian.Uint64(key[1:])), record)
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

// enter uses the current state, until leave.
func (v *Vnode) enter() (*state, error) {
	for {
		s := v.current.Load()
		if s.enter() {
			return s, nil
		}
		if v.current.Load() == s {
			return nil, ErrClosed
		} // else it was replaced in this moment
	}
}

// enter counts a user of the state, unless it has ended.
func (s *state) enter() bool {
	s.use.Lock()
	defer s.use.Unlock()
	if s.use.ended {
		return false
	}
	s.use.users++
	return true
}

func (s *state) leave() {
	s.use.Lock()
	defer s.use.Unlock()
	s.use.users--
	s.restLocked()
}

// end lets nobody in any more, and tells those who are in it why.
func (s *state) end(why error) {
	s.finish(why)
	s.use.Lock()
	defer s.use.Unlock()
	s.use.ended = true
	s.restLocked()
}

func (s *state) restLocked() {
	if s.use.ended && s.use.users == 0 {
		close(s.idle)
	}
}

// during is ctx until the state ends. done is to be called when what it is for
// is over.
func (s *state) during(ctx context.Context) (during context.Context, done func()) {
	during, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { cancel(context.Cause(s.life)) })
	return during, func() {
		stop()
		cancel(nil)
	}
}

// close closes the store of a state that has ended and is idle.
func (s *state) close() error {
	for snap := range s.use.snapshots {
		snap.read.close()
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close state in %s: %w", s.dir, err)
	}
	return nil
}

// position is how far the log is applied.
func (s *state) position() position { return *s.applied.Load() }

func (s *state) setPosition(p position) { s.applied.Store(&p) }

// settled reports whether the store is what the log makes of it: nothing below
// Applied is missing, and nothing is being applied a second time.
func (s *state) settled() bool {
	replayed := id.Index(s.replayed.Load())
	return replayed >= s.floor || s.whole && replayed == 0
}

// checkpoint makes everything applied so far last. announce is called with the
// index when it does, before anything is forgotten that a replay from the
// checkpoint before this one needs: after an error that one is still the last.
func (s *state) checkpoint(ctx context.Context, announce func(id.Index) error) (id.Index, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	// The position is read before the sync: that much the sync makes durable.
	at, before := s.position(), *s.checkpointed.Load()
	if !s.settled() {
		// The store reaches at, but with holes.
		at = position{index: id.Index(s.replayed.Load())}
	}
	gone := s.tidy.gone(before.index)
	if err := syncStore(s.dir); err != nil {
		return 0, fmt.Errorf("checkpoint of group %d: %w", s.cfg.Group, err)
	}
	b := newBatch(s.db)
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
	if err := syncStore(s.dir); err != nil {
		return 0, fmt.Errorf("mark checkpoint of group %d: %w", s.cfg.Group, err)
	}
	if err := announce(at.index); err != nil {
		return 0, fmt.Errorf("announce checkpoint of group %d: %w", s.cfg.Group, err)
	}
	s.tidy.forget(gone)
	for _, g := range gone {
		s.catalog.forget(g)
	}
	// The host may not get to note this index: a replay starts there or at the
	// one before.
	s.forgettable.Store(uint64(before.remember))
	s.checkpointed.Store(&at)
	return at.index, nil
}
