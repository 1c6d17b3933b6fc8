package vnode

import "math/bits"

// What inserts do: the blocks of the log become those of the store.

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
