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

// View is what is quickly said about one group: a part of its Status.
type View struct {
	Term   id.Term
	Leader id.UUID // zero: none known
	Feed   string  // as in Status
	Formed bool
}

// View returns one group as this host sees it, and whether it is here.
func (m *Machine) View(gid id.Group) (View, bool) {
	g := m.groups[gid]
	if g == nil {
		return View{}, false
	}
	return g.view(), true
}

func (g *group) view() View {
	v := View{Term: g.term, Formed: g.formed}
	if g.node != nil {
		v.Leader = g.members[g.leader].UUID
	}
	if g.leading() && len(g.feeders) > 0 {
		v.Feed = g.feed.state.String()
	}
	return v
}

func (m *Machine) status(g *group) Status {
	v := g.view()
	s := Status{
		Group: g.id, Self: g.self, Term: v.Term, Leader: v.Leader, Feed: v.Feed, Formed: v.Formed,
		Applied: g.appliedIndex, Faulty: g.fault,
	}
	if g.log != nil {
		s.Last = g.log.last.Index
	}
	if g.node == nil {
		return s
	}
	s.Commit = g.commit()
	s.Role = g.roleOf(m, g.self)
	if g.leading() {
		s.Mode = m.mode(g)
		for _, f := range g.feeders { // two while one replaces another
			s.Refusal = max(s.Refusal, f.refusal)
			s.Unanswered = max(s.Unanswered, f.unanswered(m.now))
		}
	}
	s.Members = make([]MemberStatus, 0, len(g.members))
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
