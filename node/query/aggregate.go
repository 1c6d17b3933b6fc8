package query

import (
	"context"
	"encoding/binary"
	"math"
	"sync"

	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/vnode"
)

// A query with aggregates runs in two steps. Each group answers with one row
// for each window of each partition, holding everything that any aggregate
// needs to know of a column; the host that was asked merges these rows and
// evaluates the select list over them.
//
//	columns of a part: partition keys | start end rows | per aggregated column:
//	count sum min max first first_time last last_time

// isAggregate reports whether a call is an aggregate of this version.
func isAggregate(c *sql.Call) bool {
	switch c.Name {
	case "count", "sum", "avg", "min", "max", "first", "last", "spread":
		return true
	}
	return false
}

// aggregates reports whether a query has to be run in two steps.
func aggregates(q *sql.Select) bool {
	found := q.Window != nil || len(q.GroupBy) > 0 || q.Having != nil
	for _, item := range q.Items {
		sql.Walk(item.Expr, func(e sql.Expr) bool {
			c, ok := e.(*sql.Call)
			found = found || ok && isAggregate(c)
			return !found
		})
	}
	return found
}

// aggregateCalls are the aggregates of a query in the order in which they
// stand, each once.
func aggregateCalls(q *sql.Select) []*sql.Call {
	var calls []*sql.Call
	seen := map[string]bool{}
	collect := func(e sql.Expr) {
		sql.Walk(e, func(e sql.Expr) bool {
			c, ok := e.(*sql.Call)
			if !ok || !isAggregate(c) {
				return true
			}
			if !seen[c.String()] {
				seen[c.String()] = true
				calls = append(calls, c)
			}
			return false
		})
	}
	for _, item := range q.Items {
		collect(item.Expr)
	}
	collect(q.Having)
	for _, o := range q.OrderBy {
		collect(o.Expr)
	}
	return calls
}

// aggregated is the column that a call is about; false for COUNT(*).
func aggregated(c *sql.Call) (*sql.Ref, bool, error) {
	if len(c.Args) != 1 {
		return nil, false, &sql.Error{Code: sql.CodeSyntax, Text: c.Name + "() takes one argument"}
	}
	switch a := c.Args[0].(type) {
	case *sql.Star:
		if c.Name == "count" {
			return nil, false, nil
		}
	case *sql.Ref:
		return a, true, nil
	case *sql.Literal:
		if c.Name == "count" {
			return nil, false, nil
		}
	}
	return nil, false, unsupported(c.String())
}

// partitionKeys are the expressions that rows are partitioned by. Both GROUP BY
// and PARTITION BY name them.
func partitionKeys(q *sql.Select) []sql.Expr {
	return append(append([]sql.Expr(nil), q.PartitionBy...), q.GroupBy...)
}

// The columns of a part between its keys and its aggregates, and those of one
// aggregated column.
const (
	partStart = iota
	partEnd
	partRows
	partFixed
)
const (
	aggCount = iota
	aggSum
	aggMin
	aggMax
	aggFirst
	aggFirstTime
	aggLast
	aggLastTime
	aggWidth
)

// aggregatePlan is a query with aggregates, ready to run on one group.
type aggregatePlan struct {
	src     *source
	where   *where
	scope   *rowScope
	keys    []operand
	columns []sql.Column // aggregated ones, in the order of aggregatedRefs
	window  func(ts int64) (start, end int64)
}

// planAggregates prepares a query with aggregates.
func (k *compiler) planAggregates(src *source, q *sql.Select) (*aggregatePlan, error) {
	scope := newRowScope(src)
	k.scope = scope
	p := &aggregatePlan{src: src, scope: scope}
	refs, err := aggregatedRefs(q)
	if err != nil {
		return nil, err
	}
	for _, r := range refs {
		if src.isTime(r) {
			if err := onlyCounted(q, r); err != nil {
				return nil, err
			}
			continue
		}
		o, err := scope.ref(r)
		if err != nil {
			return nil, err
		}
		if _, isColumn := scope.byName[r.Name]; !isColumn {
			return nil, unsupported("an aggregate of a tag")
		}
		p.columns = append(p.columns, o.column)
	}
	if p.where, err = k.where(scope, q.Where); err != nil {
		return nil, err
	}
	for _, e := range partitionKeys(q) {
		scope.perRow = false
		key, err := k.compile(e)
		if err != nil {
			return nil, err
		}
		if scope.perRow {
			return nil, unsupported("GROUP BY or PARTITION BY anything but tbname and tags")
		}
		p.keys = append(p.keys, key)
	}
	p.window, err = k.windows(q.Window)
	return p, err
}

// onlyCounted refuses aggregates of the timestamp other than COUNT, which
// counts rows, as the timestamp is never NULL.
func onlyCounted(q *sql.Select, time *sql.Ref) error {
	for _, c := range aggregateCalls(q) {
		if r, ok := c.Args[0].(*sql.Ref); ok && r.Name == time.Name && c.Name != "count" {
			return unsupported(c.String())
		}
	}
	return nil
}

// aggregatedRefs are the columns that the aggregates of q are about, each once.
func aggregatedRefs(q *sql.Select) ([]*sql.Ref, error) {
	var refs []*sql.Ref
	seen := map[string]bool{}
	for _, c := range aggregateCalls(q) {
		r, ok, err := aggregated(c)
		if err != nil {
			return nil, err
		}
		if ok && !seen[r.Name] {
			seen[r.Name] = true
			refs = append(refs, r)
		}
	}
	return refs, nil
}

// partColumns are the empty columns of the part.
func (p *aggregatePlan) partColumns() []sql.Values {
	var columns []sql.Column
	for _, k := range p.keys {
		columns = append(columns, k.column)
	}
	columns = append(columns, column("start", sql.TypeTimestamp), column("end", sql.TypeTimestamp), column("rows", sql.TypeBigInt))
	for _, c := range p.columns {
		sum := sumType(c.Type)
		columns = append(columns, column("count", sql.TypeBigInt), column("sum", sum), c, c,
			c, column("first_time", sql.TypeTimestamp), c, column("last_time", sql.TypeTimestamp))
	}
	return newTable(columns...).columns
}

func sumType(t sql.Type) sql.Type {
	switch {
	case t.Storage() == sql.StoreFloats:
		return sql.TypeDouble
	case t >= sql.TypeUTinyInt && t <= sql.TypeUBigInt:
		return sql.TypeUBigInt
	}
	return sql.TypeBigInt
}

// run aggregates the rows of one group.
func (p *aggregatePlan) run(ctx context.Context, v *vnode.Vnode) (*part, error) {
	result := &part{super: p.src.table == nil, columns: p.partColumns()}
	if p.where.empty() || (p.src.table != nil && !p.where.table(p.src.table)) {
		return result, nil
	}
	request := vnode.AggregateRequest{
		Table: p.src.name, Range: p.where.span, Columns: p.scope.columns, Window: p.window,
	}
	if p.src.table == nil && !p.where.anyTable() {
		request.Tables = p.where.table
	}
	if len(p.where.rows) > 0 {
		request.Filter = p.where.keep
	}
	keys := newPartitions(p.keys)
	if len(p.keys) > 0 {
		request.Group = keys.of
	}
	groups, err := v.Aggregate(ctx, request)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		for i := range g.Windows {
			p.add(result, keys.values[g.Key], &g.Windows[i])
		}
		if result.bytes() > maxResultBytes {
			return nil, tooLarge()
		}
	}
	return result, nil
}

// partitions remembers the values that each partition's name stands for.
type partitions struct {
	keys []operand

	mu     sync.Mutex
	values map[string][]sql.Value // read without mu once all tables are done
}

func newPartitions(keys []operand) *partitions {
	return &partitions{keys: keys, values: map[string][]sql.Value{}}
}

// of names the partition of a table. Tables are aggregated by several
// goroutines at once.
func (p *partitions) of(t *vnode.Table) string {
	values := make([]sql.Value, len(p.keys))
	for i, key := range p.keys {
		values[i] = key.eval(&cursor{table: t})
	}
	name := keyOf(values)
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.values[name]; !known {
		p.values[name] = values
	}
	return name
}

// add appends one window of one partition.
func (p *aggregatePlan) add(to *part, keys []sql.Value, w *vnode.Window) {
	at := 0
	put := func(v sql.Value) {
		to.columns[at].AppendValue(v)
		at++
	}
	for _, v := range keys {
		put(v)
	}
	start, end := w.Start, w.End
	if p.window == nil { // all rows are one window, whatever range each group has seen
		start, end = 0, 0
	}
	put(instant(start))
	put(instant(end))
	put(integer(w.Rows))
	for i := range p.columns {
		a := &w.Columns[i]
		put(integer(a.Count))
		put(a.Sum())
		put(a.Min())
		put(a.Max())
		put(a.First())
		put(instant(a.FirstTime))
		put(a.Last())
		put(instant(a.LastTime))
	}
	to.rows++
}

// keyOf is a text that is equal for equal values only.
func keyOf(values []sql.Value) string {
	var b []byte
	for _, v := range values {
		b = append(b, byte(v.Type))
		b = binary.LittleEndian.AppendUint64(b, uint64(v.Int))
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v.Float))
		b = binary.AppendUvarint(b, uint64(len(v.Text)))
		b = append(b, v.Text...)
	}
	return string(b)
}
