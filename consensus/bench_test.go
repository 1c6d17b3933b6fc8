package consensus

import (
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// BenchmarkPair counts what both machines of a healthy pair cost per proposal,
// without disk, wire or state machine: 1,024 proposals of 16 bytes in flight.
func BenchmarkPair(b *testing.B) {
	s := &stage{hosts: map[string]*actor{}, away: map[string]bool{}, hung: map[string]bool{}, said: map[string]int{}}
	s.arb = newArbitrator()
	s.form(2, []string{"a", "b"})
	s.run(6e9)
	leader := s.hosts["a"]
	if !leader.m.groups[2].ready() {
		leader = s.hosts["b"]
	}
	const flight = 1024
	tickets, data := make([]uint64, flight), make([][]byte, flight)
	for i := range data {
		tickets[i], data[i] = uint64(i), make([]byte, 16)
	}
	b.ReportAllocs()
	for n := 0; n < b.N; n += flight {
		leader.inbox = append(leader.inbox, Propose{Group: 2, Tickets: tickets, Data: data})
		s.settle()
		for _, a := range s.hosts { // what a checkpoint lets go
			a.applied = nil
			g := a.m.groups[2]
			g.held = g.appliedIndex
			a.inbox = append(a.inbox, Checkpointed{Group: id.Group(2), Index: g.appliedIndex})
		}
	}
}
