package consensus

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// reads holds the linearizable reads of one leader: those that wait for a round
// of heartbeats, and those whose round is under way. One round at a time serves
// all that came before it started.
type reads struct {
	waiting []uint64 // tickets
	asked   []uint64 // tickets of the round under way
	round   uint64   // its number, the context of ReadIndex
}

// take empties r and returns its tickets.
func (r *reads) take() []uint64 {
	all := append(r.asked, r.waiting...)
	r.asked, r.waiting = nil, nil
	return all
}

func (m *Machine) read(e Read) {
	g := m.groups[e.Group]
	switch {
	case g == nil:
		m.out.refuse(e.Ticket, ErrNoGroup)
	case g.fault != nil:
		m.out.refuse(e.Ticket, fmt.Errorf("%w: %w", ErrStopped, g.fault))
	case !g.leading():
		m.out.refuse(e.Ticket, g.notLeader())
	default:
		g.reads.waiting = append(g.reads.waiting, e.Ticket)
		m.touch(g)
	}
}

// startReads asks the library to confirm leadership for the reads that wait. It
// waits itself until this leader has applied an entry of its own term: the
// library answers at once in a group of one voter, before it knows what is
// committed (R39).
func (m *Machine) startReads(g *group) {
	if len(g.reads.waiting) == 0 || len(g.reads.asked) > 0 || !g.ready() {
		return
	}
	g.reads.asked, g.reads.waiting = g.reads.waiting, nil
	g.reads.round++
	g.node.ReadIndex(binary.LittleEndian.AppendUint64(nil, g.reads.round))
}

// readsConfirmed answers the round that the library has confirmed.
func (m *Machine) readsConfirmed(g *group, states []raft.ReadState) {
	for _, s := range states {
		if len(s.RequestCtx) != 8 || binary.LittleEndian.Uint64(s.RequestCtx) != g.reads.round {
			continue // of an earlier leadership
		}
		for _, t := range g.reads.asked {
			m.out.answers = append(m.out.answers, ReadReady{Group: g.id, Ticket: t, Index: id.Index(s.Index)})
		}
		g.reads.asked = nil
		if len(g.reads.waiting) > 0 {
			m.startReads(g)
		}
	}
}

// forget gives up a ticket.
func (m *Machine) forget(ticket uint64) {
	for _, g := range m.sorted() {
		g.reads.waiting = without(g.reads.waiting, ticket)
		g.reads.asked = without(g.reads.asked, ticket)
	}
	for i := range m.enrolments {
		if m.enrolments[i].Ticket == ticket {
			m.enrolments = append(m.enrolments[:i], m.enrolments[i+1:]...)
			return
		}
	}
}

func without(list []uint64, x uint64) []uint64 {
	for i, v := range list {
		if v == x {
			return append(list[:i:i], list[i+1:]...)
		}
	}
	return list
}
