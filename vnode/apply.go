package vnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/vnode/repeat"
)

// position is how far a log is applied. It is written in the transaction of
// the entry's effects.
type position struct {
	index    id.Index
	stamp    hlc.Stamp // the largest stamp given to a statement up to here
	remember id.Index  // ids in older entries count no more (R46)
	aged     hlc.Stamp // the moment that says how old rows are (KEEP): see age
}

// longestPause is what the time between two neighbouring entries counts at most
// when rows grow old.
const longestPause = 6 * time.Hour

// age brings aged nearer to the stamp, which was before when the entry began.
//
// Stamps leap when a host leads whose clock is wrong: one that starts years ahead
// and is set right a second later. If rows grew old with them, that second would
// remove everything. So rows do not grow old by more than two pauses at once. A
// log that was not written for longer catches up, at twice the pace.
func (p *position) age(before hlc.Stamp) {
	if before == 0 {
		p.aged = p.stamp
		return
	}
	p.aged = min(p.stamp, p.aged+2*min(p.stamp-before, hlc.Stamp(longestPause)))
}

func (p position) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.index))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.stamp))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.remember))
	return binary.BigEndian.AppendUint64(dst, uint64(p.aged))
}

func parsePosition(src []byte) (position, error) {
	d := decoder{src: src}
	p := position{index: id.Index(d.uint64()), stamp: hlc.Stamp(d.uint64()), remember: id.Index(d.uint64())}
	p.aged = p.stamp
	if len(d.src) > 0 { // the first versions had no more
		p.aged = hlc.Stamp(d.uint64())
	}
	return p, d.end()
}

// outcome is the result of one statement, as Apply hands it to the batcher.
type outcome struct {
	result Result
	fault  fault
}

// applier carries one call of Apply.
type applier struct {
	state *state
	b     *batch
	at    position
	head  entryHead
	pos   objectID // of the statement at hand
	me    version  // its stamp and origin
	ids   []byte   // record of the ids of the entry at hand
	last  StatementID
}

// Apply implements consensus.StateMachine. The result of an entry is a
// []outcome, one for each of its statements.
func (v *Vnode) Apply(entries []consensus.Entry) ([]any, error) {
	s := v.current.Load() // Install and Close are not called while it runs
	a := applier{state: s, b: newBatch(s.db), at: s.position()}
	defer func() { a.b.discard() }()
	results := make([]any, len(entries))
	for i, e := range entries {
		if err := a.makeRoom(len(e.Data)); err != nil {
			return nil, err
		}
		outcomes, err := a.entry(e)
		if err != nil {
			return nil, fmt.Errorf("apply entry %d of group %d: %w", e.Index, s.cfg.Group, err)
		}
		results[i] = outcomes
	}
	if err := a.forget(); err != nil {
		return nil, err
	}
	if err := a.commit(); err != nil {
		return nil, err
	}
	s.setPosition(a.at)
	if n := len(entries); n > 0 { // not before it is in the store: see Checkpoint
		s.replayed.Store(uint64(entries[n-1].Index))
	}
	s.tidy.wake()
	return results, nil
}

const (
	// transactionBytes is what one transaction takes. Badger takes a sixth more,
	// which is enough for the position and the ids that are forgotten.
	transactionBytes = 2 << 20
	// leastRecordBytes is the least that an entry spends on a record that it
	// writes: a block of one value has four bytes and a length.
	leastRecordBytes = 5
)

// makeRoom commits what there is, if an entry may not fit beside it: so that a
// view of the store shows entries wholly or not at all. What an entry writes is
// at most twice as long as itself; the longest, which is about long blocks, is
// alone in its transaction and hardly longer than itself. (Badger bounds the
// records of a transaction, too. Only one statement about more than some 25,000
// tables exceeds that alone.)
func (a *applier) makeRoom(entryBytes int) error {
	most := int(a.b.db.MaxBatchCount()) - forgetAtOnce - 2
	if a.b.records == 0 || a.b.bytes+2*entryBytes <= transactionBytes && a.b.records+entryBytes/leastRecordBytes <= most {
		return nil
	}
	if err := a.commit(); err != nil {
		return err
	}
	a.b = newBatch(a.state.db)
	return nil
}

// commit puts the batch into the store, with the position that it reaches.
func (a *applier) commit() error {
	err := a.b.set([]byte{keyApplied}, a.at.append(nil))
	if err == nil {
		err = a.b.commit()
	}
	if err != nil {
		return fmt.Errorf("apply to group %d: %w", a.state.cfg.Group, err)
	}
	return nil
}

// entry applies one entry. Its effects are the same whatever later effects the
// store already holds: what is older than pos is what the entry may see.
func (a *applier) entry(e consensus.Entry) ([]outcome, error) {
	d := decoder{src: e.Data}
	a.head = d.entryHead()
	if d.err != nil {
		return nil, d.err
	}
	outcomes := make([]outcome, a.head.count)
	a.ids, a.last = nil, StatementID{}
	before := a.at.stamp
	known := a.state.memory.Knows(e.Index)
	next := objectID(e.Index) << positionBits
	for i := range outcomes {
		kind, who, body := d.statement()
		if d.err != nil {
			return nil, d.err
		}
		place := next
		next += places(kind, body)
		a.pos = place
		a.me = version{stamp: a.head.first + hlc.Stamp(i), origin: a.head.origin}
		if !who.IsZero() {
			if r, ok := a.state.memory.Seen(who, repeat.Place(a.pos), a.head.remember); ok {
				outcomes[i] = outcome{r.result(), r.fault}
				continue
			}
		}
		out, err := a.statement(kind, body)
		if err != nil {
			return nil, fmt.Errorf("statement %d: %w", i, err)
		}
		outcomes[i] = out
		if !who.IsZero() && !known {
			a.remember(place, who, out)
		}
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	a.at.index = max(a.at.index, e.Index)
	a.at.stamp = max(a.at.stamp, a.head.first+hlc.Stamp(a.head.count-1))
	a.at.age(before)
	a.at.remember = max(a.at.remember, a.head.remember)
	if len(a.ids) == 0 {
		return outcomes, nil
	}
	key := binary.BigEndian.AppendUint64(append(a.b.key(), keyRemember), uint64(e.Index))
	return outcomes, a.b.set(key, a.ids)
}

// places is how many places in the log a statement takes.
func places(kind opKind, body []byte) objectID {
	if kind != opInsert {
		return 1
	}
	d := decoder{src: body}
	return 1 + objectID(d.count(3))
}

// remember adds a statement to the record of its entry and to the memory.
func (a *applier) remember(place objectID, who StatementID, out outcome) {
	if a.ids == nil {
		a.ids = binary.BigEndian.AppendUint64(nil, uint64(a.head.first))
	}
	r := remembered{pos: place, rows: uint32(out.result.Rows), fault: out.fault, extra: out.result.Existed}
	a.ids = appendRemembered(a.ids, a.last, who, r)
	a.last = who
	a.state.memory.Add(a.head.first, who, r)
}

// forgetAtOnce bounds how many old records one Apply deletes.
const forgetAtOnce = 256

// forget deletes the records of ids that no entry after the last checkpoint
// asks for: a replay starts there.
func (a *applier) forget() error {
	for _, index := range a.state.memory.Forget(id.Index(a.state.forgettable.Load()), forgetAtOnce) {
		key := binary.BigEndian.AppendUint64(append(a.b.key(), keyRemember), uint64(index))
		if err := a.b.delete(key); err != nil {
			return err
		}
	}
	return nil
}

// statement carries one statement out. A statement that can't be carried out is
// an outcome; an error means that the entry is not what this version writes.
func (a *applier) statement(kind opKind, body []byte) (outcome, error) {
	d := decoder{src: body}
	if kind == opInsert {
		return a.insert(&d)
	}
	op := d.op(kind)
	if err := d.end(); err != nil {
		return outcome{}, err
	}
	switch op := op.(type) {
	case CreateStable:
		return a.createStable(op)
	case CreateTable:
		o := object{kind: objectPlain, name: op.Name, schema: newSchema(op.Columns, a.pos)}
		return a.createTable(&o, nil, op.IfNotExists)
	case CreateChild:
		stable, grave := a.stable(op.Using.Stable)
		switch {
		case grave != nil:
			return outcome{}, a.stillborn(op.Name, grave)
		case stable == nil:
			return outcome{fault: faultNoStable}, nil
		case !fit(op.Using.Tags, stable.Tags):
			return outcome{fault: faultSchemaChanged}, nil
		}
		o := object{kind: objectChild, name: op.Name, values: tagValues{op.Using.Tags, a.pos}}
		return a.createTable(&o, stable, op.IfNotExists)
	case DropTable:
		return a.dropTable(op)
	case DropStable:
		return a.dropStable(op)
	case AddColumn:
		return a.addColumn(op)
	case DropColumn:
		return a.dropColumn(op)
	case SetTags:
		return a.setTags(op)
	case Note:
		key := append([]byte{keyNote}, op.Key...)
		return outcome{}, a.b.set(key, op.Value)
	}
	panic("vnode: statement of an unknown kind")
}

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

// insert stores the blocks of an insert. Tables that are gone are passed over.
func (a *applier) insert(d *decoder) (outcome, error) {
	var out outcome
	for n := d.count(3); n > 0 && d.err == nil; n-- {
		in := d.insertTable()
		if d.err != nil {
			break
		}
		a.pos++
		t, fault, err := a.target(&in)
		if err != nil {
			return out, err
		}
		if t == nil && out.fault == faultNone {
			out.fault = fault
		}
		for ; in.blocks > 0 && d.err == nil; in.blocks-- {
			block := d.bytes()
			if d.err != nil || t == nil {
				continue
			}
			rows, err := a.block(t, &in, block)
			if err != nil {
				return out, err
			}
			out.result.Rows += int64(rows)
		}
	}
	return out, d.end()
}

// target is the table that the rows of an insert go to, made if need be, or why
// there is none. There is none either, without a fault, where a replay is about
// rows that were dropped since.
func (a *applier) target(in *insertTable) (*Table, fault, error) {
	if in.id != 0 {
		t := a.state.catalog.tableOf(in.id)
		if t == nil && !a.state.catalog.buriedAfter(in.id, a.pos) {
			return nil, faultNoTable, nil
		}
		return t, faultNone, nil
	}
	switch t, grave := a.table(in.name); {
	case grave != nil:
		return nil, faultNone, nil
	case t != nil && (t.Stable == nil || t.Stable.id != in.under):
		return nil, faultSchemaChanged, nil
	case t != nil:
		return t, faultNone, nil
	}
	s, grave := a.stable(in.stable)
	switch {
	case grave != nil:
		return nil, faultNone, a.stillborn(in.name, grave)
	case s == nil:
		return nil, faultNoStable, nil
	case s.id != in.under || !fit(in.tags, s.Tags):
		return nil, faultSchemaChanged, nil
	}
	t, err := a.newTable(&object{kind: objectChild, name: in.name, values: tagValues{in.tags, a.pos}}, s)
	return t, faultNone, err
}

// block stores one block of a table.
func (a *applier) block(t *Table, in *insertTable, block []byte) (rows int, err error) {
	h, err := parseHead(block)
	if err != nil {
		return 0, err
	}
	if h.stamped {
		return 0, corruptf("merged block in the log")
	}
	if h.schema > t.Schema().Version {
		return 0, corruptf("block of schema version %d of table %d, which is at %d", h.schema, t.id, t.Schema().Version)
	}
	v := a.me
	if in.foreign {
		// What is written here from now on must win over these rows.
		v = in.own
		a.at.stamp = max(a.at.stamp, v.stamp)
	}
	if class := spanClass(h.first, h.last); t.widen(class) {
		if err := a.b.set(appendSpanKey(a.b.key(), t.id, class), nil); err != nil {
			return 0, err
		}
	}
	a.state.tidy.note(t, &h)
	return h.rows, a.b.set(appendBlockKey(a.b.key(), t.id, h.first, v, a.state.cfg.Cluster), block)
}

// spanClass is the power of two that no row of the block lies so far from the
// first.
func spanClass(first, last int64) uint32 { return uint32(bits.Len64(uint64(last) - uint64(first))) }

// spanStart is where a block may start that reaches ts.
func spanStart(ts int64, class uint32) int64 {
	if class >= 63 || ts < -1<<63+int64(1)<<class {
		return -1 << 63
	}
	return ts - int64(1)<<class
}

// readPosition is how far a view of the store is applied.
func readPosition(txn *badger.Txn) (position, error) {
	var p position
	item, err := txn.Get([]byte{keyApplied})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read applied index: %w", err)
	}
	err = item.Value(func(value []byte) (err error) {
		p, err = parsePosition(value)
		return err
	})
	return p, err
}
