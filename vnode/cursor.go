package vnode

import (
	"fmt"
	"math"
	"sort"

	"github.com/dgraph-io/badger/v4"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// cursor is one block on its way through a reader: its bytes, and its rows once
// somebody has asked for them.
type cursor struct {
	key     blockKey
	head    blockHead
	raw     []byte // a copy of the stored bytes
	from    *plan
	rows    *sql.Rows // wanted columns; nil until decoded
	stamps  rowStamps
	decoded bool
	at      int // next row that was not given out
}

// plan is how blocks of one schema version give the wanted columns.
type plan struct {
	columns []sql.Column
	want    projection
}

// reader gives the rows of one table after the other, in order of time, with
// rows that were overwritten left out. It reads blocks as they come in order of
// their first timestamp and holds only those that overlap.
//
// A reader belongs to one goroutine and to the view that its iterator was made
// of.
type reader struct {
	it     *badger.Iterator // nil: blocks come from feed
	feed   []*cursor        // in order of their first timestamp
	local  id.Cluster
	wanted []sql.Column // columns of the rows given out
	ids    []uint16     // of the wanted columns
	dec    blockDecoder

	// Of the table at hand:
	schema *Schema
	span   Range
	table  objectID
	plans  map[uint32]*plan
	ended  bool      // the iterator stands behind the table's blocks
	ahead  *cursor   // the next block, not yet begun
	active []*cursor // blocks that have begun and overlap
	free   []*cursor
	unused []*sql.Rows // of cursors that were let go of
	bytes  []byte      // the key where the iterator starts
}

// run is rows [lo, hi) of a block, all of which exist. Nobody else has rows
// between them. whole says that they are all the rows of the block, which then
// may be not decoded yet.
type run struct {
	block  *cursor
	lo, hi int
	whole  bool
}

// newReader makes a reader over a view of the store.
func newReader(txn *badger.Txn, local id.Cluster) *reader {
	opts := badger.IteratorOptions{Prefix: []byte{keyBlock}}
	return &reader{it: txn.NewIterator(opts), local: local}
}

func (r *reader) close() { r.it.Close() }

// want says which columns the runs have, for all tables of that schema.
func (r *reader) want(s *Schema, columns []Column) {
	r.schema, r.plans = s, make(map[uint32]*plan)
	r.wanted, r.ids = r.wanted[:0], r.ids[:0]
	for _, c := range columns {
		r.wanted = append(r.wanted, c.Column)
		r.ids = append(r.ids, c.ID)
	}
	// What is at hand has the columns of the schema before.
	r.active, r.ahead = r.active[:0], nil
	r.free, r.unused = nil, nil
}

// seek begins with the rows of a table in a range.
func (r *reader) seek(t *Table, span Range) error {
	r.start(t, span, spanStart(span.From, t.span.Load()))
	return r.advance()
}

// start stands before the blocks of a table that start at from or later.
func (r *reader) start(t *Table, span Range, from int64) {
	for _, c := range r.active {
		r.release(c)
	}
	if r.ahead != nil {
		r.release(r.ahead)
	}
	r.active, r.ahead = r.active[:0], nil
	r.table, r.span, r.ended = t.id, span, false
	r.bytes = appendTimeKey(r.bytes[:0], t.id, from)
	r.it.Seek(r.bytes)
}

// advance makes ahead the next block that reaches into the range.
func (r *reader) advance() error {
	r.ahead = nil
	if r.it == nil {
		if len(r.feed) > 0 {
			r.ahead, r.feed = r.feed[0], r.feed[1:]
		}
		return nil
	}
	for ; !r.ended && r.it.Valid(); r.it.Next() {
		item := r.it.Item()
		key, err := parseBlockKey(item.Key(), r.local)
		if err != nil {
			return err
		}
		if key.table != r.table || key.first >= r.span.To {
			break
		}
		c := r.acquire()
		c.key = key
		if err := item.Value(func(value []byte) error {
			c.raw = append(c.raw[:0], value...)
			return nil
		}); err != nil {
			return fmt.Errorf("read block of table %d: %w", r.table, err)
		}
		if c.head, err = parseHead(c.raw); err != nil {
			return fmt.Errorf("read block of table %d: %w", r.table, err)
		}
		if c.head.last < r.span.From {
			r.release(c)
			continue
		}
		if c.from, err = r.planOf(c.head.schema); err != nil {
			return err
		}
		r.ahead = c
		r.it.Next()
		return nil
	}
	r.ended = true
	return nil
}

func (r *reader) planOf(version uint32) (*plan, error) {
	if p := r.plans[version]; p != nil {
		return p, nil
	}
	if version > r.schema.Version {
		return nil, corruptf("block of schema version %d of table %d", version, r.table)
	}
	var p plan
	from := make([]int, len(r.ids))
	for j := range from {
		from[j] = -1
	}
	for _, c := range r.schema.Columns {
		if !c.in(version) {
			continue
		}
		for j, wanted := range r.ids {
			if wanted == c.ID {
				from[j] = len(p.columns)
			}
		}
		p.columns = append(p.columns, c.Column)
	}
	p.want = project(from, len(p.columns))
	r.plans[version] = &p
	return &p, nil
}

func (r *reader) acquire() *cursor {
	if n := len(r.free); n > 0 {
		c := r.free[n-1]
		r.free = r.free[:n-1]
		c.decoded, c.at = false, 0
		return c
	}
	return &cursor{}
}

// maxFree bounds the cursors, and the rows, that are kept for later.
const maxFree = 64

// release takes the memory of a cursor back. Nobody looks at its rows again.
func (r *reader) release(c *cursor) {
	if c.rows != nil && len(r.unused) < maxFree {
		r.unused = append(r.unused, c.rows)
	}
	c.rows = nil
	if len(r.free) < maxFree {
		r.free = append(r.free, c)
	}
}

// decode makes sure that the rows of a block are there.
func (r *reader) decode(c *cursor) error {
	if c.decoded {
		return nil
	}
	if n := len(r.unused); n > 0 {
		c.rows, r.unused = r.unused[n-1], r.unused[:n-1]
	} else {
		c.rows = sql.NewRows(r.wanted, 0)
	}
	if err := r.dec.decode(c.rows, &c.stamps, &c.head, c.from.columns, c.from.want); err != nil {
		return fmt.Errorf("decode block %d of table %d: %w", c.head.first, c.key.table, err)
	}
	c.decoded = true
	return nil
}

// version is that of a row of a decoded block.
func (c *cursor) version(row int) version {
	if c.head.stamped {
		return c.stamps.at(row)
	}
	return c.key.version
}

// next gives the next run, until ok is false. The run is valid until the next
// call.
func (r *reader) next() (run run, ok bool, err error) {
	for {
		if run, ok, err = r.step(); err != nil || !ok || run.lo < run.hi {
			return run, ok, err
		}
	}
}

// step is next, but the run may be empty.
func (r *reader) step() (run, bool, error) {
	r.drop()
	if len(r.active) == 0 {
		if r.ahead == nil {
			return run{}, false, nil
		}
		c := r.ahead
		r.active = append(r.active, c)
		if err := r.advance(); err != nil {
			return run{}, false, err
		}
		if r.ahead == nil || r.ahead.head.first > c.head.last {
			if c.head.first >= r.span.From && c.head.last < r.span.To {
				c.at = c.head.rows
				return run{block: c, hi: c.head.rows, whole: true}, true, nil
			}
		}
		if err := r.begin(c); err != nil {
			return run{}, false, err
		}
	}
	at := r.earliest()
	for r.ahead != nil && r.ahead.head.first <= at {
		c := r.ahead
		r.active = append(r.active, c)
		if err := r.begin(c); err != nil {
			return run{}, false, err
		}
		if err := r.advance(); err != nil {
			return run{}, false, err
		}
		at = r.earliest()
	}
	if at == math.MaxInt64 {
		return run{}, true, nil
	}
	return r.winner(at), true, nil
}

// drop lets go of blocks all of whose rows were given out.
func (r *reader) drop() {
	kept := r.active[:0]
	for _, c := range r.active {
		if c.at < c.head.rows {
			kept = append(kept, c)
		} else {
			r.release(c)
		}
	}
	r.active = kept
}

// begin decodes a block and stands before its first row in the range.
func (r *reader) begin(c *cursor) error {
	if err := r.decode(c); err != nil {
		return err
	}
	times := c.rows.Timestamps
	c.at = sort.Search(len(times), func(i int) bool { return times[i] >= r.span.From })
	if times[len(times)-1] >= r.span.To {
		// What lies behind the range counts as given out.
		c.head.rows = sort.Search(len(times), func(i int) bool { return times[i] >= r.span.To })
	}
	return nil
}

// earliest is the smallest timestamp that the active blocks have left.
func (r *reader) earliest() int64 {
	at := int64(math.MaxInt64)
	for _, c := range r.active {
		if c.at < c.head.rows {
			at = min(at, c.rows.Timestamps[c.at])
		}
	}
	return at
}

// winner is the run that starts with the row that exists at the timestamp at,
// the earliest of those left. It goes on as long as no other block has a row.
func (r *reader) winner(at int64) run {
	var best *cursor
	limit := int64(math.MaxInt64) // of the other blocks' next rows
	if r.ahead != nil {
		limit = r.ahead.head.first
	}
	for _, c := range r.active {
		if c.at >= c.head.rows {
			continue
		}
		if ts := c.rows.Timestamps[c.at]; ts > at {
			limit = min(limit, ts)
			continue
		}
		if best == nil {
			best = c
			continue
		}
		loser := c
		if c.version(c.at).above(best.version(best.at)) {
			best, loser = c, best
		}
		if loser.at++; loser.at < loser.head.rows {
			limit = min(limit, loser.rows.Timestamps[loser.at])
		}
	}
	lo := best.at
	times := best.rows.Timestamps[:best.head.rows]
	hi := lo + 1
	if limit == math.MaxInt64 || times[len(times)-1] < limit {
		hi = len(times)
	} else if hi < len(times) && times[hi] < limit {
		hi += sort.Search(len(times)-hi, func(i int) bool { return times[hi+i] >= limit })
	}
	best.at = hi
	return run{block: best, lo: lo, hi: hi}
}
