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
	do    func(*shadow) *shadow
}

// steps takes an operation apart.
func steps(op *wal.Op) []step {
	var list []step
	add := func(do func(*shadow) *shadow) { list = append(list, step{op.Group, do}) }
	if op.Drop {
		add(func(*shadow) *shadow { return nil })
	}
	change := func(do func(*shadow)) {
		add(func(s *shadow) *shadow {
			if s == nil {
				s = &shadow{}
			}
			do(s)
			return s
		})
	}
	if op.Start != nil {
		start := *op.Start
		change(func(s *shadow) { s.start, s.entries = start, nil })
	}
	if op.Hard != nil {
		hard := *op.Hard
		change(func(s *shadow) { s.hard = hard })
	}
	if op.Meta != nil {
		meta := sum(op.Meta)
		change(func(s *shadow) { s.meta = meta })
	}
	for i := range op.Entries {
		index, e := op.Entries[i].Index, entryOf(&op.Entries[i])
		change(func(s *shadow) {
			keep := int(index) - int(s.start.Index) - 1
			s.entries = append(s.entries[:keep], e)
		})
	}
	if op.Mark != 0 {
		mark := op.Mark
		change(func(s *shadow) { s.mark = mark })
	}
	if op.Cut != 0 {
		cut := op.Cut
		change(func(s *shadow) { s.cut(cut) })
	}
	return list
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

func (all shadows) apply(st step) {
	if s := st.do(all[st.group]); s != nil {
		all[st.group] = s
	} else {
		delete(all, st.group)
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
	for _, st := range unsynced {
		touched[st.group] = true
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
	for _, st := range unsynced {
		if st.group != g {
			continue
		}
		if want = st.do(want); want.same(got) {
			return nil
		}
	}
	if got == nil {
		return fmt.Errorf("group %d is gone; durable was %s", g, was)
	}
	return fmt.Errorf("group %d: found %v start %v last %v mark %d; durable was %s, then %d steps",
		g, got.hard, got.start, got.last(), got.mark, was, len(unsynced))
}
