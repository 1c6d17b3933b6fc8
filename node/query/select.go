package query

import (
	"context"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/vnode"
)

// query runs a SELECT.
func (e *Engine) query(ctx context.Context, s Session, q *sql.Select, m sql.Moment, text string) (*Result, error) {
	k := &compiler{moment: m, session: s}
	if q.From == nil {
		return k.constants(q)
	}
	if q.From.Query != nil {
		return nil, unsupported("a query in FROM")
	}
	name := inDatabase(s, q.From.Table)
	if name == "information_schema" || name == "performance_schema" {
		return nil, unsupported("database " + name)
	}
	db, err := e.database(ctx, name)
	if err != nil {
		return nil, err
	}
	r := &request{group: shardOf(q.From.Table.Name, db.Groups), database: name, moment: m, text: text, parsed: q}
	first, err := e.part(ctx, r)
	if err != nil {
		return nil, err
	}
	parts := []*part{first}
	if first.super {
		others := make([]id.Group, 0, len(db.Groups)-1)
		for _, g := range db.Groups {
			if g != r.group {
				others = append(others, g)
			}
		}
		more, err := e.parts(ctx, r, others)
		if err != nil {
			return nil, err
		}
		parts = append(parts, more...)
	}
	if aggregates(q) {
		return k.finishAggregates(q, parts)
	}
	return finishRows(q, parts)
}

// selectPart runs a SELECT on this host's replica, which must lead its group.
func (e *Engine) selectPart(ctx context.Context, v *vnode.Vnode, r *request, q *sql.Select) (*part, error) {
	if err := v.Read(ctx); err != nil {
		return nil, err
	}
	src, err := sourceOf(v, q.From)
	if err != nil {
		return nil, err
	}
	db, err := e.database(ctx, r.database)
	if err != nil {
		return nil, err
	}
	k := &compiler{moment: r.moment, precision: precisionOf(db), session: Session{Database: r.database}}
	var p *part
	if aggregates(q) {
		plan, err := k.planAggregates(src, q)
		if err != nil {
			return nil, err
		}
		p, err = plan.run(ctx, v)
		if err != nil {
			return nil, err
		}
	} else {
		plan, err := k.planRows(src, q)
		if err != nil {
			return nil, err
		}
		if p, err = plan.run(ctx, v); err != nil {
			return nil, err
		}
	}
	p.precision = k.precision
	return p, nil
}

// sourceOf finds a table or super table in a replica.
func sourceOf(v *vnode.Vnode, from *sql.Source) (*source, error) {
	src := &source{name: from.Table.Name, alias: from.Alias}
	if t := v.Table(src.name); t != nil {
		src.table, src.stable, src.schema = t, t.Stable, t.Schema()
		return src, nil
	}
	if st := v.Stable(src.name); st != nil {
		src.stable, src.schema = st, st.Schema()
		return src, nil
	}
	return nil, noTable(src.name)
}

func noTable(name string) error {
	return &sql.Error{Code: 0x2603, Text: "Table does not exist: " + name}
}

// constants answers a SELECT without FROM: one row.
func (k *compiler) constants(q *sql.Select) (*Result, error) {
	k.scope = nowhere{}
	if q.Where != nil || q.Window != nil || len(q.GroupBy)+len(q.PartitionBy)+len(q.OrderBy) > 0 {
		return nil, &sql.Error{Code: sql.CodeSyntax, Text: "syntax error near \"SELECT\": FROM is missing"}
	}
	var columns []sql.Column
	var row []sql.Value
	for _, item := range q.Items {
		o, err := k.compile(item.Expr)
		if err != nil {
			return nil, err
		}
		c := o.column
		c.Name = item.Name()
		columns, row = append(columns, c), append(row, o.eval(&cursor{}))
	}
	t := newTable(columns...)
	t.add(row...)
	p := &part{columns: t.columns, rows: 1}
	limitPart(p, q.Limit)
	return &Result{Columns: p.columns, Rows: p.rows, Precision: k.precision}, nil
}

// nowhere is the scope of expressions without a table.
type nowhere struct{}

func (nowhere) ref(r *sql.Ref) (operand, error) { return operand{}, noColumn(r) }

func (nowhere) call(*sql.Call) (operand, bool, error) { return operand{}, false, nil }
