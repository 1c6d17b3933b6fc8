package vnode

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/vnode/repeat"
)

// objectID names a table or super table for the life of the group: its place in
// the log. So of two objects the newer one has the larger id, and a replay gives
// everything the same id as the first time.
//
// Every statement of an entry takes one place, and behind it one for each table
// that an insert names and might have to create.
type objectID uint64

// positionBits is how much of an objectID counts the places of one entry.
const positionBits = repeat.PlaceBits

// Column is one column of a table other than the timestamp.
type Column struct {
	sql.Column
	ID      uint16 // never used again in the same table
	Added   uint32 // the schema version that has it first
	Dropped uint32 // the first schema version without it; zero: still there
}

// in reports whether version has the column.
func (c Column) in(version uint32) bool {
	return c.Added <= version && (c.Dropped == 0 || version < c.Dropped)
}

// Schema is the columns of a table through all its versions, which count from
// 1. It is never changed: altering makes a new one.
type Schema struct {
	Version uint32
	Time    sql.Column // the timestamp column
	Columns []Column   // in order of ID, dropped ones among them

	changed objectID     // the statement that made this version
	all     []sql.Column // see All
}

// All is the timestamp and then the columns of the newest version. It must not
// be changed.
func (s *Schema) All() []sql.Column { return s.all }

// Live is the columns of the newest version, the timestamp not among them. It
// must not be changed.
func (s *Schema) Live() []sql.Column { return s.all[1:] }

// complete notes what every statement asks for. It comes last in making a
// schema.
func (s *Schema) complete() *Schema {
	s.all = make([]sql.Column, 1, 1+len(s.Columns))
	s.all[0] = s.Time
	for _, c := range s.Columns {
		if c.in(s.Version) {
			s.all = append(s.all, c.Column)
		}
	}
	s.all = slices.Clip(s.all)
	return s
}

// live is the column of that name in the newest version.
func (s *Schema) live(name string) (Column, bool) {
	for _, c := range s.Columns {
		if c.Name == name && c.in(s.Version) {
			return c, true
		}
	}
	return Column{}, false
}

// newSchema is version 1 of a table with these columns, the timestamp first.
func newSchema(columns []sql.Column, made objectID) *Schema {
	s := &Schema{Version: 1, Time: columns[0], changed: made}
	for i, c := range columns[1:] {
		s.Columns = append(s.Columns, Column{Column: c, ID: uint16(i + 1), Added: 1})
	}
	return s.complete()
}

// withColumn is the next version, with one more column.
func (s *Schema) withColumn(c sql.Column, made objectID) *Schema {
	next := &Schema{Version: s.Version + 1, Time: s.Time, changed: made}
	next.Columns = append(append(next.Columns, s.Columns...),
		Column{Column: c, ID: uint16(len(s.Columns) + 1), Added: s.Version + 1})
	return next.complete()
}

// without is the next version, without the column of that name.
func (s *Schema) without(name string, made objectID) *Schema {
	next := &Schema{Version: s.Version + 1, Time: s.Time, changed: made}
	next.Columns = append(next.Columns, s.Columns...)
	for i, c := range next.Columns {
		if c.Name == name && c.in(s.Version) {
			next.Columns[i].Dropped = next.Version
		}
	}
	return next.complete()
}

// Stable is a super table: columns and tags that its child tables share.
type Stable struct {
	Name    string
	Tags    []sql.Column
	Created time.Time

	id     objectID
	schema atomic.Pointer[Schema] // written by Apply only
	// children is how many child tables of it this shard holds.
	children atomic.Int64
}

// Schema is the columns of the super table and of all its child tables.
func (s *Stable) Schema() *Schema { return s.schema.Load() }

// Children is how many of its child tables live in this shard.
func (s *Stable) Children() int { return int(s.children.Load()) }

// Table is a table that holds rows: a plain one, or a child of a super table.
type Table struct {
	Name    string
	Stable  *Stable // nil: a plain table
	Created time.Time

	id     objectID
	schema atomic.Pointer[Schema]    // plain tables only; written by Apply only
	tags   atomic.Pointer[tagValues] // child tables only; written by Apply only
	// span is the class of the longest block: no row lies 2^span or more behind
	// the first of its block. It only grows.
	span atomic.Uint32
}

// under is the id of the table's super table, zero if it has none.
func (t *Table) under() objectID {
	if t.Stable == nil {
		return 0
	}
	return t.Stable.id
}

// widen makes span at least class, and reports whether it was less.
func (t *Table) widen(class uint32) bool {
	for {
		old := t.span.Load()
		if old >= class {
			return false
		}
		if t.span.CompareAndSwap(old, class) {
			return true
		}
	}
}

// tagValues is the tags of a child table and which statement set them.
type tagValues struct {
	values []sql.Value
	set    objectID
}

// Schema is the columns of the table.
func (t *Table) Schema() *Schema {
	if t.Stable != nil {
		return t.Stable.Schema()
	}
	return t.schema.Load()
}

// Tags is the tag values of a child table in the order of its super table's
// Tags. They must not be changed.
func (t *Table) Tags() []sql.Value {
	if tags := t.tags.Load(); tags != nil {
		return tags.values
	}
	return nil
}

// createdAt is the time that users see as a table's create time.
func createdAt(s hlc.Stamp) time.Time { return s.Time() }
