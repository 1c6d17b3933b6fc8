package vnode

import (
	"encoding/binary"
	"fmt"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/vnode/repeat"
)

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
