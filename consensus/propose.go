package consensus

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// ErrDiskFull means that this host's log has no room. Nothing was proposed.
var ErrDiskFull = errors.New("no room in the log: free space in the data directory")

// propose appends proposals as one message to the Raft library, so that they
// travel and are synced together.
func (m *Machine) propose(e Propose) {
	g := m.groups[e.Group]
	err := m.mayPropose(g)
	if err == nil {
		m.guard(g, func() { err = m.proposeTo(g, e) })
		if err == nil && g.fault != nil {
			err = fmt.Errorf("%w: %w", ErrStopped, g.fault)
		}
	}
	if err != nil {
		for _, t := range e.Tickets {
			m.out.refuse(t, err)
		}
	}
}

func (m *Machine) mayPropose(g *group) error {
	switch {
	case g == nil:
		return ErrNoGroup
	case g.fault != nil:
		return fmt.Errorf("%w: %w", ErrStopped, g.fault)
	case !g.ready():
		return g.notLeader()
	case m.stopping:
		return ErrStopped
	case m.full:
		return ErrDiskFull
	case m.uncommitted >= m.conf.MaxHostUncommittedBytes:
		return ErrBusy
	}
	return nil
}

// notLeader says who leads instead, if that is known and is not this replica.
func (g *group) notLeader() error {
	if g.leader == g.self {
		return &NotLeaderError{Group: g.id}
	}
	return &NotLeaderError{Group: g.id, Leader: g.members[g.leader].UUID}
}

func (m *Machine) proposeTo(g *group, e Propose) error {
	m.drain(g) // so that lastIndex is the library's
	if !g.ready() {
		return g.notLeader()
	}
	entries := make([]*raftpb.Entry, len(e.Data))
	var bytes uint64
	for i, data := range e.Data {
		entries[i] = &raftpb.Entry{Data: data}
		bytes += uint64(len(data))
	}
	if err := g.step(raftpb.MsgProp, entries); err != nil {
		return proposalError(g, err)
	}
	m.touch(g)
	first := g.lastIndex + 1
	g.lastIndex += id.Index(len(entries))
	g.proposed = append(g.proposed, proposedBytes{last: g.lastIndex, bytes: bytes})
	m.uncommitted += bytes
	for i, t := range e.Tickets {
		m.out.answers = append(m.out.answers, Accepted{
			Group: g.id, Ticket: t, Index: first + id.Index(i), Term: g.term,
		})
	}
	return nil
}

func (g *group) step(kind raftpb.MessageType, entries []*raftpb.Entry) error {
	self := uint64(g.self)
	return g.node.Step(&raftpb.Message{Type: kind.Enum(), From: &self, Entries: entries})
}

// proposalError translates the library's refusal: it drops proposals while it
// hands over leadership and while too much is uncommitted.
func proposalError(g *group, err error) error {
	switch {
	case !errors.Is(err, raft.ErrProposalDropped):
		return err
	case g.node.BasicStatus().LeadTransferee != 0:
		return &NotLeaderError{Group: g.id}
	}
	return ErrBusy
}

// refuseAll answers every read that waits in g.
func (m *Machine) refuseAll(g *group, err error) {
	for _, t := range g.reads.take() {
		m.out.refuse(t, err)
	}
}
