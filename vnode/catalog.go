package vnode

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// catalog is the tables of a shard in memory. Apply changes it, everybody
// reads it; what it points to is changed through atomics only.
type catalog struct {
	mu       sync.RWMutex
	tables   map[string]*Table
	byID     map[objectID]*Table
	stables  map[string]*Stable
	children map[objectID]map[objectID]*Table // by super table
	// What was dropped is known for as long as a replay may start before it
	// was: see grave.
	graves map[string][]*grave
	dead   map[objectID]*grave
}

func newCatalog() *catalog {
	return &catalog{
		tables:   make(map[string]*Table),
		byID:     make(map[objectID]*Table),
		stables:  make(map[string]*Stable),
		children: make(map[objectID]map[objectID]*Table),
		graves:   make(map[string][]*grave),
		dead:     make(map[objectID]*grave),
	}
}

func (c *catalog) table(name string) *Table {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.tables[name]
}

func (c *catalog) tableOf(of objectID) *Table {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byID[of]
}

func (c *catalog) stable(name string) *Stable {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.stables[name]
}

func (c *catalog) addStable(s *Stable) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stables[s.Name] = s
	c.children[s.id] = make(map[objectID]*Table)
}

func (c *catalog) addTable(t *Table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tables[t.Name], c.byID[t.id] = t, t
	if t.Stable != nil {
		c.children[t.Stable.id][t.id] = t
		t.Stable.children.Add(1)
	}
}

func (c *catalog) dropTable(t *Table, g *grave) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropTableLocked(t)
	c.buryLocked(g)
}

func (c *catalog) dropTableLocked(t *Table) {
	delete(c.byID, t.id)
	if c.tables[t.Name] == t {
		delete(c.tables, t.Name)
	}
	if t.Stable != nil {
		delete(c.children[t.Stable.id], t.id)
		t.Stable.children.Add(-1)
	}
}

// dropStable drops a super table and returns the graves of its children.
func (c *catalog) dropStable(s *Stable, g *grave) (children []*grave) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.children[s.id] {
		c.dropTableLocked(t)
		child := &grave{id: t.id, name: t.Name, under: s.id, dropped: g.dropped}
		c.buryLocked(child)
		children = append(children, child)
	}
	delete(c.children, s.id)
	delete(c.stables, s.Name)
	c.buryLocked(g)
	return append(children, c.moveChildrenLocked(s.id, g.dropped)...)
}

// childrenOf is the child tables of s in order of id.
func (c *catalog) childrenOf(s *Stable) []*Table {
	c.mu.RLock()
	list := slices.Collect(maps.Values(c.children[s.id]))
	c.mu.RUnlock()
	slices.SortFunc(list, byObject)
	return list
}

func byObject(a, b *Table) int { return cmp.Compare(a.id, b.id) }

func (c *catalog) all() []*Table {
	c.mu.RLock()
	list := slices.Collect(maps.Values(c.tables))
	c.mu.RUnlock()
	slices.SortFunc(list, byObject)
	return list
}

// Table is the table of that name as this replica knows it, nil if it knows
// none. The caller takes the read barrier (Read) if that matters.
func (v *Vnode) Table(name string) *Table { return v.current.Load().catalog.table(name) }

// Stable is the super table of that name, or nil.
func (v *Vnode) Stable(name string) *Stable { return v.current.Load().catalog.stable(name) }

// Tables is all tables that hold rows, by name.
func (v *Vnode) Tables() []*Table {
	list := v.current.Load().catalog.all()
	slices.SortFunc(list, func(a, b *Table) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Children is the child tables of a super table, by name.
func (v *Vnode) Children(s *Stable) []*Table {
	list := v.current.Load().catalog.childrenOf(s)
	slices.SortFunc(list, func(a, b *Table) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Stables is all super tables, by name.
func (v *Vnode) Stables() []*Stable {
	c := v.current.Load().catalog
	c.mu.RLock()
	list := slices.Collect(maps.Values(c.stables))
	c.mu.RUnlock()
	slices.SortFunc(list, func(a, b *Stable) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Counts is how many tables and super tables there are.
func (v *Vnode) Counts() (tables, stables int) {
	c := v.current.Load().catalog
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.tables), len(c.stables)
}

// An object's record in the store: docs/format/vnode.md.
const (
	objectVersion = 1

	objectStable = 1
	objectPlain  = 2
	objectChild  = 3
)

func appendSchema(dst []byte, s *Schema) []byte {
	dst = binary.AppendUvarint(dst, uint64(s.Version))
	dst = binary.AppendUvarint(dst, uint64(s.changed))
	dst = appendColumn(dst, s.Time)
	dst = binary.AppendUvarint(dst, uint64(len(s.Columns)))
	for _, c := range s.Columns {
		dst = appendColumn(dst, c.Column)
		dst = binary.AppendUvarint(dst, uint64(c.ID))
		dst = binary.AppendUvarint(dst, uint64(c.Added))
		dst = binary.AppendUvarint(dst, uint64(c.Dropped))
	}
	return dst
}

func (d *decoder) schema() *Schema {
	s := &Schema{Version: uint32(d.uvarint()), changed: objectID(d.uvarint()), Time: d.column()}
	s.Columns = make([]Column, d.count(columnBytes+3))
	for i := range s.Columns {
		s.Columns[i] = Column{
			Column: d.column(), ID: uint16(d.uvarint()),
			Added: uint32(d.uvarint()), Dropped: uint32(d.uvarint()),
		}
	}
	return s.complete()
}

func appendStable(dst []byte, s *Stable) []byte {
	dst = append(dst, objectVersion, objectStable)
	dst = binary.BigEndian.AppendUint64(dst, uint64(hlc.At(s.Created)))
	dst = appendBytes(dst, s.Name)
	return appendColumns(appendSchema(dst, s.Schema()), s.Tags)
}

func appendTable(dst []byte, t *Table) []byte {
	kind := byte(objectPlain)
	if t.Stable != nil {
		kind = objectChild
	}
	dst = append(dst, objectVersion, kind)
	dst = binary.BigEndian.AppendUint64(dst, uint64(hlc.At(t.Created)))
	dst = appendBytes(dst, t.Name)
	if t.Stable == nil {
		return appendSchema(dst, t.Schema())
	}
	tags := t.tags.Load()
	dst = binary.AppendUvarint(dst, uint64(t.Stable.id))
	dst = binary.AppendUvarint(dst, uint64(tags.set))
	return appendValues(dst, tags.values)
}

// object is a record of the catalog, taken apart.
type object struct {
	kind    byte
	created hlc.Stamp
	name    string
	schema  *Schema
	tags    []sql.Column // stable
	stable  objectID     // child
	values  tagValues    // child
}

func parseObject(src []byte) (object, error) {
	d := decoder{src: src}
	if v := d.byte(); d.err == nil {
		d.stop(checkVersion("table record", v, objectVersion))
	}
	o := object{kind: d.byte(), created: hlc.Stamp(d.uint64()), name: d.name()}
	switch o.kind {
	case objectStable:
		o.schema, o.tags = d.schema(), d.columns(MaxTags)
	case objectPlain:
		o.schema = d.schema()
	case objectChild:
		o.stable = objectID(d.uvarint())
		o.values.set = objectID(d.uvarint())
		o.values.values = d.values(MaxTags)
	default:
		d.fail("bad kind of table")
	}
	return o, d.end()
}

// newStable and newTable make what Apply and loading put into the catalog.
func newStable(of objectID, o *object) *Stable {
	s := &Stable{Name: o.name, Tags: o.tags, Created: createdAt(o.created), id: of}
	s.schema.Store(o.schema)
	return s
}

func newTable(of objectID, o *object, stable *Stable) *Table {
	t := &Table{Name: o.name, Stable: stable, Created: createdAt(o.created), id: of}
	if stable == nil {
		t.schema.Store(o.schema)
	} else {
		t.tags.Store(&o.values)
	}
	return t
}

// loadCatalog reads the tables of a view of the store. Records may be of tables
// that are gone: children whose super table was dropped, and what has a newer
// namesake. (A power cut may lose the removal of a record and keep what came
// after.) They get graves; rest is the records of children whose super table is
// not known at all.
func loadCatalog(txn *badger.Txn) (c *catalog, rest []objectID, err error) {
	c = newCatalog()
	if err := loadGraves(txn, c); err != nil {
		return nil, nil, err
	}
	var tables []*loadedTable
	stables := make(map[objectID]*Stable)
	err = walk(txn, []byte{keyObject}, func(key, value []byte) error { // in order of id
		of := objectID(binary.BigEndian.Uint64(key[1:]))
		o, err := parseObject(value)
		if err != nil {
			return fmt.Errorf("read table %d: %w", of, err)
		}
		if o.kind != objectStable {
			tables = append(tables, &loadedTable{of, o})
			return nil
		}
		if old := c.stables[o.name]; old != nil {
			delete(stables, old.id)
			c.dropStable(old, &grave{id: old.id, name: old.Name, stable: true, dropped: of})
		}
		stables[of] = newStable(of, &o)
		c.addStable(stables[of])
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for _, t := range tables {
		stable := stables[t.stable]
		if t.kind == objectChild && stable == nil {
			if g := c.dead[t.stable]; g != nil {
				c.buryLocked(&grave{id: t.id, name: t.name, under: g.id, dropped: g.dropped})
			} else {
				rest = append(rest, t.id)
			}
			continue
		}
		if old := c.tables[t.name]; old != nil {
			c.dropTable(old, &grave{id: old.id, name: old.Name, under: old.under(), dropped: t.id})
		}
		c.addTable(newTable(t.id, &t.object, stable))
	}
	return c, rest, loadSpans(txn, c)
}

// loadedTable is the record of a table that holds rows.
type loadedTable struct {
	id objectID
	object
}

func loadSpans(txn *badger.Txn, c *catalog) error {
	return walk(txn, []byte{keySpan}, func(key, _ []byte) error {
		if len(key) != tableKeyBytes+1 {
			return corruptf("key %x", key)
		}
		if t := c.byID[objectID(binary.BigEndian.Uint64(key[1:]))]; t != nil {
			t.widen(uint32(key[tableKeyBytes]))
		}
		return nil
	})
}

// walk calls do for every key with this prefix. Key and value are valid until
// do returns.
func walk(txn *badger.Txn, prefix []byte, do func(key, value []byte) error) error {
	opts := badger.IteratorOptions{Prefix: prefix}
	it := txn.NewIterator(opts)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		if err := item.Value(func(value []byte) error { return do(item.Key(), value) }); err != nil {
			return err
		}
	}
	return nil
}
