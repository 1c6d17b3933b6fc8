package vnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/dgraph-io/badger/v4"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// merge replaces neighbouring small blocks of a table by large ones.
func (y *tidy) merge(ctx context.Context, of objectID) (err error) {
	from, reach := y.begin(of)
	t := y.state.catalog.tableOf(of)
	if t == nil || from == math.MaxInt64 {
		return nil
	}
	defer func() {
		if err != nil { // the next merge of this table begins where this one did
			y.rest(of, from, reach)
		}
	}()
	start := from
	if reach >= from {
		// A large block before the first small one may reach into it. Otherwise
		// there is nothing there but what former merges deleted, which the store
		// passes over one by one.
		start = spanStart(from, t.span.Load())
	}
	txn := y.state.db.NewTransaction(false)
	defer txn.Discard()
	m := merger{
		y: y, t: t, schema: t.Schema(), r: newReader(txn, y.state.cfg.Cluster),
		left: math.MaxInt64, reach: math.MinInt64,
	}
	defer m.r.close()
	m.r.want(m.schema, m.schema.liveColumns())
	m.r.start(t, Range{From: math.MinInt64, To: math.MaxInt64}, start)
	for {
		if err := cmp.Or(ctx.Err(), m.r.advance()); err != nil {
			return err
		}
		c := m.r.ahead
		if c == nil {
			break
		}
		if c.head.rows >= smallRows && c.head.last < from {
			m.r.release(c)
			continue
		}
		if err := m.take(c); err != nil {
			return err
		}
	}
	m.left = math.MaxInt64 // what comes before the last group stays as it is
	if err := m.finish(); err != nil {
		return err
	}
	y.rest(of, m.left, m.reach)
	return nil
}

// merger carries one pass over a table: it collects a group of blocks that
// follow each other, and replaces it when the next block does not belong to it.
type merger struct {
	y      *tidy
	t      *Table
	schema *Schema
	r      *reader
	enc    encoder

	group []*cursor
	rows  int
	bytes int
	last  int64 // the latest timestamp of the group
	left  int64 // where the first small block starts that a group has left
	reach int64 // where the last large block ends that was written
}

// take adds the next block to the group, or finishes the group first. Small
// blocks belong together; a large one belongs to those that it overlaps.
func (m *merger) take(c *cursor) error {
	small := c.head.rows < smallRows
	overlaps := len(m.group) > 0 && c.head.first <= m.last
	full := m.rows+c.head.rows > mergeRows || m.bytes+len(c.raw) > mergeBytes ||
		len(m.group) > 0 && c.head.first-m.group[0].head.first > m.y.state.cfg.maxSpan()
	if full || !small && !overlaps {
		if err := m.finish(); err != nil {
			return err
		}
	}
	if len(m.group) == 1 && m.group[0].head.rows >= smallRows && !overlaps {
		m.clear() // a large block that nothing overlaps
	}
	m.group = append(m.group, c)
	m.rows += c.head.rows
	m.bytes += len(c.raw)
	if len(m.group) == 1 || c.head.last > m.last {
		m.last = c.head.last
	}
	return nil
}

func (m *merger) clear() {
	for _, c := range m.group {
		m.r.release(c)
	}
	m.group, m.rows, m.bytes = nil, 0, 0
}

// The least that makes it worth while to replace a group.
const (
	mergeBlocks    = 8
	mergeSmallRows = smallRows / 2
)

// finish replaces the group, if it is worth it, and starts a new one.
func (m *merger) finish() error {
	defer m.clear()
	group := m.group
	// A block that is larger than all that follows waits until they have
	// grown: so every row is written a few times, not once for each merge.
	if len(group) > 1 && group[0].head.rows > m.rows-group[0].head.rows && group[0].head.last < group[1].head.first {
		m.rows -= group[0].head.rows
		m.leave(&group[0].head)
		group = group[1:]
	}
	if len(group) < 2 || len(group) < mergeBlocks && m.rows < mergeSmallRows {
		for _, c := range group {
			m.leave(&c.head)
		}
		return nil
	}
	keys := make([][]byte, len(group))
	for i, c := range group {
		keys[i] = c.storeKey(m.t.id, m.y.state.cfg.Cluster)
	}
	rows, stamps, err := m.collect(group)
	if err != nil {
		return err
	}
	return m.replace(keys, rows, stamps)
}

// leave notes a block that stands when the pass is over.
func (m *merger) leave(h *blockHead) {
	if h.rows < smallRows {
		m.left = min(m.left, h.first)
	} else {
		m.reach = max(m.reach, h.last)
	}
}

// storeKey is the key under which a block was found.
func (c *cursor) storeKey(table objectID, local id.Cluster) []byte {
	if c.key.kind == blockMerged {
		return appendMergedKey(nil, table, c.key.first, c.key.random)
	}
	return appendBlockKey(nil, table, c.key.first, c.key.version, local)
}

// collect is the rows of a group that exist, with their stamps.
func (m *merger) collect(group []*cursor) (*sql.Rows, *rowStamps, error) {
	r := reader{
		feed: group, local: m.r.local, wanted: m.r.wanted, ids: m.r.ids,
		schema: m.schema, plans: m.r.plans, table: m.t.id,
		span: Range{From: math.MinInt64, To: math.MaxInt64},
	}
	if err := r.advance(); err != nil {
		return nil, nil, err
	}
	rows, stamps := sql.NewRows(m.r.wanted, m.rows), &rowStamps{}
	for {
		run, ok, err := r.next()
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			return rows, stamps, nil
		}
		if err := r.decode(run.block); err != nil {
			return nil, nil, err
		}
		rows.Append(run.block.rows, run.lo, run.hi)
		for i := run.lo; i < run.hi; i++ {
			v := run.block.version(i)
			stamps.stamps = append(stamps.stamps, int64(v.stamp))
			stamps.origins = append(stamps.origins, int64(v.origin))
		}
	}
}

// replace writes rows as merged blocks in place of those with these keys, in
// one transaction: whatever a power cut leaves, it leaves either.
func (m *merger) replace(keys [][]byte, rows *sql.Rows, stamps *rowStamps) error {
	txn := m.y.state.db.NewTransaction(true)
	defer txn.Discard()
	cuts := m.y.state.cfg.cuts(rows)
	for i := 1; i < len(cuts); i++ {
		from, to := cuts[i-1], cuts[i]
		part := rowStamps{stamps: stamps.stamps[from:to], origins: stamps.origins[from:to]}
		block := m.enc.appendBlock(nil, rows, from, to, m.schema.Version, &part)
		first, last := rows.Timestamps[from], rows.Timestamps[to-1]
		class := spanClass(first, last)
		m.t.widen(class)
		m.leave(&blockHead{rows: to - from, first: first, last: last})
		// The class is written every time: an older transaction that did may
		// be lost where this one survives.
		err := errors.Join(
			txn.Set(appendMergedKey(nil, m.t.id, first, rand.Uint64()), block),
			txn.Set(appendSpanKey(nil, m.t.id, class), nil),
		)
		if err != nil {
			return skipTooBig(err)
		}
	}
	for _, key := range keys {
		if err := txn.Delete(key); err != nil {
			return skipTooBig(err)
		}
	}
	if m.y.state.catalog.tableOf(m.t.id) != m.t {
		return nil
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// skipTooBig leaves blocks as they are that can't be replaced at once.
func skipTooBig(err error) error {
	if errors.Is(err, badger.ErrTxnTooBig) {
		return nil
	}
	return err
}
