package vnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/vnode/repeat"
)

const (
	// smallRows is below how many rows a block is worth merging with others.
	smallRows = 512
	// mergeAfter is how many small blocks a table gets before they are merged.
	// Each merge reads again what the one before left small; a scan reads up to
	// so many small blocks of each table, in some 40 us.
	mergeAfter = 256
	// mergeRows and mergeBytes bound what one merge holds in memory, and make
	// sure that it fits into one transaction.
	mergeRows  = 4 * blockRows
	mergeBytes = 1 << 20
	// deleteAtOnce is how many keys one transaction of a clean-up deletes.
	deleteAtOnce = 1000
)

// tidy works in the background of a replica: it merges small blocks, removes
// the blocks of dropped tables and those that are older than what is kept. All
// of it is local: nothing that a reader or a digest sees changes.
//
// It is the only one that removes blocks.
type tidy struct {
	state *state
	token chan struct{} // holds a token while there may be something to do

	mu struct {
		sync.Mutex
		small   map[objectID]*smallBlocks
		ready   []objectID // tables that have mergeAfter small blocks
		dropped []*grave
		cleaned map[objectID]*grave // their blocks are gone, not yet for ever
	}

	// ---- owned by run ----
	expired  int64 // what is older was removed already
	surveyed bool
}

func newTidy(s *state) *tidy {
	t := &tidy{state: s, token: make(chan struct{}, 1)}
	t.mu.cleaned = make(map[objectID]*grave)
	t.mu.small = make(map[objectID]*smallBlocks)
	return t
}

// wake makes run look for something to do.
func (y *tidy) wake() {
	select {
	case y.token <- struct{}{}:
	default:
	}
}

// smallBlocks is what is known of the blocks of a table, for those of them that
// are small.
type smallBlocks struct {
	count int   // since the last merge
	from  int64 // where the first of them starts that may still be merged
	reach int64 // where the last large block ends
}

// note counts a block of a table.
func (y *tidy) note(t *Table, h *blockHead) {
	y.mu.Lock()
	defer y.mu.Unlock()
	s := y.mu.small[t.id]
	if s == nil {
		s = &smallBlocks{from: math.MaxInt64, reach: math.MinInt64}
		y.mu.small[t.id] = s
	}
	if h.rows >= smallRows {
		s.reach = max(s.reach, h.last)
		return
	}
	s.from = min(s.from, h.first)
	if s.count++; s.count == mergeAfter {
		y.mu.ready = append(y.mu.ready, t.id)
	}
}

// begin takes a table's small blocks into work. reach is where the last of its
// large blocks ends.
func (y *tidy) begin(of objectID) (from, reach int64) {
	y.mu.Lock()
	defer y.mu.Unlock()
	s := y.mu.small[of]
	if s == nil {
		return math.MaxInt64, math.MaxInt64
	}
	from = s.from
	s.count, s.from = 0, math.MaxInt64
	return from, s.reach
}

// rest says where the small blocks start that a merge left, and where the last
// large one ends that it made.
func (y *tidy) rest(of objectID, from, reach int64) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if s := y.mu.small[of]; s != nil {
		s.from = min(s.from, from)
		s.reach = max(s.reach, reach)
	}
}

// drop has the blocks of an object that was dropped removed.
func (y *tidy) drop(g *grave) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.mu.dropped = append(y.mu.dropped, g)
	delete(y.mu.cleaned, g.id)
	delete(y.mu.small, g.id)
}

// gone is the graves of which nothing else is left and that no replay from
// index on asks for. Once a sync has made that last, forget is called with
// them.
func (y *tidy) gone(index id.Index) (gone []*grave) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, g := range y.mu.cleaned {
		if repeat.Place(g.dropped).Index() <= index {
			gone = append(gone, g)
		}
	}
	return gone
}

func (y *tidy) forget(gone []*grave) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, g := range gone {
		delete(y.mu.cleaned, g.id)
	}
}

// run works until ctx ends. A failure is logged and tried again when something
// was applied: the data is safe either way.
func (y *tidy) run(ctx context.Context) {
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-y.token:
		}
		err := y.work(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			y.state.log.Warn("background work fails", "err", err)
		case err == nil && failing:
			y.state.log.Info("background work goes on")
		}
		failing = err != nil
	}
}

func (y *tidy) work(ctx context.Context) error {
	if !y.state.settled() {
		return nil // what looks dropped may only be missing; Apply wakes us again
	}
	if !y.surveyed {
		if err := y.survey(ctx); err != nil {
			return err
		}
		y.surveyed = true
	}
	for ctx.Err() == nil {
		y.mu.Lock()
		var dropped *grave
		var ready objectID
		switch {
		case len(y.mu.dropped) > 0:
			dropped = y.mu.dropped[0]
			y.mu.dropped = y.mu.dropped[1:]
		case len(y.mu.ready) > 0:
			ready = y.mu.ready[0]
			y.mu.ready = y.mu.ready[1:]
		}
		y.mu.Unlock()
		switch {
		case dropped != nil:
			if err := y.clean(ctx, dropped); err != nil {
				y.drop(dropped)
				return err
			}
		case ready != 0:
			if err := y.merge(ctx, ready); err != nil {
				return fmt.Errorf("merge blocks of table %d: %w", ready, err)
			}
		default:
			return y.expire(ctx)
		}
	}
	return ctx.Err()
}

// survey notes the blocks that a former run left.
func (y *tidy) survey(ctx context.Context) error {
	txn := y.state.db.NewTransaction(false)
	defer txn.Discard()
	var t *Table
	return walk(txn, []byte{keyBlock}, func(key, value []byte) error {
		k, err := parseBlockKey(key, y.state.cfg.Cluster)
		if err != nil {
			return err
		}
		if t == nil || t.id != k.table {
			t = y.state.catalog.tableOf(k.table)
		}
		h, err := parseHead(value)
		if err == nil && t != nil {
			y.note(t, &h)
		}
		return cmp.Or(err, ctx.Err())
	})
}

// clean removes what is left of a dropped object but its grave.
func (y *tidy) clean(ctx context.Context, g *grave) error {
	if y.state.catalog.tableOf(g.id) != nil {
		return nil // its super table was missing; the replay has made it again
	}
	// A child of a dropped super table still has its record. It gives way to
	// the grave, so that the blocks are found again whatever a power cut leaves.
	b := newBatch(y.state.db)
	defer b.discard()
	if err := b.delete(appendObjectKey(nil, keyObject, g.id)); err != nil {
		return err
	}
	if err := b.set(appendObjectKey(nil, keyDropped, g.id), g.append(nil)); err != nil {
		return err
	}
	if err := b.commit(); err != nil {
		return err
	}
	for _, prefix := range []byte{keyBlock, keySpan} {
		for more := true; more; {
			if err := ctx.Err(); err != nil {
				return err
			}
			keys, err := y.keys(appendObjectKey(nil, prefix, g.id), nil)
			if err != nil {
				return fmt.Errorf("remove dropped table %s: %w", g.name, err)
			}
			more = len(keys) == deleteAtOnce
			if err := y.remove(keys); err != nil {
				return fmt.Errorf("remove dropped table %s: %w", g.name, err)
			}
		}
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.mu.cleaned[g.id] = g
	return nil
}

// keys is up to deleteAtOnce keys with a prefix that pick, unless nil, wants.
func (y *tidy) keys(prefix []byte, pick func(key, value []byte) (want, more bool)) ([][]byte, error) {
	txn := y.state.db.NewTransaction(false)
	defer txn.Discard()
	var keys [][]byte
	err := walk(txn, prefix, func(key, value []byte) error {
		want, more := true, true
		if pick != nil {
			want, more = pick(key, value)
		}
		if want {
			keys = append(keys, slices.Clone(key))
		}
		if !more || len(keys) == deleteAtOnce {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return keys, err
}

func (y *tidy) remove(keys [][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	b := newBatch(y.state.db)
	defer b.discard()
	for _, key := range keys {
		if err := b.delete(key); err != nil {
			return err
		}
	}
	return b.commit()
}

// expire removes blocks that lie wholly before what is kept, once in a
// hundredth of the time that things are kept.
func (y *tidy) expire(ctx context.Context) error {
	oldest := y.state.cfg.oldest(y.state.position().aged)
	step := int64(y.state.cfg.Keep/y.state.cfg.Precision.Unit()) / 100
	if oldest < y.expired+step && y.expired != 0 {
		return nil
	}
	for _, t := range y.state.catalog.all() {
		for more := true; more; {
			if err := ctx.Err(); err != nil {
				return err
			}
			keys, err := y.keys(appendObjectKey(nil, keyBlock, t.id), func(key, value []byte) (bool, bool) {
				h, err := parseHead(value)
				return err == nil && h.last < oldest, err == nil && h.first < oldest
			})
			if err != nil {
				return fmt.Errorf("remove old rows of table %s: %w", t.Name, err)
			}
			more = len(keys) == deleteAtOnce
			if err := y.remove(keys); err != nil {
				return fmt.Errorf("remove old rows of table %s: %w", t.Name, err)
			}
		}
	}
	y.expired = oldest
	return nil
}
