package query

import (
	"context"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/mnode"
	"github.com/tarbitrator/tarbitrator/vnode"
)

// tables runs what creates and drops tables. A super table is created in every
// group of its database, any other table in the one that its name hashes to.
func (e *Engine) tables(ctx context.Context, s Session, parsed sql.Statement, m sql.Moment, text string) (*Result, error) {
	byDatabase, err := e.targets(ctx, s, parsed)
	if err != nil {
		return nil, err
	}
	for _, t := range byDatabase {
		r := &request{database: t.db.Name, moment: m, text: text, parsed: parsed, id: e.next(t.ids)}
		answers, err := e.parts(ctx, r, t.groups)
		if err != nil {
			return nil, err
		}
		if drop, ok := parsed.(*sql.DropTable); ok {
			if err := allFound(drop, t, answers); err != nil {
				return nil, err
			}
		}
	}
	return &Result{}, nil
}

// ddlTarget is the groups of one database that a statement is about.
type ddlTarget struct {
	db     mnode.Database
	groups []id.Group
	ids    int // how many things it changes at most in one group
}

// targets finds the groups. Super tables, and names that may be ones, are about
// all groups of a database.
func (e *Engine) targets(ctx context.Context, s Session, parsed sql.Statement) ([]ddlTarget, error) {
	var found []ddlTarget
	add := func(t sql.TableName, everywhere bool) error {
		db, err := e.database(ctx, inDatabase(s, t))
		if err != nil {
			return err
		}
		at := -1
		for i := range found {
			if found[i].db.Name == db.Name {
				at = i
			}
		}
		if at < 0 {
			found = append(found, ddlTarget{db: db})
			at = len(found) - 1
		}
		found[at].ids++
		if everywhere {
			found[at].groups = db.Groups
			return nil
		}
		g := shardOf(t.Name, db.Groups)
		for _, known := range found[at].groups {
			if known == g {
				return nil
			}
		}
		found[at].groups = append(found[at].groups, g)
		return nil
	}
	switch q := parsed.(type) {
	case *sql.CreateTable:
		if err := add(q.Table, len(q.Tags) > 0); err != nil {
			return nil, err
		}
	case *sql.CreateChildTables:
		for _, t := range q.Tables {
			if err := add(t.Table, false); err != nil {
				return nil, err
			}
		}
	case *sql.DropTable:
		for _, t := range q.Tables {
			if err := add(t.Table, true); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// tablesPart carries out on this host's replica what a statement wants of its
// group.
func (e *Engine) tablesPart(ctx context.Context, v *vnode.Vnode, r *request) (*part, error) {
	db, err := e.database(ctx, r.database)
	if err != nil {
		return nil, err
	}
	// The barrier: what was created before this statement is seen here.
	if err := v.Read(ctx); err != nil {
		return nil, err
	}
	d := &ddl{v: v, db: db, r: r}
	switch q := r.parsed.(type) {
	case *sql.CreateTable:
		err = d.createTable(ctx, q)
	case *sql.CreateChildTables:
		for i := range q.Tables {
			if err == nil {
				err = d.createChild(ctx, &q.Tables[i], i)
			}
		}
	case *sql.DropTable:
		return d.drop(ctx, q)
	}
	return &part{}, err
}

// ddl is one statement about tables at one group.
type ddl struct {
	v  *vnode.Vnode
	db mnode.Database
	r  *request
}

// write proposes one operation.
func (d *ddl) write(ctx context.Context, op vnode.Op, place int) error {
	_, err := d.v.Write(ctx, vnode.Statement{ID: d.id(place), Op: op})
	return err
}

// id is that of an operation by its place in the statement, so that a repetition
// finds what the first try has done.
func (d *ddl) id(place int) vnode.StatementID {
	who := d.r.id
	who.Seq += uint64(place)
	return who
}

func (d *ddl) mine(t sql.TableName) bool {
	return (t.Database == "" || t.Database == d.db.Name) && shardOf(t.Name, d.db.Groups) == d.r.group
}

func (d *ddl) createTable(ctx context.Context, q *sql.CreateTable) error {
	if len(q.Tags) > 0 {
		if d.v.Table(q.Table.Name) != nil {
			return vnode.ErrTableExists
		}
		return d.write(ctx, vnode.CreateStable{Name: q.Table.Name, Columns: q.Columns, Tags: q.Tags, IfNotExists: q.IfNotExists}, 0)
	}
	if !d.mine(q.Table) {
		return nil
	}
	if d.v.Stable(q.Table.Name) != nil {
		return vnode.ErrStableExists
	}
	return d.write(ctx, vnode.CreateTable{Name: q.Table.Name, Columns: q.Columns, IfNotExists: q.IfNotExists}, 0)
}

func (d *ddl) createChild(ctx context.Context, t *sql.ChildTable, place int) error {
	if !d.mine(t.Table) {
		return nil
	}
	st := d.v.Stable(t.Using.Table.Name)
	if st == nil {
		return vnode.ErrNoStable
	}
	tags, err := d.r.moment.TagValues(t.Using, st.Tags, precisionOf(d.db))
	if err != nil {
		return err
	}
	return d.write(ctx, vnode.CreateChild{
		Name: t.Table.Name, Using: vnode.Using{Stable: st.Name, Tags: tags}, IfNotExists: t.IfNotExists,
	}, place)
}

// drop removes what this group holds of the named tables. Its answer has a row
// for each that it found; whether one was found nowhere is seen by whoever
// asked all groups.
func (d *ddl) drop(ctx context.Context, q *sql.DropTable) (*part, error) {
	found := newTable(varchar("name", vnode.MaxNameBytes))
	for i, t := range q.Tables {
		if t.Table.Database != "" && t.Table.Database != d.db.Name {
			continue
		}
		name := t.Table.Name
		var op vnode.Op
		switch {
		case d.v.Stable(name) != nil:
			op = vnode.DropStable{Name: name, IfExists: true}
		case !q.Stable && d.v.Table(name) != nil:
			op = vnode.DropTable{Name: name, IfExists: true}
		default:
			// It may be a repetition of a drop whose answer was lost.
			if first, ok := d.v.Outcome(d.id(i)); ok && !first.Existed {
				found.add(text(name))
			}
			continue
		}
		if err := d.write(ctx, op, i); err != nil {
			return nil, err
		}
		found.add(text(name))
	}
	return &part{columns: found.columns, rows: found.rows}, nil
}

// allFound reports the first table that no group had and that had to exist.
func allFound(q *sql.DropTable, t ddlTarget, answers []*part) error {
	found := map[string]bool{}
	for _, p := range answers {
		for i := range p.rows {
			found[p.columns[0].Value(i).Text] = true
		}
	}
	for _, d := range q.Tables {
		here := d.Table.Database == "" || d.Table.Database == t.db.Name
		if !here || d.IfExists || found[d.Table.Name] {
			continue
		}
		if q.Stable {
			return vnode.ErrNoStable
		}
		return noTable(d.Table.Name)
	}
	return nil
}
