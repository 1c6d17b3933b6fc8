package vnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// errEnough ends a scan of one table early.
var errEnough = errors.New("enough rows")

// targets is the tables that a request is about and the columns that it wants
// of them. The view that they are read from is opened before: a block in a view
// may not name a schema that is newer than the one at hand.
func (s *state) targets(name string, pick func(*Table) bool, columns []string) ([]*Table, *Schema, []Column, error) {
	var tables []*Table
	var schema *Schema
	if t := s.catalog.table(name); t != nil {
		tables, schema = []*Table{t}, t.Schema()
	} else if st := s.catalog.stable(name); st != nil {
		tables, schema = s.catalog.childrenOf(st), st.Schema()
	} else {
		return nil, nil, nil, fmt.Errorf("%w: %s", ErrNoTable, name)
	}
	if pick != nil {
		tables = slices.DeleteFunc(tables, func(t *Table) bool { return !pick(t) })
	}
	if columns == nil {
		return tables, schema, schema.liveColumns(), nil
	}
	wanted := make([]Column, len(columns))
	for i, c := range columns {
		var ok bool
		if wanted[i], ok = schema.live(c); !ok {
			return nil, nil, nil, fmt.Errorf("%w: %s of %s", ErrNoColumn, c, name)
		}
	}
	return tables, schema, wanted, nil
}

// Scan gives the rows that a request asks for to yield. It shows what this
// replica has applied; take the read barrier first (Read) for more. Its memory
// does not grow with the number of rows.
func (v *Vnode) Scan(ctx context.Context, req ScanRequest, yield Yield) error {
	on, err := v.enter()
	if err != nil {
		return err
	}
	defer on.leave()
	if !on.settled() {
		return ErrReplaying
	}
	ctx, done := on.during(ctx)
	defer done()
	txn := on.db.NewTransaction(false)
	defer txn.Discard()
	tables, schema, columns, err := on.targets(req.Table, req.Tables, req.Columns)
	if err != nil {
		return err
	}
	slices.SortFunc(tables, func(a, b *Table) int { return cmp.Compare(a.Name, b.Name) })
	s, err := on.newScan(ctx, txn, &req, yield)
	if err != nil {
		return err
	}
	defer s.close()
	s.r.want(schema, columns)
	s.out = sql.NewRows(s.r.wanted, 0)
	for _, t := range tables {
		s.table, s.left = t, req.Limit
		if req.Descending {
			err = s.backward(t)
		} else {
			err = s.forward(t, s.span, s.add)
			if err == nil {
				err = s.flush()
			}
		}
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
	}
	return nil
}

// scan carries one Scan.
type scan struct {
	ctx   context.Context //nolint:containedctx // as long as the call that carries it
	txn   *badger.Txn
	state *state
	req   *ScanRequest
	r     *reader
	back  *badger.Iterator // against the order of time; nil until needed
	span  Range
	yield Yield

	table *Table
	left  int         // of req.Limit
	out   *sql.Rows   // what is collected for yield
	spare []*sql.Rows // memory of windows
	keep  []bool
}

func (s *state) newScan(ctx context.Context, txn *badger.Txn, req *ScanRequest, yield Yield) (*scan, error) {
	span, err := s.visible(txn, req.Range)
	if err != nil {
		return nil, err
	}
	r := newReader(txn, s.cfg.Cluster)
	return &scan{ctx: ctx, txn: txn, state: s, req: req, r: r, span: span, yield: yield}, nil
}

// visible is r without what is no longer kept at the moment of the view.
func (s *state) visible(txn *badger.Txn, r Range) (Range, error) {
	p, err := readPosition(txn)
	if err != nil {
		return r, err
	}
	r = r.whole()
	r.From = max(r.From, s.cfg.oldest(p.aged))
	return r, nil
}

// forward reads a range of a table in order of time.
func (s *scan) forward(t *Table, span Range, take func(run) error) error {
	if err := s.r.seek(t, span); err != nil {
		return err
	}
	for {
		if err := s.ctx.Err(); err != nil {
			return context.Cause(s.ctx)
		}
		run, ok, err := s.r.next()
		if err != nil || !ok {
			return err
		}
		if err := s.r.decode(run.block); err != nil {
			return err
		}
		if err := take(run); err != nil {
			return err
		}
	}
}

// add collects a run, and hands over what is collected when it is enough.
func (s *scan) add(r run) error {
	if r.whole && s.out.Len() == 0 && r.hi >= BatchRows/8 && r.hi <= BatchRows && s.req.Filter == nil &&
		(s.left == 0 || r.hi < s.left) {
		// A large block as it is: no need to copy it.
		return s.hand(r.block.rows)
	}
	for r.lo < r.hi {
		n := min(r.hi-r.lo, BatchRows-s.out.Len())
		s.out.Append(r.block.rows, r.lo, r.lo+n)
		r.lo += n
		if s.out.Len() == BatchRows || s.left > 0 && s.req.Filter == nil && s.out.Len() >= s.left {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush filters what is collected and hands it over.
func (s *scan) flush() error {
	if s.out.Len() == 0 {
		return nil
	}
	defer s.out.Reset()
	s.filter(s.out)
	return s.hand(s.out)
}

// filter removes the rows that the request's filter does not keep.
func (s *scan) filter(rows *sql.Rows) {
	if s.req.Filter == nil || rows.Len() == 0 {
		return
	}
	s.keep = keepOf(s.keep, rows.Len())
	s.req.Filter(s.table, rows, s.keep)
	compact(rows, s.keep)
}

func keepOf(keep []bool, n int) []bool {
	keep = resize(keep, n)
	for i := range keep {
		keep[i] = true
	}
	return keep
}

// hand gives rows to yield, as far as the limit allows.
func (s *scan) hand(rows *sql.Rows) error {
	if rows.Len() == 0 {
		return nil
	}
	if s.req.Limit > 0 {
		if rows.Len() > s.left {
			truncate(rows, s.left)
		}
		if s.left -= rows.Len(); s.left == 0 {
			if err := s.yield(s.table, rows); err != nil {
				return err
			}
			return errEnough
		}
	}
	return s.yield(s.table, rows)
}

// The rows of one window of a backward scan: below fewRows the next window is
// longer, above manyRows it is given up and a shorter one tried, so that memory
// stays bounded.
const (
	fewRows  = BatchRows / 4
	manyRows = 16 * BatchRows
)

// errTooMany ends a window of a backward scan that has too many rows.
var errTooMany = errors.New("too many rows in the window")

// backward reads a table against the order of time: window after window from
// the end, each read forwards and turned around. A window starts where a block
// starts or before, so that it is not empty.
func (s *scan) backward(t *Table) error {
	to := s.span.To
	window, shrunk := uint64(0), false
	for to > s.span.From {
		first, ok, err := s.lastBlock(t, to)
		if err != nil || !ok {
			return err
		}
		from := s.span.From
		if window < uint64(to)-uint64(from) {
			from = to - int64(window)
		}
		if !shrunk {
			from = max(s.span.From, min(from, first))
		}
		got, total, err := s.window(t, Range{From: from, To: to})
		if errors.Is(err, errTooMany) {
			window, shrunk = max(1, (uint64(to)-uint64(from))/16), true
			continue
		}
		if err != nil {
			return err
		}
		for _, rows := range slices.Backward(got) {
			if err := s.handReversed(rows); err != nil {
				return err
			}
		}
		if total < fewRows {
			window = min(max(window, uint64(to)-uint64(from))*2, 1<<62)
		}
		to, shrunk = from, false
	}
	return nil
}

// window is the rows of a table in a range, in order of time. They are valid
// until the next window.
func (s *scan) window(t *Table, span Range) (got []*sql.Rows, total int, err error) {
	err = s.forward(t, span, func(r run) error {
		if n := len(got); n == 0 || got[n-1].Len() >= BatchRows {
			if n == len(s.spare) {
				s.spare = append(s.spare, sql.NewRows(s.r.wanted, 0))
			}
			s.spare[n].Reset()
			got = s.spare[:n+1]
		}
		got[len(got)-1].Append(r.block.rows, r.lo, r.hi)
		if total += r.hi - r.lo; total > manyRows {
			return errTooMany
		}
		return nil
	})
	return got, total, err
}

// handReversed hands rows over, the last one first.
func (s *scan) handReversed(rows *sql.Rows) error {
	s.filter(rows)
	for end := rows.Len(); end > 0; {
		n := min(end, BatchRows)
		if s.left > 0 {
			n = min(n, s.left)
		}
		appendReversed(s.out, rows, end-n, end)
		end -= n
		err := s.hand(s.out)
		s.out.Reset()
		if err != nil {
			return err
		}
	}
	return nil
}

// appendReversed appends rows [from, to) of src, the last one first.
func appendReversed(dst, src *sql.Rows, from, to int) {
	for i := to - 1; i >= from; i-- {
		dst.Timestamps = append(dst.Timestamps, src.Timestamps[i])
	}
	for j := range dst.Columns {
		d, c := &dst.Columns[j], &src.Columns[j]
		if len(c.Nulls) > 0 || c.Type.Storage() == sql.StoreBytes {
			for i := to - 1; i >= from; i-- {
				d.Append(c, i, i+1)
			}
			continue
		}
		for i := to - 1; i >= from && len(c.Ints) > 0; i-- {
			d.Ints = append(d.Ints, c.Ints[i])
		}
		for i := to - 1; i >= from && len(c.Floats) > 0; i-- {
			d.Floats = append(d.Floats, c.Floats[i])
		}
	}
}

// lastBlock is where the last block starts that starts before to, if there is
// one that may have rows in the range of the scan.
func (s *scan) lastBlock(t *Table, to int64) (first int64, ok bool, err error) {
	if s.back == nil {
		s.back = s.txn.NewIterator(badger.IteratorOptions{Reverse: true, Prefix: []byte{keyBlock}})
	}
	// The key of a block that starts at to is longer, so it lies behind.
	s.back.Seek(appendTimeKey(nil, t.id, to))
	if !s.back.Valid() {
		return 0, false, nil
	}
	key, err := parseBlockKey(s.back.Item().Key(), s.state.cfg.Cluster)
	if err != nil || key.table != t.id {
		return 0, false, err
	}
	return key.first, key.first >= spanStart(s.span.From, t.span.Load()), nil
}

// close lets go of the view.
func (s *scan) close() {
	s.r.close()
	if s.back != nil {
		s.back.Close()
	}
}

// truncate leaves the first n rows.
func truncate(rows *sql.Rows, n int) {
	rows.Timestamps = rows.Timestamps[:n]
	for i := range rows.Columns {
		c := &rows.Columns[i]
		switch c.Type.Storage() {
		case sql.StoreInts:
			c.Ints = c.Ints[:n]
		case sql.StoreFloats:
			c.Floats = c.Floats[:n]
		default:
			c.Ends = c.Ends[:n]
		}
		if words := (n + 63) / 64; len(c.Nulls) > words {
			c.Nulls = c.Nulls[:words]
		}
		if n%64 != 0 && len(c.Nulls) == (n+63)/64 {
			c.Nulls[n/64] &= 1<<(n%64) - 1
		}
	}
}

// compact leaves the rows to keep.
func compact(rows *sql.Rows, keep []bool) {
	if !slices.Contains(keep, false) {
		return
	}
	n := 0
	for i, k := range keep {
		if k {
			rows.Timestamps[n] = rows.Timestamps[i]
			n++
		}
	}
	rows.Timestamps = rows.Timestamps[:n]
	for i := range rows.Columns {
		compactColumn(&rows.Columns[i], keep)
	}
}

func compactColumn(c *sql.Values, keep []bool) {
	old := *c
	*c = sql.Values{Column: old.Column, Ints: old.Ints[:0], Floats: old.Floats[:0]}
	for i := 0; i < len(keep); {
		if !keep[i] {
			i++
			continue
		}
		end := i
		for end < len(keep) && keep[end] {
			end++
		}
		c.Append(&old, i, end)
		i = end
	}
}

// liveColumns is Live with what the columns are called inside.
func (s *Schema) liveColumns() []Column {
	columns := make([]Column, 0, len(s.Columns))
	for _, c := range s.Columns {
		if c.in(s.Version) {
			columns = append(columns, c)
		}
	}
	return columns
}
