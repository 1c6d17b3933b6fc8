package wal

import (
	"bytes"
	"fmt"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// group is what the log knows about one group.
//
// Invariant: index holds exactly the entries start+1 to last.
type group struct {
	id          id.Group
	hard        HardState
	start, last Position
	mark        id.Index
	meta        []byte
	index       entryIndex
}

func (g *group) state() GroupState {
	return GroupState{Group: g.id, Hard: g.hard, Start: g.start, Last: g.last, Mark: g.mark, Meta: g.meta}
}

// term returns the term of an entry that the group holds, or of its start.
func (g *group) term(index id.Index) id.Term {
	if index == g.start.Index {
		return g.start.Term
	}
	_, e := g.index.at(index)
	return e.term
}

// place is where a record stands.
type place struct {
	seg        *segment
	off, bytes int64
	floor      int64 // an extent does not begin before this
}

// apply changes the group by one change record that stands at p. It panics
// when the change does not fit the group: then the caller has broken its
// promise, and nothing that it says may reach the disk. parts of an Op are in
// the order of its fields.
func (g *group) apply(c *change, p place) {
	if c.flags&hasStart != 0 {
		g.index.clear()
		g.start, g.last = c.start, c.start
	}
	if c.flags&hasHard != 0 {
		g.hard = c.hard
	}
	if c.flags&hasMeta != 0 {
		g.meta = bytes.Clone(c.meta)
	}
	if c.flags&hasEntries != 0 {
		e := &c.entries
		g.index.truncate(e.first)
		g.index.add(p.seg, e, p.off, p.bytes, p.floor)
		g.last = Position{Index: e.last(), Term: e.term}
	}
	if c.flags&hasMark != 0 {
		g.mark = c.mark
	}
	if c.flags&hasCut != 0 && c.cut.Index > g.start.Index {
		g.index.cut(c.cut.Index)
		g.start = c.cut
	}
}

// check says why c can't be applied to g.
func (g *group) check(c *change) error {
	start, last := g.start.Index, g.last.Index
	if c.flags&hasStart != 0 {
		start, last = c.start.Index, c.start.Index
	}
	if c.flags&hasEntries != 0 {
		if c.entries.first <= start || c.entries.first > last+1 {
			return fmt.Errorf("entries of group %d from %d on do not fit a log of %d to %d", g.id, c.entries.first, start+1, last)
		}
		last = c.entries.last()
	}
	if c.flags&hasCut != 0 && c.cut.Index > last {
		return fmt.Errorf("cut of group %d at %d is behind the last entry %d", g.id, c.cut.Index, last)
	}
	return nil
}
