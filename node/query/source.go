package query

import (
	"math"

	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/vnode"
)

// source is what a query reads, as one group knows it: a table, or its share
// of a super table.
type source struct {
	name   string
	alias  string
	table  *vnode.Table  // nil: a super table
	stable *vnode.Stable // of a super table, and of a child table
	schema *vnode.Schema
}

// tags are the tags that the rows of the source have, if any.
func (s *source) tags() []sql.Column {
	if s.stable == nil {
		return nil
	}
	return s.stable.Tags
}

// names reports whether t in t.c means this source.
func (s *source) names(t string) bool { return t == "" || t == s.name || t == s.alias }

// isTime reports whether a name means the timestamp column.
func (s *source) isTime(r *sql.Ref) bool {
	return s.names(r.Table) && (r.Name == s.schema.Time.Name || r.Name == "_rowts" || r.Name == "_c0")
}

// rowScope gives names their meaning in expressions over rows, and notes which
// columns have to be read for them.
type rowScope struct {
	src     *source
	columns []string // to be read, in the order of the batches
	byName  map[string]int
	live    []sql.Column
	perRow  bool // something so far differs from row to row of a table
}

func newRowScope(src *source) *rowScope {
	return &rowScope{src: src, byName: map[string]int{}, live: src.schema.Live()}
}

func noColumn(r *sql.Ref) error {
	return &sql.Error{Code: sql.CodeColumnName, Text: "Invalid column name: " + r.Name}
}

func (s *rowScope) ref(r *sql.Ref) (operand, error) {
	switch {
	case !s.src.names(r.Table):
		return operand{}, noColumn(r)
	case s.src.isTime(r):
		s.perRow = true
		return operand{column: s.src.schema.Time, eval: func(c *cursor) sql.Value {
			return instant(c.rows.Timestamps[c.row])
		}}, nil
	case r.Name == "tbname":
		return operand{column: varchar("tbname", vnode.MaxNameBytes), eval: func(c *cursor) sql.Value {
			return text(c.table.Name)
		}}, nil
	}
	for _, column := range s.live {
		if column.Name == r.Name {
			i := s.wanted(column.Name)
			s.perRow = true
			return operand{column: column, eval: func(c *cursor) sql.Value {
				return c.rows.Columns[i].Value(c.row)
			}}, nil
		}
	}
	for i, tag := range s.src.tags() {
		if tag.Name == r.Name {
			return operand{column: tag, eval: func(c *cursor) sql.Value { return c.table.Tags()[i] }}, nil
		}
	}
	return operand{}, noColumn(r)
}

func (s *rowScope) call(c *sql.Call) (operand, bool, error) {
	if c.Name == "tbname" && len(c.Args) == 0 {
		o, err := s.ref(&sql.Ref{Name: "tbname"})
		return o, true, err
	}
	if isAggregate(c) {
		return operand{}, false, &sql.Error{Code: sql.CodeSyntax, Text: "aggregate " + c.String() + " can't stand here"}
	}
	return operand{}, false, nil
}

// wanted is the place of a column in the batches.
func (s *rowScope) wanted(name string) int {
	i, ok := s.byName[name]
	if !ok {
		i = len(s.columns)
		s.columns = append(s.columns, name)
		s.byName[name] = i
	}
	return i
}

// where is a condition taken apart into what can be used to read less: a range
// of time, a choice of tables, and the rest for each row.
type where struct {
	span   vnode.Range
	tables []operand
	rows   []operand
}

// empty reports whether no timestamp can satisfy the condition.
func (w *where) empty() bool { return w.span.From >= w.span.To }

// anyTable reports whether the tables of a group are not chosen among.
func (w *where) anyTable() bool { return len(w.tables) == 0 }

// table reports whether a table is wanted.
func (w *where) table(t *vnode.Table) bool {
	return holdsAll(w.tables, &cursor{table: t})
}

// keep clears the rows that are not wanted.
func (w *where) keep(t *vnode.Table, rows *sql.Rows, keep []bool) {
	c := &cursor{table: t, rows: rows}
	for c.row = range keep {
		keep[c.row] = keep[c.row] && holdsAll(w.rows, c)
	}
}

func holdsAll(conditions []operand, c *cursor) bool {
	for _, o := range conditions {
		if is, known := truth(o.eval(c)); !is || !known {
			return false
		}
	}
	return true
}

// where takes a condition apart. What it looks at for each row is added to the
// columns of the scope.
func (k *compiler) where(s *rowScope, e sql.Expr) (*where, error) {
	w := &where{span: vnode.Range{From: math.MinInt64, To: math.MaxInt64}}
	for _, c := range conjuncts(e, nil) {
		bounded, err := k.bound(s.src, c, &w.span)
		if err != nil {
			return nil, err
		}
		if bounded {
			continue
		}
		s.perRow = false
		o, err := k.compile(c)
		if err != nil {
			return nil, err
		}
		if s.perRow {
			w.rows = append(w.rows, o)
		} else {
			w.tables = append(w.tables, o)
		}
	}
	return w, nil
}

func conjuncts(e sql.Expr, found []sql.Expr) []sql.Expr {
	if e == nil {
		return found
	}
	if b, ok := e.(*sql.Binary); ok && b.Op == sql.OpAnd {
		return conjuncts(b.Y, conjuncts(b.X, found))
	}
	if b, ok := e.(*sql.Between); ok && !b.Not {
		return append(found, &sql.Binary{Op: sql.OpGe, X: b.X, Y: b.Low}, &sql.Binary{Op: sql.OpLe, X: b.X, Y: b.High})
	}
	return append(found, e)
}

// mirrored turns a comparison around.
var mirrored = map[sql.Op]sql.Op{
	sql.OpEq: sql.OpEq, sql.OpLt: sql.OpGt, sql.OpLe: sql.OpGe, sql.OpGt: sql.OpLt, sql.OpGe: sql.OpLe,
}

// bound narrows span if e compares the timestamp with a constant time.
func (k *compiler) bound(src *source, e sql.Expr, span *vnode.Range) (bool, error) {
	b, ok := e.(*sql.Binary)
	if !ok || mirrored[b.Op] == 0 {
		return false, nil
	}
	op, limit := b.Op, b.Y
	column, ok := b.X.(*sql.Ref)
	if !ok || !src.isTime(column) {
		op, limit = mirrored[b.Op], b.X
		if column, ok = b.Y.(*sql.Ref); !ok || !src.isTime(column) {
			return false, nil
		}
	}
	ts, err := k.moment.Time(limit, k.precision)
	if err != nil {
		if _, quoted := limit.(*sql.Literal); quoted {
			return false, err // text that is no time
		}
		return false, nil // not a constant: compared row by row
	}
	if op == sql.OpGe || op == sql.OpEq {
		span.From = max(span.From, ts)
	}
	if op == sql.OpGt {
		span.From = max(span.From, following(ts))
	}
	if op == sql.OpLt {
		span.To = min(span.To, ts)
	}
	if op == sql.OpLe || op == sql.OpEq {
		span.To = min(span.To, following(ts))
	}
	return true, nil
}

// following is ts+1, or the end of time.
func following(ts int64) int64 {
	if ts == math.MaxInt64 {
		return ts
	}
	return ts + 1
}
