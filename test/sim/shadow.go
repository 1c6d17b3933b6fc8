package main

import (
	"fmt"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// entry is what the checker keeps of a log entry.
type entry struct {
	term id.Term
	kind uint8
	sum  uint64 // of its data
	size int
	data []byte // of membership changes only
}

func entryOf(e *wal.Entry) entry {
	x := entry{term: e.Term, kind: e.Type, size: len(e.Data), sum: sum(e.Data)}
	if e.Type != 0 {
		x.data = append([]byte(nil), e.Data...)
	}
	return x
}

// sum is a hash of data.
func sum(data []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range data {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h
}

// shadow is what one group's log must hold, kept beside the real log from the
// operations that went into it.
type shadow struct {
	hard    wal.HardState
	start   wal.Position
	entries []entry // entries[i] is entry start.Index+1+i
	mark    id.Index
	meta    uint64
}

func (s *shadow) last() wal.Position {
	if n := len(s.entries); n > 0 {
		return wal.Position{Index: s.start.Index + id.Index(n), Term: s.entries[n-1].term}
	}
	return s.start
}

// at returns entry i, if the log holds it.
func (s *shadow) at(i id.Index) (*entry, bool) {
	if i <= s.start.Index || i > s.last().Index {
		return nil, false
	}
	return &s.entries[i-s.start.Index-1], true
}

// has reports whether the log holds entry i of that term, or is known to have
// held it: what lies before the start of a log was committed.
func (s *shadow) has(i id.Index, term id.Term) bool {
	if i <= s.start.Index {
		return true
	}
	e, ok := s.at(i)
	return ok && e.term == term
}

// shadows is a whole log: every group's shadow.
type shadows map[id.Group]*shadow

// step is the smallest part of an operation that a crash may leave: recovery
// gives back the operations up to one of them.
type step struct {
	group id.Group
	kind  stepKind
	start wal.Position
	hard  wal.HardState
	meta  uint64
	index id.Index // of the entry, the mark or the cut
	entry entry
}

type stepKind uint8

const (
	stepDrop stepKind = iota
	stepStart
	stepHard
	stepMeta
	stepEntry
	stepMark
	stepCut
)

// appendSteps takes an operation apart.
func appendSteps(list []step, op *wal.Op) []step {
	if op.Drop {
		list = append(list, step{group: op.Group, kind: stepDrop})
	}
	if op.Start != nil {
		list = append(list, step{group: op.Group, kind: stepStart, start: *op.Start})
	}
	if op.Hard != nil {
		list = append(list, step{group: op.Group, kind: stepHard, hard: *op.Hard})
	}
	if op.Meta != nil {
		list = append(list, step{group: op.Group, kind: stepMeta, meta: sum(op.Meta)})
	}
	for i := range op.Entries {
		e := &op.Entries[i]
		list = append(list, step{group: op.Group, kind: stepEntry, index: e.Index, entry: entryOf(e)})
	}
	if op.Mark != 0 {
		list = append(list, step{group: op.Group, kind: stepMark, index: op.Mark})
	}
	if op.Cut != 0 {
		list = append(list, step{group: op.Group, kind: stepCut, index: op.Cut})
	}
	return list
}

// after returns what s, nil if there is none, is after the step.
func (st *step) after(s *shadow) *shadow {
	if st.kind == stepDrop {
		return nil
	}
	if s == nil {
		s = &shadow{}
	}
	switch st.kind {
	case stepStart:
		s.start, s.entries = st.start, nil
	case stepHard:
		s.hard = st.hard
	case stepMeta:
		s.meta = st.meta
	case stepEntry:
		keep := int(st.index) - int(s.start.Index) - 1
		s.entries = append(s.entries[:keep], st.entry)
	case stepMark:
		s.mark = st.index
	case stepCut:
		s.cut(st.index)
	}
	return s
}

func (s *shadow) cut(to id.Index) {
	to = min(to, s.last().Index)
	if to <= s.start.Index {
		return
	}
	n := to - s.start.Index
	s.start = wal.Position{Index: to, Term: s.entries[n-1].term}
	s.entries = append([]entry(nil), s.entries[n:]...)
}

// apply carries steps out.
func (all shadows) apply(list []step) {
	for i := range list {
		st := &list[i]
		was := all[st.group]
		switch s := st.after(was); {
		case s == nil:
			delete(all, st.group)
		case s != was:
			all[st.group] = s
		}
	}
}

// read returns what a recovered log holds.
func read(log realLog) (shadows, error) {
	all := shadows{}
	for _, g := range log.Groups() {
		s := &shadow{hard: g.Hard, start: g.Start, mark: g.Mark, meta: sum(g.Meta)}
		for next := g.Start.Index + 1; next <= g.Last.Index; {
			es, err := log.Entries(g.Group, next, g.Last.Index+1, 1<<30)
			if err != nil {
				return nil, fmt.Errorf("read group %d from entry %d: %w", g.Group, next, err)
			}
			if len(es) == 0 {
				return nil, fmt.Errorf("read group %d from entry %d: nothing there", g.Group, next)
			}
			for i := range es {
				if es[i].Index != next {
					return nil, fmt.Errorf("read group %d: got entry %d, want %d", g.Group, es[i].Index, next)
				}
				s.entries = append(s.entries, entryOf(&es[i]))
				next++
			}
		}
		if s.last() != g.Last {
			return nil, fmt.Errorf("group %d ends at %v, its state says %v", g.Group, s.last(), g.Last)
		}
		all[g.Group] = s
	}
	return all, nil
}

// same reports whether two shadows are equal, but for where the log starts: a
// cut may be carried out late.
func (s *shadow) same(o *shadow) bool {
	if s == nil || o == nil {
		return s == o
	}
	if s.hard != o.hard || s.mark != o.mark || s.meta != o.meta || s.last() != o.last() {
		return false
	}
	for i := max(s.start.Index, o.start.Index) + 1; i <= s.last().Index; i++ {
		a, _ := s.at(i)
		b, _ := o.at(i)
		if a.term != b.term || a.kind != b.kind || a.sum != b.sum {
			return false
		}
	}
	return true
}

// checkRecovered compares what recovery found with what must be there: all that
// was durable, and of the rest a prefix. Groups are looked at one by one.
func checkRecovered(durable shadows, unsynced []step, got shadows) error {
	touched := map[id.Group]bool{}
	for g := range durable {
		touched[g] = true
	}
	for i := range unsynced {
		touched[unsynced[i].group] = true
	}
	for g := range got {
		if !touched[g] {
			return fmt.Errorf("group %d is in the log and was never written", g)
		}
	}
	for g := range touched {
		if err := checkGroup(durable[g], unsynced, got[g], g); err != nil {
			return err
		}
	}
	return nil
}

func checkGroup(want *shadow, unsynced []step, got *shadow, g id.Group) error {
	if want.same(got) {
		return nil
	}
	var was string
	if want != nil {
		was = fmt.Sprintf("%v last %v mark %d", want.hard, want.last(), want.mark)
		c := *want
		c.entries = append([]entry(nil), want.entries...)
		want = &c
	}
	for i := range unsynced {
		st := &unsynced[i]
		if st.group != g {
			continue
		}
		if want = st.after(want); want.same(got) {
			return nil
		}
	}
	if got == nil {
		return fmt.Errorf("group %d is gone; durable was %s", g, was)
	}
	return fmt.Errorf("group %d: found %v start %v last %v mark %d; durable was %s, then %d steps",
		g, got.hard, got.start, got.last(), got.mark, was, len(unsynced))
}
