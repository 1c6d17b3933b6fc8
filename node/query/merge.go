package query

import (
	"math"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// finishRows puts the parts of a query without aggregates together.
func finishRows(q *sql.Select, parts []*part) (*Result, error) {
	all := parts[0]
	for _, p := range parts[1:] {
		if len(p.columns) != len(all.columns) {
			return nil, errAltered
		}
		for i := range all.columns {
			if p.columns[i].Type != all.columns[i].Type {
				return nil, errAltered
			}
			all.columns[i].Append(&p.columns[i], 0, p.rows)
		}
		all.rows += p.rows
		if all.bytes() > maxResultBytes {
			return nil, tooLarge()
		}
	}
	if all.super && len(q.OrderBy) > 0 { // the parts carry their keys behind what is visible
		visible := len(all.columns) - len(q.OrderBy)
		if visible < 0 {
			return nil, errPart
		}
		if len(parts) > 1 {
			keys := make([]sortKey, len(q.OrderBy))
			for i, o := range q.OrderBy {
				keys[i] = sortKey{column: visible + i, order: o}
			}
			sortPart(all, keys)
		}
		all.columns = all.columns[:visible]
	}
	if q.Distinct {
		distinct(all)
	}
	limitPart(all, q.Limit)
	return &Result{Columns: all.columns, Rows: all.rows, Precision: all.precision}, nil
}

// errAltered is met when a super table is altered while a query runs.
var errAltered = &sql.Error{Code: sql.CodeInvalid, Text: "the table was altered while the query ran, repeat it"}

// distinct keeps the first of equal rows.
func distinct(p *part) {
	seen := make(map[string]bool, p.rows)
	var kept []int
	row := make([]sql.Value, len(p.columns))
	for i := range p.rows {
		for c := range p.columns {
			row[c] = p.columns[c].Value(i)
		}
		if key := keyOf(row); !seen[key] {
			seen[key] = true
			kept = append(kept, i)
		}
	}
	for c := range p.columns {
		p.columns[c] = permuted(&p.columns[c], kept)
	}
	p.rows = len(kept)
}

func limitPart(p *part, l *sql.Limit) {
	from, to := bounds(l, p.rows)
	if from > 0 || to < p.rows {
		cutPart(p, from, to)
	}
}

// bounds are the rows that a limit leaves of n.
func bounds(l *sql.Limit, n int) (from, to int) {
	if l == nil {
		return 0, n
	}
	from = int(min(l.Offset, uint64(n)))
	return from, from + int(min(l.Count, uint64(n-from)))
}

// finishAggregates merges the parts of a query with aggregates and evaluates
// its select list over the groups.
func (k *compiler) finishAggregates(q *sql.Select, parts []*part) (*Result, error) {
	keys := partitionKeys(q)
	for _, p := range parts {
		n := len(p.columns) - len(keys) - partFixed
		if n < 0 || n%aggWidth != 0 || len(p.columns) != len(parts[0].columns) {
			return nil, errAltered
		}
	}
	k.precision = parts[0].precision
	k.scope = &groupScope{keys: keys, columns: parts[0].columns, windowed: q.Window != nil}
	groups := mergeGroups(parts, len(keys), len(keys) == 0 && q.Window == nil)
	if q.Having != nil {
		having, err := k.compile(q.Having)
		if err != nil {
			return nil, err
		}
		groups = filterGroups(groups, having)
	}
	groups = limitGroups(groups, q)

	var out []operand
	var columns []sql.Column
	names := make([]string, 0, len(q.Items))
	for _, item := range q.Items {
		o, err := k.compile(item.Expr)
		if err != nil {
			return nil, err
		}
		c := o.column
		c.Name = item.Name()
		out, columns, names = append(out, o), append(columns, c), append(names, c.Name)
	}
	var order []sortKey
	for _, o := range q.OrderBy {
		at := k.sortsByOutput(o.Expr, names)
		if at < 0 {
			key, err := k.compile(o.Expr)
			if err != nil {
				return nil, err
			}
			out, columns = append(out, key), append(columns, key.column)
			at = len(out) - 1
		}
		order = append(order, sortKey{column: at, order: o})
	}
	t := newTable(columns...)
	row := make([]sql.Value, len(out))
	for _, g := range groups {
		for i := range out {
			row[i] = fitting(out[i].eval(&cursor{group: g}), columns[i].Type)
		}
		t.add(row...)
	}
	p := &part{columns: t.columns, rows: t.rows}
	if len(order) > 0 {
		sortPart(p, order)
	}
	p.columns = p.columns[:len(q.Items)]
	if q.Distinct {
		distinct(p)
	}
	if len(keys) == 0 || len(order) > 0 && len(q.PartitionBy) == 0 {
		limitPart(p, q.Limit)
	}
	return &Result{Columns: p.columns, Rows: p.rows, Precision: k.precision}, nil
}

// fitting is v for a column of type t: evaluation knows wide types only.
func fitting(v sql.Value, t sql.Type) sql.Value {
	if v.IsNull() || v.Type.Storage() == t.Storage() {
		return v
	}
	f, _ := number(v)
	switch t.Storage() {
	case sql.StoreFloats:
		return sql.Value{Type: t, Float: f}
	case sql.StoreInts:
		if math.IsNaN(f) {
			return sql.Value{}
		}
		return sql.Value{Type: t, Int: int64(f)}
	}
	return v
}

func filterGroups(groups []*group, having operand) []*group {
	var kept []*group
	for _, g := range groups {
		if is, known := truth(having.eval(&cursor{group: g})); is && known {
			kept = append(kept, g)
		}
	}
	return kept
}

// limitGroups applies the limits that count by partition: SLIMIT picks among
// them, and with PARTITION BY a LIMIT is one of each. The groups are ordered by
// partition.
func limitGroups(groups []*group, q *sql.Select) []*group {
	if q.SLimit == nil && (q.Limit == nil || len(q.PartitionBy) == 0) {
		return groups
	}
	var partitions [][]*group
	last := ""
	for i, g := range groups {
		if key := keyOf(g.keys); i == 0 || key != last {
			partitions = append(partitions, nil)
			last = key
		}
		partitions[len(partitions)-1] = append(partitions[len(partitions)-1], g)
	}
	from, to := bounds(q.SLimit, len(partitions))
	var kept []*group
	for _, partition := range partitions[from:to] {
		first, end := 0, len(partition)
		if len(q.PartitionBy) > 0 {
			first, end = bounds(q.Limit, len(partition))
		}
		kept = append(kept, partition[first:end]...)
	}
	return kept
}
