package vnode

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"sort"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// maxWindows bounds the windows of one request, some 200 bytes a column each.
const maxWindows = 1 << 21

// tablesAtOnce is how many tables one goroutine takes at a time.
const tablesAtOnce = 16

// Aggregate answers a request from the aggregates in the heads of blocks where
// a block lies in one window and overlaps no other, else from its rows. The
// groups come in order of their keys. Like Scan it shows what this replica has
// applied.
func (v *Vnode) Aggregate(ctx context.Context, req AggregateRequest) ([]Group, error) {
	s, err := v.enter()
	if err != nil {
		return nil, err
	}
	defer s.leave()
	if !s.settled() {
		return nil, ErrReplaying
	}
	ctx, done := s.during(ctx)
	defer done()
	if req.Columns == nil {
		req.Columns = []string{}
	}
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	tables, schema, columns, err := s.targets(req.Table, req.Tables, req.Columns)
	if err != nil {
		return nil, err
	}
	span, err := s.visible(txn, req.Range)
	if err != nil {
		return nil, err
	}
	workers := min(runtime.GOMAXPROCS(0), (len(tables)+tablesAtOnce-1)/tablesAtOnce)
	parts := make([]*aggregation, max(1, workers))
	work := newShares(len(tables))
	errs := make([]error, len(parts))
	var running sync.WaitGroup
	for i := range parts {
		a := newAggregation(s, txn, &req, span)
		a.r.want(schema, columns)
		parts[i] = a
		running.Go(func() {
			defer a.r.close()
			errs[i] = a.share(ctx, work, tables)
		})
	}
	running.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return gather(parts), nil
}

// shares hands out tables to the goroutines that aggregate.
type shares struct {
	sync.Mutex
	next, end int
}

func newShares(n int) *shares { return &shares{end: n} }

func (s *shares) take() (from, to int) {
	s.Lock()
	defer s.Unlock()
	from = s.next
	s.next = min(s.next+tablesAtOnce, s.end)
	return from, s.next
}

// aggregation is the work of one goroutine of Aggregate.
type aggregation struct {
	req    *AggregateRequest
	r      *reader
	span   Range
	groups map[string]map[int64]*Window
	total  int

	windows map[int64]*Window // of the group at hand
	now     *Window           // the last one used, nil if none
	rows    *sql.Rows         // filtered copies
	keep    []bool
}

func newAggregation(s *state, txn *badger.Txn, req *AggregateRequest, span Range) *aggregation {
	return &aggregation{
		req: req, span: span, r: newReader(txn, s.cfg.Cluster),
		groups: make(map[string]map[int64]*Window),
	}
}

// share takes tables until none is left.
func (a *aggregation) share(ctx context.Context, work *shares, tables []*Table) error {
	if a.req.Filter != nil {
		a.rows = sql.NewRows(a.r.wanted, 0)
	}
	for {
		from, to := work.take()
		if from == to {
			return nil
		}
		for _, t := range tables[from:to] {
			if err := a.table(ctx, t); err != nil {
				return err
			}
		}
	}
}

func (a *aggregation) table(ctx context.Context, t *Table) error {
	key := ""
	if a.req.Group != nil {
		key = a.req.Group(t)
	}
	a.now = nil
	if a.windows = a.groups[key]; a.windows == nil {
		a.windows = make(map[int64]*Window)
		a.groups[key] = a.windows
	}
	if err := a.r.seek(t, a.span); err != nil {
		return err
	}
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		run, ok, err := a.r.next()
		if err != nil || !ok {
			return err
		}
		if err := a.run(t, run); err != nil {
			return err
		}
	}
}

// run adds the rows of a run.
func (a *aggregation) run(t *Table, r run) error {
	if r.whole && a.req.Filter == nil {
		done, err := a.head(r.block)
		if done || err != nil {
			return err
		}
	}
	if err := a.r.decode(r.block); err != nil {
		return err
	}
	if a.req.Filter == nil {
		return a.add(r.block.rows, r.lo, r.hi)
	}
	a.rows.Reset()
	a.rows.Append(r.block.rows, r.lo, r.hi)
	a.keep = keepOf(a.keep, a.rows.Len())
	a.req.Filter(t, a.rows, a.keep)
	compact(a.rows, a.keep)
	return a.add(a.rows, 0, a.rows.Len())
}

// window makes now the window of ts.
func (a *aggregation) window(ts int64) error {
	if a.now != nil && ts >= a.now.Start && ts < a.now.End {
		return nil
	}
	start, end := a.span.From, a.span.To
	if a.req.Window != nil {
		start, end = a.req.Window(ts)
		if ts < start || ts >= end {
			return fmt.Errorf("%w: timestamp %d in window %d to %d", ErrBadStatement, ts, start, end)
		}
	}
	if a.now = a.windows[start]; a.now != nil {
		return nil
	}
	if a.total++; a.total > maxWindows {
		return fmt.Errorf("%w: more than %d windows", ErrTooLarge, maxWindows)
	}
	a.now = &Window{Start: start, End: end, Columns: make([]Aggregate, len(a.r.wanted))}
	for i, c := range a.r.wanted {
		a.now.Columns[i].Type = c.Type
	}
	a.windows[start] = a.now
	return nil
}

// head adds a whole block from what its head says, if that is enough.
func (a *aggregation) head(c *cursor) (done bool, err error) {
	if c.head.oneRow {
		return false, nil
	}
	if err := a.window(c.head.first); err != nil || c.head.last >= a.now.End {
		return false, err
	}
	if len(a.r.wanted) == 0 {
		a.now.Rows += int64(c.head.rows)
		return true, nil
	}
	dir := &a.r.dec.dir
	if err := dir.parse(&c.head, c.from.columns); err != nil {
		return false, fmt.Errorf("read block %d of table %d: %w", c.head.first, c.key.table, err)
	}
	for _, place := range c.from.want.from {
		// With a NULL in it nobody knows the time of the first and last value.
		if place >= 0 && (!dir.columns[place].exact || dir.columns[place].nulls > 0) &&
			dir.columns[place].codec != codecNothing {
			return false, nil
		}
	}
	a.now.Rows += int64(c.head.rows)
	for j, place := range c.from.want.from {
		if place < 0 || dir.columns[place].codec == codecNothing {
			continue
		}
		h := &dir.columns[place]
		part := Aggregate{
			Type: a.r.wanted[j].Type, Count: int64(c.head.rows),
			SumInt: h.sum.int, SumFloat: h.sum.float,
			min: h.min, max: h.max, first: h.first, last: h.lastValue,
			FirstTime: c.head.first, LastTime: c.head.last,
		}
		a.now.Columns[j].Merge(&part)
	}
	return true, nil
}

// add adds decoded rows [lo, hi), window by window.
func (a *aggregation) add(rows *sql.Rows, lo, hi int) error {
	times := rows.Timestamps
	for lo < hi {
		if err := a.window(times[lo]); err != nil {
			return err
		}
		end := hi
		if times[hi-1] >= a.now.End {
			end = lo + sort.Search(hi-lo, func(i int) bool { return times[lo+i] >= a.now.End })
		}
		a.now.Rows += int64(end - lo)
		for j := range rows.Columns {
			part := Aggregate{Type: rows.Columns[j].Type}
			part.addValues(times, &rows.Columns[j], lo, end)
			a.now.Columns[j].Merge(&part)
		}
		lo = end
	}
	return nil
}

// addValues adds values [lo, hi) of a column to an empty aggregate.
func (a *Aggregate) addValues(times []int64, c *sql.Values, lo, hi int) {
	if len(c.Nulls) > 0 || c.Type.Storage() == sql.StoreBytes || c.Type == sql.TypeUBigInt {
		a.addSlowly(times, c, lo, hi)
		return
	}
	a.Count = int64(hi - lo)
	a.FirstTime, a.LastTime = times[lo], times[hi-1]
	if c.Type.Storage() == sql.StoreInts {
		values := c.Ints[lo:hi]
		low, high, sum := values[0], values[0], int64(0)
		for _, v := range values {
			low, high, sum = min(low, v), max(high, v), sum+v
		}
		a.min.int, a.max.int, a.SumInt = low, high, sum
		a.first.int, a.last.int = values[0], values[len(values)-1]
		return
	}
	values := c.Floats[lo:hi]
	low, high, sum := values[0], values[0], 0.0
	for _, v := range values {
		sum += v
		if v < low {
			low = v
		}
		if v > high {
			high = v
		}
	}
	if math.IsNaN(sum) { // perhaps only infinities; order them with care
		a.Count = 0
		a.addSlowly(times, c, lo, hi)
		return
	}
	a.min.float, a.max.float, a.SumFloat = low, high, sum
	a.first.float, a.last.float = values[0], values[len(values)-1]
}

// addSlowly is addValues one by one, for NULLs, texts and what is no number.
func (a *Aggregate) addSlowly(times []int64, c *sql.Values, lo, hi int) {
	for i := lo; i < hi; i++ {
		if c.Nulls.Get(i) {
			continue
		}
		one := Aggregate{Type: c.Type, Count: 1, FirstTime: times[i], LastTime: times[i]}
		switch c.Type.Storage() {
		case sql.StoreInts:
			one.SumInt, one.min.int = c.Ints[i], c.Ints[i]
		case sql.StoreFloats:
			one.SumFloat, one.min.float = c.Floats[i], c.Floats[i]
		default:
			one.min.text = string(c.Bytes(i))
		}
		one.max, one.first, one.last = one.min, one.min, one.min
		a.Merge(&one)
	}
}

// gather merges what the goroutines found, and puts it in order.
func gather(parts []*aggregation) []Group {
	all := parts[0].groups
	for _, p := range parts[1:] {
		for key, windows := range p.groups {
			into := all[key]
			if into == nil {
				all[key] = windows
				continue
			}
			for start, w := range windows {
				if old := into[start]; old != nil {
					old.Merge(w)
				} else {
					into[start] = w
				}
			}
		}
	}
	groups := make([]Group, 0, len(all))
	for _, key := range slices.Sorted(maps.Keys(all)) {
		g := Group{Key: key}
		for _, w := range all[key] {
			if w.Rows > 0 {
				g.Windows = append(g.Windows, *w)
			}
		}
		if len(g.Windows) == 0 {
			continue
		}
		slices.SortFunc(g.Windows, func(a, b Window) int { return cmp.Compare(a.Start, b.Start) })
		groups = append(groups, g)
	}
	return groups
}
