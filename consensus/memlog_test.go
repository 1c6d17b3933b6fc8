package consensus

import (
	"fmt"
	"slices"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// memLog is a log in memory for tests of the machine alone: it does what an Op
// says, at once. The real log is under test in internal/wal and test/sim.
type memLog struct {
	groups map[id.Group]*memGroup
}

type memGroup struct {
	state   wal.GroupState
	entries []wal.Entry
}

func newMemLog() *memLog { return &memLog{groups: map[id.Group]*memGroup{}} }

func (l *memLog) do(ops []wal.Op) {
	for _, op := range ops {
		g := l.groups[op.Group]
		if g == nil {
			g = &memGroup{state: wal.GroupState{Group: op.Group}}
			l.groups[op.Group] = g
		}
		if op.Drop {
			delete(l.groups, op.Group)
			continue
		}
		if op.Start != nil {
			g.state.Start, g.state.Last, g.entries = *op.Start, *op.Start, nil
		}
		if op.Hard != nil {
			g.state.Hard = *op.Hard
		}
		if op.Meta != nil {
			g.state.Meta = slices.Clone(op.Meta)
		}
		if len(op.Entries) > 0 {
			at := int(op.Entries[0].Index) - int(g.state.Start.Index) - 1
			g.entries = append(g.entries[:at:at], op.Entries...)
			last := g.entries[len(g.entries)-1]
			g.state.Last = wal.Position{Index: last.Index, Term: last.Term}
		}
		g.state.Mark = max(g.state.Mark, op.Mark)
		if n := int(op.Cut) - int(g.state.Start.Index); n > 0 {
			g.state.Start = wal.Position{Index: op.Cut, Term: g.entries[n-1].Term}
			g.entries = g.entries[n:]
		}
	}
}

func (l *memLog) Groups() []wal.GroupState {
	var list []wal.GroupState
	for _, g := range l.groups {
		list = append(list, g.state)
	}
	slices.SortFunc(list, func(a, b wal.GroupState) int { return int(a.Group) - int(b.Group) })
	return list
}

func (l *memLog) Entries(g id.Group, lo, hi id.Index, _ uint64) ([]wal.Entry, error) {
	m := l.groups[g]
	if m == nil || lo <= m.state.Start.Index || hi > m.state.Last.Index+1 {
		return nil, fmt.Errorf("no entries %d to %d", lo, hi)
	}
	return m.entries[lo-m.state.Start.Index-1 : hi-m.state.Start.Index-1], nil
}

func (l *memLog) Term(g id.Group, i id.Index) (id.Term, error) {
	es, err := l.Entries(g, i, i+1, 0)
	if err != nil {
		return 0, err
	}
	return es[0].Term, nil
}

// Spare counts 100 bytes for each entry.
func (l *memLog) Spare(g id.Group, keepBytes uint64) id.Index {
	m := l.groups[g]
	if m == nil || uint64(len(m.entries)) <= keepBytes/100 {
		return 0
	}
	return m.state.Last.Index - id.Index(keepBytes/100)
}
