package wal_test

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// model is what a log should hold: the simplest thing that could work.
type model map[id.Group]*modelGroup

type modelGroup struct {
	state   wal.GroupState
	entries []wal.Entry
	sum     uint64 // digest, zero: not known
}

func (m model) apply(op wal.Op) {
	if op.Drop {
		delete(m, op.Group)
	}
	if op.Start == nil && op.Hard == nil && op.Meta == nil && len(op.Entries) == 0 && op.Mark == 0 && op.Cut == 0 {
		return
	}
	g := m[op.Group]
	if g == nil {
		g = &modelGroup{state: wal.GroupState{Group: op.Group}}
		m[op.Group] = g
	}
	g.sum = 0
	s := &g.state
	if op.Start != nil {
		s.Start, s.Last, g.entries = *op.Start, *op.Start, nil
	}
	if op.Hard != nil {
		s.Hard = *op.Hard
	}
	if op.Meta != nil {
		s.Meta = op.Meta
	}
	if len(op.Entries) > 0 {
		g.entries = append(slices.Clone(g.entries[:op.Entries[0].Index-s.Start.Index-1]), op.Entries...)
		last := op.Entries[len(op.Entries)-1]
		s.Last = wal.Position{Index: last.Index, Term: last.Term}
	}
	if op.Mark != 0 {
		s.Mark = op.Mark
	}
	if op.Cut > s.Start.Index {
		n := op.Cut - s.Start.Index
		s.Start = wal.Position{Index: op.Cut, Term: g.entries[n-1].Term}
		g.entries = g.entries[n:]
	}
}

// digest is equal for equal contents.
func (m model) digest() uint64 {
	var sum uint64
	for _, g := range m {
		sum += g.digest()
	}
	return sum
}

func (g *modelGroup) digest() uint64 {
	if g.sum != 0 {
		return g.sum
	}
	h := fnv.New64a()
	s := g.state
	fmt.Fprintf(h, "%d %v %v %v %d %q:", s.Group, s.Hard, s.Start, s.Last, s.Mark, s.Meta)
	for _, e := range g.entries {
		fmt.Fprintf(h, "%d %d %d %d ", e.Index, e.Term, e.Type, len(e.Data))
		h.Write(e.Data)
	}
	g.sum = h.Sum64()
	return g.sum
}

// read turns what the log says into a model.
func read(t testing.TB, l *wal.Log) model {
	t.Helper()
	m := make(model)
	for _, s := range l.Groups() {
		g := &modelGroup{state: s}
		m[s.Group] = g
		if s.Start != s.Last {
			g.entries = entries(t, l, s.Group, s.Start.Index+1, s.Last.Index+1)
		}
		for _, e := range append([]wal.Entry{{Index: s.Start.Index, Term: s.Start.Term}}, g.entries...) {
			if term, err := l.Term(s.Group, e.Index); err != nil || term != e.Term {
				t.Fatalf("term of entry %d of group %d: got %d, %v, want %d", e.Index, s.Group, term, err, e.Term)
			}
		}
	}
	return m
}

func entries(t testing.TB, l *wal.Log, g id.Group, lo, hi id.Index) []wal.Entry {
	t.Helper()
	list, err := l.Entries(g, lo, hi, math.MaxUint64)
	if err != nil {
		t.Fatalf("entries %d to %d of group %d: %v", lo, hi-1, g, err)
	}
	if len(list) != int(hi-lo) {
		t.Fatalf("entries %d to %d of group %d: got %d", lo, hi-1, g, len(list))
	}
	return list
}

// randomOp makes an op that fits m and becomes one record, so that a crash
// leaves all of it or nothing.
func randomOp(r *rand.Rand, m model, groups int) wal.Op {
	op := wal.Op{Group: id.Group(1 + r.IntN(groups))}
	state := wal.GroupState{}
	if g := m[op.Group]; g != nil {
		state = g.state
		if r.IntN(100) == 0 {
			op.Drop = true
			return op
		}
	}
	if r.IntN(60) == 0 {
		at := wal.Position{Index: id.Index(r.IntN(500)), Term: id.Term(1 + r.IntN(5))}
		op.Start, state.Start, state.Last = &at, at, at
	}
	if r.IntN(5) == 0 {
		op.Hard = &wal.HardState{Term: id.Term(r.IntN(9)), Vote: id.Replica(r.IntN(3)), Commit: id.Index(r.IntN(99))}
	}
	if r.IntN(30) == 0 {
		op.Meta = slices.Repeat([]byte("meta"), 1+r.IntN(20))
	}
	if r.IntN(10) != 0 {
		first := state.Last.Index + 1
		if r.IntN(8) == 0 {
			first -= id.Index(r.Uint64N(1 + min(5, uint64(state.Last.Index-state.Start.Index))))
		}
		term := max(state.Last.Term, 1) + id.Term(r.IntN(10)/9)
		for i := range id.Index(1 + r.IntN(6)) {
			data := make([]byte, r.IntN(1+r.IntN(300)))
			for j := range data {
				data[j] = byte(r.Uint32())
			}
			op.Entries = append(op.Entries, wal.Entry{Index: first + i, Term: term, Type: uint8(r.IntN(3)), Data: data})
		}
		state.Last.Index = op.Entries[len(op.Entries)-1].Index
	}
	if r.IntN(10) == 0 {
		op.Mark = id.Index(1 + r.IntN(100))
	}
	if have := uint64(state.Last.Index - state.Start.Index); have > 0 && r.IntN(4) == 0 {
		op.Cut = state.Start.Index + id.Index(r.Uint64N(have+1))
	}
	return op
}
