package consensus

import (
	"slices"

	"go.etcd.io/raft/v3"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Status returns every group as this host sees it, ordered by group.
func (m *Machine) Status() []Status {
	list := make([]Status, 0, len(m.order))
	for _, g := range m.sorted() {
		list = append(list, m.status(g))
	}
	return list
}

func (m *Machine) status(g *group) Status {
	s := Status{
		Group: g.id, Self: g.self, Term: g.term, Applied: g.appliedIndex,
		Faulty: g.fault, Formed: g.formed,
	}
	if g.log != nil {
		s.Last = g.log.last.Index
	}
	if g.node == nil {
		return s
	}
	s.Commit = g.commit()
	s.Leader = g.members[g.leader].UUID
	s.Role = g.roleOf(m, g.self)
	if g.leading() {
		s.Mode = m.mode(g)
		if len(g.feeders) > 0 {
			s.Feed = g.feed.state.String()
		}
		for _, f := range g.feeders { // two while one replaces another
			s.Refusal = max(s.Refusal, f.refusal)
			s.Unanswered = max(s.Unanswered, f.unanswered(m.now))
		}
	}
	for _, mem := range g.members {
		s.Members = append(s.Members, MemberStatus{Member: mem, Role: g.roleOf(m, mem.Replica), Match: g.match(mem.Replica)})
	}
	slices.SortFunc(s.Members, func(a, b MemberStatus) int { return int(a.Replica) - int(b.Replica) })
	return s
}

// mode is R20.
func (m *Machine) mode(g *group) Mode {
	if m.sync(g) {
		return ModeSync
	}
	answering := true
	for _, r := range g.dataVoters() {
		answering = answering && m.responsive(g, r)
	}
	if answering {
		return ModeSyncRecover
	}
	return ModeAsync
}

// roleOf is a member's role as this host sees it. A leader judges its members
// by what they acknowledged; a follower knows itself and its leader.
func (g *group) roleOf(m *Machine, r id.Replica) Role {
	mem := g.members[r]
	switch {
	case g.fault != nil || !g.formed:
		return RoleOffline
	case r == g.leader && (r != g.self || g.ready()):
		return RoleMaster
	case mem.Witness:
		if l := m.peer(mem.UUID); l.heard && m.now-l.heardAt <= 2*m.conf.PulseEvery {
			return RoleSlave
		}
		return RoleOffline
	case r == g.self:
		if g.role != raft.StateFollower || g.leader == 0 || mem.Learner || g.log.durable < g.commitOld {
			return RoleUnsynced
		}
		return RoleSlave
	case !g.leading():
		if l := m.peer(mem.UUID); l.heard && m.now-l.heardAt <= m.conf.SilentAfter {
			return RoleSlave
		}
		return RoleOffline
	case !m.responsive(g, r):
		return RoleOffline
	case mem.Learner || g.match(r) < g.commitOld:
		return RoleUnsynced
	}
	return RoleSlave
}
