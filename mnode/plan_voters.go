package mnode

import (
	"cmp"
	"slices"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// staying returns the data members of a group that are not to leave it, those
// that join included.
func (p *planner) staying(g Group) []Member {
	return slices.DeleteFunc(g.Data(), p.v.departs)
}

// target is how many data replicas a group should have now. The mnode's own has
// as many as are wanted and there are hosts for.
func (p *planner) target(g Group) int {
	if g.ID != id.Mnode {
		return p.v.wanted(g)
	}
	room := len(p.staying(g))
	for _, d := range p.v.Live() {
		if p.free(g, d) || p.again(g, d) {
			room++
		}
	}
	return min(max(p.f.NumOfMnodes, len(p.staying(g))), room)
}

// free reports whether a dnode may be given a replica of g now.
func (p *planner) free(g Group, d Dnode) bool {
	taken := slices.ContainsFunc(g.Members, func(m Member) bool { return m.Dnode == d.ID && !p.v.gone(m) })
	return !taken && p.f.usable(p.now, d)
}

// again reports whether a dnode has lost its replica of g, and is to get another
// that it has no membership for yet.
func (p *planner) again(g Group, d Dnode) bool {
	lost := false
	for _, m := range g.Members {
		switch {
		case m.Witness || m.Dnode != d.ID:
		case !p.v.gone(m):
			return false
		case !m.Leaving:
			lost = true
		}
	}
	return lost && !d.Dropping
}

// fill gives a group that has too few replicas another member, one at a time:
// on the dnode that has lost one, or else on the one that holds least.
func (p *planner) fill(g Group, t int) bool {
	if len(p.staying(g)) >= t {
		return false
	}
	var best *Dnode
	for _, d := range p.v.Live() {
		again := p.again(g, d)
		if again && !p.free(g, d) {
			p.task(g, "add replica", "dnode %d is to report", d.ID)
			return false // it has just been let in
		}
		if p.free(g, d) && (best == nil || again || p.load[d.ID] < p.load[best.ID]) {
			best = &d
		}
		if again {
			break
		}
	}
	if best == nil {
		p.task(g, "add replica", "no dnode has room for another replica of group %d", g.ID)
		return false
	}
	p.load[best.ID]++
	p.do(Decide{AddMember{Group: g.ID, Dnode: best.ID, UUID: best.UUID, As: g.NextReplica}})
	return true
}

// voters returns who should vote in the group now. It is not ready while a part
// of them is still on its way; whatever brings it nearer is already under way
// then.
func (p *planner) voters(g Group, line GroupReport, leader Dnode, t int) (want []Member, ready bool) {
	keep, leave := p.sort(g, line, leader, t)
	// Whoever leaves stays until as many as are wanted have taken over (R23).
	n := min(max(t-len(keep), 0), len(leave))
	keep, leave = append(keep, leave[:n]...), leave[n:]
	led := func(m Member) bool { return m.UUID == leader.UUID }
	if i := slices.IndexFunc(leave, led); i >= 0 { // R21: never remove the leader
		if to, ok := p.heir(keep, line); ok {
			p.task(g, "remove replica", "dnode %d is to hand group %d over", leader.ID, g.ID)
			p.do(Transfer{Group: g.ID, Leader: leader.UUID, To: to.Replica})
			return nil, false
		}
		keep = append(keep, leave[i])
	}
	if len(keep)%2 == 1 || p.v.Arbitrator.EndPoint == "" {
		return keep, len(keep) > 0
	}
	w, ok := p.witness(g)
	return append(keep, w), ok
}

// sort parts a group's data members into those that should vote, and voters
// that may leave: those whose dnode goes or has lost its directory, the leader
// and those that answer first, and behind them what is more than wanted. A
// member that joins is among neither until it has caught up.
func (p *planner) sort(g Group, line GroupReport, leader Dnode, t int) (keep, leave []Member) {
	var joined []Member
	for _, m := range g.Data() {
		switch {
		case m.Joining && p.v.departs(m):
		case m.Joining:
			if p.caughtUp(g, line, leader, m) {
				joined = append(joined, m)
			}
		case p.v.departs(m):
			leave = append(leave, m)
		default:
			keep = append(keep, m)
		}
	}
	slices.SortStableFunc(leave, func(a, b Member) int {
		return cmp.Or(-compare(a.UUID == leader.UUID, b.UUID == leader.UUID), -compare(p.answers(a), p.answers(b)))
	})
	if g.ID != id.Mnode {
		for len(keep)+len(joined) > t && len(keep) > 1 {
			i := p.surplus(keep, line, leader)
			p.load[keep[i].Dnode]--
			leave = append(leave, keep[i])
			keep = slices.Delete(keep, i, i+1)
		}
	}
	return append(keep, joined...), leave
}

// surplus picks the voter that a group needs least: one that does not answer or
// lags, else one on the dnode that holds most, rather not the leader.
func (p *planner) surplus(list []Member, line GroupReport, leader Dnode) int {
	best := 0
	for i := range list {
		a, b := list[i], list[best]
		if cmp.Or(
			compare(p.answers(a), p.answers(b)),
			compare(inSync(line, a), inSync(line, b)),
			cmp.Compare(p.load[b.Dnode], p.load[a.Dnode]),
			compare(a.UUID == leader.UUID, b.UUID == leader.UUID),
			cmp.Compare(b.Replica, a.Replica),
		) < 0 {
			best = i
		}
	}
	return best
}

// compare orders false before true.
func compare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (p *planner) answers(m Member) bool {
	r, ok := p.f.Fresh(p.now, m.Dnode)
	return ok && r.UUID == m.UUID
}

// inSync reports whether the leader sees a member answer and hold everything.
func inSync(line GroupReport, m Member) bool {
	s, ok := line.member(m.Replica)
	return ok && !s.Learner && (s.Role == consensus.RoleSlave || s.Role == consensus.RoleMaster)
}

// heir picks the voter that may take a group over.
func (p *planner) heir(keep []Member, line GroupReport) (Member, bool) {
	i := slices.IndexFunc(keep, func(m Member) bool { return inSync(line, m) && p.answers(m) })
	if i < 0 {
		return Member{}, false
	}
	return keep[i], true
}

// caughtUp leads a joining data replica to the point where it may vote.
func (p *planner) caughtUp(g Group, line GroupReport, leader Dnode, m Member) bool {
	status, known := line.member(m.Replica)
	switch {
	case !p.confirmed(g, m):
		p.task(g, "add replica", "dnode %d is to create its replica", m.Dnode)
	case !known:
		learner := consensus.Member{Replica: m.Replica, UUID: m.UUID, Learner: true}
		p.task(g, "add replica", "dnode %d is to become a learner", m.Dnode)
		p.do(Change{Group: g.ID, Leader: leader.UUID, Change: consensus.Change{AddLearner: []consensus.Member{learner}}})
	case status.Match+caughtUpEntries < line.Last || status.Match == 0:
		p.task(g, "add replica", "dnode %d has %d of %d entries", m.Dnode, status.Match, line.Last)
	default:
		return true
	}
	return false
}
