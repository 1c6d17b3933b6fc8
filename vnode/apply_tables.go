package vnode

import (
	"slices"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// What statements do to tables. In a replay they meet what later ones have made of
// them: each asks who had a name at its own place in the log (grave).

// fit reports whether values can be the tags of a super table: it may be
// another one by now than the leader saw.
func fit(values []sql.Value, tags []sql.Column) bool {
	if len(values) != len(tags) {
		return false
	}
	for i, v := range values {
		if !v.IsNull() && v.Type != tags[i].Type {
			return false
		}
	}
	return true
}

// table and stable are what the statement at hand sees under a name: nothing
// that a later statement created. Only a replay may see the grave of what was
// dropped later: then what the statement does to it has no effect.
func (a *applier) table(name string) (*Table, *grave) {
	if t := a.state.catalog.table(name); t != nil && t.id < a.pos {
		return t, nil
	}
	return nil, a.state.catalog.grave(name, false, a.pos)
}

func (a *applier) stable(name string) (*Stable, *grave) {
	if s := a.state.catalog.stable(name); s != nil && s.id < a.pos {
		return s, nil
	}
	return nil, a.state.catalog.grave(name, true, a.pos)
}

// taken is why the statement at hand can't create something under a name.
func (a *applier) taken(name string) fault {
	if t, grave := a.table(name); t != nil || grave != nil {
		return faultTableExists
	}
	if s, grave := a.stable(name); s != nil || grave != nil {
		return faultStableExists
	}
	return faultNone
}

// created reports whether what the statement at hand creates under a name needs
// not be created, which only a replay finds: because it is there, or because it
// came and went. later is who has the name now, zero if nobody.
func (a *applier) created(name string, stable bool, under, later objectID) (bool, error) {
	switch {
	case later == a.pos, a.state.catalog.buried(a.pos):
		return true, nil
	case later == 0:
		return false, nil
	}
	// It was dropped before its namesake came. That drop is still to be
	// replayed, and moves the end to where it was.
	return true, a.bury(&grave{id: a.pos, name: name, stable: stable, under: under, dropped: later})
}

// stillborn buries the child that the statement at hand creates of a super
// table that was dropped later.
func (a *applier) stillborn(name string, stable *grave) error {
	if a.taken(name) != faultNone || a.state.catalog.buried(a.pos) {
		return nil
	}
	return a.bury(&grave{id: a.pos, name: name, under: stable.id, dropped: stable.dropped})
}

func (a *applier) putObject(of objectID, record []byte) error {
	return a.b.set(appendObjectKey(a.b.key(), keyObject, of), record)
}

func (a *applier) createStable(op CreateStable) (outcome, error) {
	if fault := a.taken(op.Name); fault == faultStableExists && op.IfNotExists {
		return outcome{result: Result{Existed: true}}, nil
	} else if fault != faultNone {
		return outcome{fault: fault}, nil
	}
	var later objectID
	if s := a.state.catalog.stable(op.Name); s != nil {
		later = s.id
	}
	if done, err := a.created(op.Name, true, 0, later); done {
		return outcome{}, err
	}
	o := object{kind: objectStable, created: a.me.stamp, name: op.Name, schema: newSchema(op.Columns, a.pos), tags: op.Tags}
	s := newStable(a.pos, &o)
	a.state.catalog.addStable(s)
	return outcome{}, a.putObject(s.id, appendStable(nil, s))
}

func (a *applier) createTable(o *object, stable *Stable, ifNotExists bool) (outcome, error) {
	if fault := a.taken(o.name); fault == faultTableExists && ifNotExists {
		return outcome{result: Result{Existed: true}}, nil
	} else if fault != faultNone {
		return outcome{fault: fault}, nil
	}
	_, err := a.newTable(o, stable)
	return outcome{}, err
}

// newTable creates a table under a name that is free. In a replay there is none
// if it came and went.
func (a *applier) newTable(o *object, stable *Stable) (*Table, error) {
	var later, under objectID
	old := a.state.catalog.table(o.name)
	if old != nil {
		later = old.id
	}
	if stable != nil {
		under = stable.id
	}
	if done, err := a.created(o.name, false, under, later); done {
		if later == a.pos {
			return old, err
		}
		return nil, err
	}
	o.created = a.me.stamp
	t := newTable(a.pos, o, stable)
	a.state.catalog.addTable(t)
	return t, a.putObject(t.id, appendTable(nil, t))
}

func (a *applier) dropTable(op DropTable) (outcome, error) {
	t, buried := a.table(op.Name)
	switch {
	case buried != nil:
		return outcome{}, a.buryDeeper(op.Name, false)
	case t == nil && op.IfExists:
		return outcome{result: Result{Existed: true}}, nil
	case t == nil:
		return outcome{fault: faultNoTable}, nil
	}
	g := &grave{id: t.id, name: t.Name, under: t.under(), dropped: a.pos}
	a.state.catalog.dropTable(t, g)
	return outcome{}, a.bury(g)
}

func (a *applier) dropStable(op DropStable) (outcome, error) {
	s, buried := a.stable(op.Name)
	switch {
	case buried != nil:
		return outcome{}, a.buryDeeper(op.Name, true)
	case s == nil && op.IfExists:
		return outcome{result: Result{Existed: true}}, nil
	case s == nil:
		return outcome{fault: faultNoStable}, nil
	}
	g := &grave{id: s.id, name: s.Name, stable: true, dropped: a.pos}
	// The children's own records go in the background: without the super
	// table's they count for nothing.
	for _, child := range a.state.catalog.dropStable(s, g) {
		a.state.tidy.drop(child)
	}
	return outcome{}, a.bury(g)
}

// bury replaces an object's record by that of its grave.
func (a *applier) bury(g *grave) error {
	a.state.catalog.bury(g)
	a.state.tidy.drop(g)
	if err := a.b.delete(appendObjectKey(a.b.key(), keyObject, g.id)); err != nil {
		return err
	}
	return a.b.set(appendObjectKey(a.b.key(), keyDropped, g.id), g.append(nil))
}

// buryDeeper corrects when something was dropped that a power cut had let come
// back, and that loading had taken for dropped when its namesake was created.
func (a *applier) buryDeeper(name string, stable bool) error {
	for _, g := range a.state.catalog.redrop(name, stable, a.pos) {
		if err := a.bury(g); err != nil {
			return err
		}
	}
	return nil
}

// alter replaces the schema of a super table or a plain table.
func (a *applier) alter(name string, change func(*Schema) (*Schema, fault)) (outcome, error) {
	s, stableGrave := a.stable(name)
	t, tableGrave := a.table(name)
	var now *Schema
	switch {
	case stableGrave != nil || tableGrave != nil:
		return outcome{}, nil
	case s != nil:
		now = s.Schema()
	case t != nil && t.Stable == nil:
		now = t.Schema()
	default:
		return outcome{fault: faultNoTable}, nil
	}
	if now.changed >= a.pos { // a replay: it was altered since
		return outcome{}, nil
	}
	next, fault := change(now)
	if next == nil {
		return outcome{fault: fault}, nil
	}
	if s != nil {
		s.schema.Store(next)
		return outcome{}, a.putObject(s.id, appendStable(nil, s))
	}
	t.schema.Store(next)
	return outcome{}, a.putObject(t.id, appendTable(nil, t))
}

func (a *applier) addColumn(op AddColumn) (outcome, error) {
	return a.alter(op.Name, func(s *Schema) (*Schema, fault) {
		if _, ok := s.live(op.Column.Name); ok || op.Column.Name == s.Time.Name {
			return nil, faultColumnExists
		}
		if len(s.Columns)+2 > MaxColumns {
			return nil, faultBadStatement
		}
		return s.withColumn(op.Column, a.pos), faultNone
	})
}

func (a *applier) dropColumn(op DropColumn) (outcome, error) {
	return a.alter(op.Name, func(s *Schema) (*Schema, fault) {
		if _, ok := s.live(op.Column); !ok {
			return nil, faultNoColumn
		}
		if len(s.Live()) == 1 {
			return nil, faultBadStatement
		}
		return s.without(op.Column, a.pos), faultNone
	})
}

func (a *applier) setTags(op SetTags) (outcome, error) {
	t, grave := a.table(op.Table)
	switch {
	case grave != nil:
		return outcome{}, nil
	case t == nil || t.Stable == nil:
		return outcome{fault: faultNoTable}, nil
	}
	old := t.tags.Load()
	next := tagValues{values: slices.Clone(old.values), set: max(old.set, a.pos)}
	for i, name := range op.Names {
		at := slices.IndexFunc(t.Stable.Tags, func(c sql.Column) bool { return c.Name == name })
		if at < 0 || at >= len(next.values) {
			return outcome{fault: faultNoTag}, nil
		}
		next.values[at] = op.Tags[i]
	}
	if old.set >= a.pos { // a replay: they were set again since
		return outcome{}, nil
	}
	t.tags.Store(&next)
	return outcome{}, a.putObject(t.id, appendTable(nil, t))
}
