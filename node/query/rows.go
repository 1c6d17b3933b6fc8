package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/vnode"
)

// maxResultBytes bounds what one statement may hold in memory on one host.
const maxResultBytes = 256 << 20

func tooLarge() error {
	return &sql.Error{Code: sql.CodeOutOfRange, Text: "result is larger than 256 MiB: narrow the range of time or add a LIMIT"}
}

// rowPlan is a query without aggregates, ready to run on one group.
type rowPlan struct {
	src   *source
	where *where
	scope *rowScope
	out   []output
	keys  []sortKey // positions in out
	// visible is how many of out the client asked for; the rest are keys.
	visible    int
	byScan     bool // the order of the scan is the one wanted
	descending bool // of the scan
	limit      int  // rows that may be wanted of this group; negative: all
}

// output is one column of a result. It can be copied by the batch if it is a
// column of the table.
type output struct {
	operand
	copied int // place in the batch; -1 the timestamp, -2 to be evaluated
}

const (
	copyTime  = -1
	copyNever = -2
)

type sortKey struct {
	column int
	order  sql.Order
}

// planRows prepares a query without aggregates.
func (k *compiler) planRows(src *source, q *sql.Select) (*rowPlan, error) {
	scope := newRowScope(src)
	k.scope = scope
	p := &rowPlan{src: src, scope: scope, limit: wantedRows(q)}
	var err error
	if p.where, err = k.where(scope, q.Where); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(q.Items))
	for _, item := range q.Items {
		if err := k.output(p, item, &names); err != nil {
			return nil, err
		}
		if len(p.out) > sql.MaxColumns+vnode.MaxTags { // those of SELECT * from a super table
			return nil, &sql.Error{Code: sql.CodeInvalid, Text: fmt.Sprintf("Invalid parameters: more than %d columns in a result", sql.MaxColumns)}
		}
	}
	p.visible = len(p.out)
	return p, k.orderRows(p, q, names)
}

// wantedRows is how many rows of each group can matter; negative: all.
func wantedRows(q *sql.Select) int {
	const most = 1 << 40
	if q.Limit == nil || q.Distinct || q.Limit.Count > most || q.Limit.Offset > most {
		return -1
	}
	return int(q.Limit.Count + q.Limit.Offset)
}

// output adds one item of the select list; * is several columns.
func (k *compiler) output(p *rowPlan, item sql.Item, names *[]string) error {
	if star, ok := item.Expr.(*sql.Star); ok {
		if !p.src.names(star.Table) {
			return noColumn(&sql.Ref{Name: star.Table + ".*"})
		}
		all := append([]sql.Column{p.src.schema.Time}, p.scope.live...)
		if p.src.table == nil {
			all = append(all, p.src.tags()...)
		}
		for _, c := range all {
			one := sql.Item{Expr: &sql.Ref{Name: c.Name}, Text: c.Name}
			if err := k.output(p, one, names); err != nil {
				return err
			}
		}
		return nil
	}
	o, err := k.compile(item.Expr)
	if err != nil {
		return err
	}
	out := output{operand: o, copied: copyNever}
	if r, ok := item.Expr.(*sql.Ref); ok {
		if i, isColumn := p.scope.byName[r.Name]; isColumn {
			out.copied = i
		}
		if p.src.isTime(r) {
			out.copied = copyTime
		}
	}
	out.column.Name = item.Name()
	p.out = append(p.out, out)
	*names = append(*names, item.Name())
	return nil
}

// orderRows settles who sorts. One table that is wanted in order of time comes
// so from the scan; otherwise the keys become hidden columns.
func (k *compiler) orderRows(p *rowPlan, q *sql.Select, names []string) error {
	if len(q.OrderBy) > 0 {
		r, ok := q.OrderBy[0].Expr.(*sql.Ref)
		if ok && p.src.isTime(r) {
			p.descending = q.OrderBy[0].Desc
			p.byScan = len(q.OrderBy) == 1 || p.src.table != nil // within a table time is unique
		}
	} else {
		p.byScan = true
	}
	if p.byScan && (p.src.table != nil || len(q.OrderBy) == 0) {
		return nil
	}
	for _, o := range q.OrderBy {
		at := k.sortsByOutput(o.Expr, names)
		if at < 0 {
			key, err := k.compile(o.Expr)
			if err != nil {
				return err
			}
			p.out = append(p.out, output{operand: key, copied: copyNever})
			at = len(p.out) - 1
		} else {
			p.out = append(p.out, p.out[at])
			at = len(p.out) - 1
		}
		p.keys = append(p.keys, sortKey{column: at, order: o})
	}
	return nil
}

// sortsByOutput finds the output that a key names by alias, text or number.
func (k *compiler) sortsByOutput(e sql.Expr, names []string) int {
	if l, ok := e.(*sql.Literal); ok && l.Value.Type == sql.TypeBigInt && l.Value.Int >= 1 && l.Value.Int <= int64(len(names)) {
		return int(l.Value.Int) - 1
	}
	return slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, e.String()) || n == refName(e) })
}

func refName(e sql.Expr) string {
	if r, ok := e.(*sql.Ref); ok {
		return r.Name
	}
	return "\x00" // no column has this name
}

var errEnough = errors.New("enough rows")

// run reads the rows of one group.
func (p *rowPlan) run(ctx context.Context, v *vnode.Vnode) (*part, error) {
	result := &part{super: p.src.table == nil, columns: make([]sql.Values, len(p.out))}
	for i := range p.out {
		result.columns[i].Column = p.out[i].column
	}
	if p.where.empty() || p.limit == 0 || (p.src.table != nil && !p.where.table(p.src.table)) {
		return result, nil
	}
	request := vnode.ScanRequest{
		Table: p.src.name, Range: p.where.span, Columns: p.scope.columns, Descending: p.descending,
	}
	if p.scope.columns == nil {
		request.Columns = []string{} // nil would mean all
	}
	if p.src.table == nil && !p.where.anyTable() {
		request.Tables = p.where.table
	}
	if len(p.where.rows) > 0 {
		request.Filter = p.where.keep
	}
	if p.limit > 0 && (p.byScan || len(p.keys) == 0) {
		request.Limit = p.limit
	}
	err := v.Scan(ctx, request, func(t *vnode.Table, rows *sql.Rows) error {
		p.collect(result, t, rows)
		if result.bytes() > maxResultBytes {
			return tooLarge()
		}
		if p.limit > 0 && len(p.keys) == 0 && result.rows >= p.limit {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	p.finish(result)
	return result, nil
}

// collect appends a batch.
func (p *rowPlan) collect(to *part, t *vnode.Table, rows *sql.Rows) {
	c := &cursor{table: t, rows: rows}
	for i := range p.out {
		dst := &to.columns[i]
		switch p.out[i].copied {
		case copyTime:
			dst.Ints = append(dst.Ints, rows.Timestamps...)
		case copyNever:
			for c.row = range rows.Len() {
				dst.AppendValue(p.out[i].eval(c))
			}
		default:
			dst.Append(&rows.Columns[p.out[i].copied], 0, rows.Len())
		}
	}
	to.rows += rows.Len()
}

// finish sorts and cuts what the scan could not.
func (p *rowPlan) finish(r *part) {
	if len(p.keys) > 0 {
		sortPart(r, p.keys)
	}
	if p.limit >= 0 && r.rows > p.limit {
		cutPart(r, 0, p.limit)
	}
	if !r.super {
		r.columns = r.columns[:p.visible] // no one else has rows to sort these among
	}
}

// sortPart orders the rows of a part; equal ones keep their order.
func sortPart(r *part, keys []sortKey) {
	order := make([]int, r.rows)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		for _, k := range keys {
			v := &r.columns[k.column]
			if c := compareOrdered(v.Value(a), v.Value(b), k.order); c != 0 {
				return c
			}
		}
		return 0
	})
	for i := range r.columns {
		r.columns[i] = permuted(&r.columns[i], order)
	}
}

// compareOrdered compares for ORDER BY. Without NULLS FIRST or LAST a NULL
// counts as the smallest value.
func compareOrdered(a, b sql.Value, o sql.Order) int {
	if a.IsNull() || b.IsNull() {
		if a.IsNull() && b.IsNull() {
			return 0
		}
		first := o.Nulls == sql.NullsFirst || (o.Nulls == sql.NullsDefault && !o.Desc)
		if a.IsNull() == first {
			return -1
		}
		return 1
	}
	c := compareValues(a, b)
	if o.Desc {
		return -c
	}
	return c
}

func permuted(v *sql.Values, order []int) sql.Values {
	out := sql.Values{Column: v.Column}
	for _, i := range order {
		out.Append(v, i, i+1)
	}
	return out
}

// cutPart keeps rows [from, to).
func cutPart(r *part, from, to int) {
	for i := range r.columns {
		cut := sql.Values{Column: r.columns[i].Column}
		cut.Append(&r.columns[i], from, to)
		r.columns[i] = cut
	}
	r.rows = to - from
}
