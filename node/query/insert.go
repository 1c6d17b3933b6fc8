package query

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/mnode"
	"github.com/tarbitrator/tarbitrator/vnode"
)

// batch is the rows of one INSERT for one group.
type batch struct {
	group  id.Group
	tables []vnode.TableRows
}

// insertion is the memory of one INSERT, used again by the next.
type insertion struct {
	rows    []*sql.Rows // one per table, in use up to used
	used    int
	batches []batch
}

type pool struct{ p sync.Pool }

func (p *pool) get() *insertion {
	if i, ok := p.p.Get().(*insertion); ok {
		return i
	}
	return &insertion{}
}

// maxPooledTables bounds what an insertion keeps for the next.
const maxPooledTables = 64

func (p *pool) put(i *insertion) {
	if len(i.rows) > maxPooledTables {
		return
	}
	i.used = 0
	clear(i.batches)
	i.batches = i.batches[:0]
	p.p.Put(i)
}

func (i *insertion) nextRows() *sql.Rows {
	if i.used == len(i.rows) {
		i.rows = append(i.rows, &sql.Rows{})
	}
	i.used++
	return i.rows[i.used-1]
}

func (i *insertion) add(g id.Group, t vnode.TableRows) {
	for b := range i.batches {
		if i.batches[b].group == g {
			i.batches[b].tables = append(i.batches[b].tables, t)
			return
		}
	}
	i.batches = append(i.batches, batch{group: g, tables: []vnode.TableRows{t}})
}

// insert runs an INSERT: the whole statement is read before anything is
// written, then every group gets its rows.
func (e *Engine) insert(ctx context.Context, s Session, q *sql.Insert, m sql.Moment) (*Result, error) {
	work := e.inserts.get()
	var reuse bool
	defer func() {
		if reuse {
			e.inserts.put(work)
		}
	}()
	for q.Next() {
		if err := e.readTable(ctx, s, q, m, work); err != nil {
			return nil, err
		}
	}
	if err := q.Err(); err != nil {
		return nil, err
	}
	if len(work.batches) == 1 {
		n, err := e.write(ctx, &work.batches[0])
		reuse = err == nil // after an error someone may still read the rows
		return &Result{Affected: n}, err
	}
	return e.writeAll(ctx, work.batches)
}

// readTable reads the rows of the statement's current table.
func (e *Engine) readTable(ctx context.Context, s Session, q *sql.Insert, m sql.Moment, work *insertion) error {
	target := q.Target()
	db, err := e.database(ctx, inDatabase(s, target.Table))
	if err != nil {
		return err
	}
	g := shardOf(target.Table.Name, db.Groups)
	columns, err := e.columnsOf(ctx, db, g, &target)
	if err != nil {
		return err
	}
	t := vnode.TableRows{Table: target.Table.Name, Rows: work.nextRows()}
	if err := q.Read(columns.columns, m, precisionOf(db), t.Rows); err != nil {
		return err
	}
	if u := target.Using; u != nil {
		if u.Table.Database != "" && u.Table.Database != db.Name {
			return &sql.Error{Code: sql.CodeInvalid, Text: "Invalid parameters: " + u.Table.String() + " is in another database than " + target.Table.String()}
		}
		values, err := m.TagValues(*u, columns.tags, precisionOf(db))
		if err != nil {
			return err
		}
		t.Using = &vnode.Using{Stable: u.Table.Name, Tags: values}
	}
	work.add(g, t)
	return nil
}

// shape is the columns of a table, the timestamp first, and the tags of its
// super table.
type shape struct {
	columns []sql.Column
	tags    []sql.Column
}

// columnsOf finds the columns of the table of an INSERT: in this host's replica
// if there is one, else, or if the replica does not know the table, at the
// master of the group.
func (e *Engine) columnsOf(ctx context.Context, db mnode.Database, g id.Group, target *sql.Target) (shape, error) {
	if v, ok := e.cluster.Vnode(g); ok {
		if s, ok := knownShape(v, target); ok {
			return s, nil
		}
	}
	name := target.Table.Name
	s, err := e.askShape(ctx, db, g, name)
	if target.Using == nil || err == nil {
		return s, err
	}
	return e.askShape(ctx, db, g, target.Using.Table.Name)
}

func knownShape(v *vnode.Vnode, target *sql.Target) (shape, bool) {
	if t := v.Table(target.Table.Name); t != nil {
		s := shape{columns: t.Schema().All()}
		if t.Stable != nil {
			s.tags = t.Stable.Tags
		}
		return s, target.Using == nil || t.Stable != nil && t.Stable.Name == target.Using.Table.Name
	}
	if target.Using != nil {
		if st := v.Stable(target.Using.Table.Name); st != nil {
			return shape{columns: st.Schema().All(), tags: st.Tags}, true
		}
	}
	return shape{}, false
}

// askShape asks the master of a group for the columns of a table.
func (e *Engine) askShape(ctx context.Context, db mnode.Database, g id.Group, table string) (shape, error) {
	describe := &sql.Describe{Table: sql.TableName{Database: db.Name, Name: table}}
	r := &request{group: g, database: db.Name, moment: sql.Moment{Zone: e.config.Zone}, text: describe.String(), parsed: describe}
	p, err := e.part(ctx, r)
	if err != nil {
		return shape{}, err
	}
	return shapeOf(p)
}

// shapeOf reads the answer of describePart: empty columns, the tags last.
func shapeOf(p *part) (shape, error) {
	if p.affected > int64(len(p.columns)) {
		return shape{}, errPart
	}
	var s shape
	for i := range p.columns {
		if i < len(p.columns)-int(p.affected) {
			s.columns = append(s.columns, p.columns[i].Column)
		} else {
			s.tags = append(s.tags, p.columns[i].Column)
		}
	}
	return s, nil
}

// describePart answers with the columns of a table and no rows; affected is how
// many of them, at the end, are tags.
func (e *Engine) describePart(ctx context.Context, v *vnode.Vnode, name string) (*part, error) {
	if err := v.Read(ctx); err != nil {
		return nil, err
	}
	src, err := sourceOf(v, &sql.Source{Table: sql.TableName{Name: name}})
	if err != nil {
		return nil, err
	}
	columns := append(src.schema.All(), src.tags()...)
	return &part{columns: newTable(columns...).columns, affected: int64(len(src.tags()))}, nil
}

// write stores the rows of one group: here if this host leads it, else through
// the host that does. It is repeated under the same id until its outcome is
// known or ctx ends.
func (e *Engine) write(ctx context.Context, b *batch) (int64, error) {
	who := e.next(1)
	var first error
	if v, ok := e.cluster.Vnode(b.group); ok {
		var result vnode.Result
		result, first = v.Write(ctx, vnode.Statement{ID: who, Op: vnode.Insert{Tables: b.tables}})
		if first == nil || !forwardable(first) {
			return result.Rows, first
		}
	}
	p, err := e.forward(ctx, b.group, MethodInsert, encodeInsert(who, b), first)
	if err != nil {
		return 0, err
	}
	return p.affected, nil
}

// writeAll stores the rows of several groups at once. When some of them fail
// the error says which tables were stored.
func (e *Engine) writeAll(ctx context.Context, batches []batch) (*Result, error) {
	rows := make([]int64, len(batches))
	errs := make([]error, len(batches))
	var all sync.WaitGroup
	slots := make(chan struct{}, maxFanOut)
	for i := range batches {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			rows[i], errs[i] = e.write(ctx, &batches[i])
		})
	}
	all.Wait()
	result := &Result{}
	var stored []string
	for i, n := range rows {
		if errs[i] == nil {
			result.Affected += n
			for _, t := range batches[i].tables {
				stored = append(stored, t.Table)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		first := firstError(errs)
		if len(stored) == 0 {
			return nil, first
		}
		return nil, &PartialError{Tables: stored, Rows: result.Affected, Err: first}
	}
	return result, nil
}

// firstError prefers an unknown outcome: it is what the client must know of.
func firstError(errs []error) error {
	var first error
	for _, err := range errs {
		if errors.Is(err, consensus.ErrUnknownOutcome) {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// PartialError says that an INSERT over several groups was stored in some of
// them only.
type PartialError struct {
	Tables []string // whose rows are stored
	Rows   int64
	Err    error // of the others
}

// maxNamed bounds the tables that the text names.
const maxNamed = 20

func (p *PartialError) Error() string { return p.Err.Error() + "; " + p.Stored() }

// Stored says what is stored: part of every text that a client sees.
func (p *PartialError) Stored() string {
	names, more := p.Tables, ""
	if len(names) > maxNamed {
		names, more = names[:maxNamed], fmt.Sprintf(" and %d more", len(p.Tables)-maxNamed)
	}
	return fmt.Sprintf("of this statement %d rows are stored, those of %s%s", p.Rows, strings.Join(names, ", "), more)
}

func (p *PartialError) Unwrap() error { return p.Err }

// insertHere stores forwarded rows on this host, which must lead their group.
func (e *Engine) insertHere(ctx context.Context, g id.Group, body []byte) (*part, error) {
	who, b, err := decodeInsert(body)
	if err != nil {
		return nil, err
	}
	v, ok := e.cluster.Vnode(g)
	if !ok {
		return nil, consensus.ErrNoGroup
	}
	result, err := v.Write(ctx, vnode.Statement{ID: who, Op: vnode.Insert{Tables: b.tables}})
	if err != nil {
		return nil, err
	}
	return &part{affected: result.Rows}, nil
}

// encodeInsert: version:1 boot:8 seq:8 tables:uvarint table*
//
//	table = name stable tags rows:uvarint column*   (the timestamp first)
//	tags  = a column of one row for each tag
func encodeInsert(who vnode.StatementID, b *batch) []byte {
	out := append(make([]byte, 0, 512), requestVersion)
	out = appendID(out, who)
	out = binary.AppendUvarint(out, uint64(len(b.tables)))
	for i := range b.tables {
		out = appendTable(out, &b.tables[i])
	}
	return out
}

func appendTable(out []byte, t *vnode.TableRows) []byte {
	out = appendText(out, t.Table)
	var stable string
	var tags []sql.Value
	if t.Using != nil {
		stable, tags = t.Using.Stable, t.Using.Tags
	}
	out = appendText(out, stable)
	out = binary.AppendUvarint(out, uint64(len(tags)))
	for _, v := range tags {
		tag := sql.Values{Column: sql.Column{Type: v.Type}}
		tag.AppendValue(v)
		out = appendColumn(out, &tag)
	}
	out = binary.AppendUvarint(out, uint64(t.Rows.Len()))
	out = binary.AppendUvarint(out, uint64(len(t.Rows.Columns)))
	time := sql.Values{Column: column("", sql.TypeTimestamp), Ints: t.Rows.Timestamps}
	out = appendColumn(out, &time)
	for i := range t.Rows.Columns {
		out = appendColumn(out, &t.Rows.Columns[i])
	}
	return out
}

// The bounds of a forwarded INSERT.
const (
	maxTables = 1 << 20
	maxRows   = 4 << 20
)

func decodeInsert(body []byte) (vnode.StatementID, *batch, error) {
	r := &reader{b: body}
	if v := r.byte(); v != requestVersion && r.err == nil {
		r.fail(fmt.Sprintf("version %d", v))
	}
	who := r.id()
	b := &batch{}
	for range r.number(maxTables) {
		if r.err != nil {
			break
		}
		b.tables = append(b.tables, r.table())
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail("it goes on after its end")
	}
	return who, b, r.err
}

func (r *reader) table() vnode.TableRows {
	t := vnode.TableRows{Table: r.text(maxNameBytes), Rows: &sql.Rows{}}
	stable := r.text(maxNameBytes)
	var tags []sql.Value
	for range r.number(vnode.MaxTags) {
		tag := r.column(1)
		if r.err != nil {
			return t
		}
		tags = append(tags, tag.Value(0))
	}
	if stable != "" {
		t.Using = &vnode.Using{Stable: stable, Tags: tags}
	}
	rows := int(r.number(maxRows))
	columns := r.number(vnode.MaxColumns)
	time := r.column(rows)
	if time.Type != sql.TypeTimestamp {
		r.fail("rows without a timestamp")
	}
	t.Rows.Timestamps = time.Ints
	for range columns {
		if r.err != nil {
			break
		}
		t.Rows.Columns = append(t.Rows.Columns, r.column(rows))
	}
	return t
}
