package mnode

import (
	"slices"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// members keeps the voters of a formed group as they should be: the data
// replicas of the record, and the arbitrator exactly while their number is even
// (R7). Everything that has to change changes in one joint step (R22), which
// waits until all of it is ready: a learner that has caught up (R23), a witness
// that is enrolled (R39).
func (p *planner) members(g Group) {
	line, host, led := p.f.leader(p.now, p.v, g)
	if !led {
		if slices.ContainsFunc(g.Members, func(m Member) bool { return m.Joining || m.Leaving }) {
			p.task(g, "change members", "group %d has no master", g.ID)
		}
		return
	}
	if p.record(g, line) || p.abandoned(g, line, host) || p.clear(g) {
		return
	}
	want, ready := p.wanted(g, line, host)
	if !ready {
		return
	}
	if change, differs := difference(g, line, want); differs {
		p.task(g, "change members", "")
		p.do(Change{Group: g.ID, Leader: host.UUID, Change: change})
	}
}

// record brings the View in line with the configuration that Raft has applied.
func (p *planner) record(g Group, line GroupReport) bool {
	voters := line.voters()
	var noted []id.Replica
	for _, m := range g.Members {
		if !m.Joining && !m.Leaving {
			noted = append(noted, m.Replica)
		}
	}
	slices.Sort(noted)
	slices.Sort(voters)
	if slices.Equal(noted, voters) || len(voters) == 0 {
		return false
	}
	for _, r := range voters { // a voter that the record does not know any more: look again later
		if !slices.ContainsFunc(g.Members, func(m Member) bool { return m.Replica == r && !m.Leaving }) {
			return false
		}
	}
	p.do(Decide{SetVoters{Group: g.ID, Voters: voters}})
	return true
}

// abandoned takes back a member that was to join and is not wanted any more:
// its dnode is being dropped, or the arbitrator was wiped meanwhile.
func (p *planner) abandoned(g Group, line GroupReport, leader Dnode) bool {
	for _, m := range g.Members {
		d, _ := p.v.Dnode(m.Dnode)
		gone := m.Witness && m.UUID != p.v.Arbitrator.UUID || !m.Witness && d.Dropping
		if !m.Joining || !gone {
			continue
		}
		if _, known := line.member(m.Replica); known {
			p.do(Change{Group: g.ID, Leader: leader.UUID, Change: consensus.Change{Remove: []id.Replica{m.Replica}}})
		} else {
			p.do(Decide{ForgetMember{Group: g.ID, Replica: m.Replica}})
		}
		return true
	}
	return false
}

// clear strikes out former members, once every remaining data replica has
// applied the change that removed them (R24).
func (p *planner) clear(g Group) bool {
	for _, m := range g.Members {
		if !m.Leaving {
			continue
		}
		for _, other := range g.Data() {
			r, ok := p.f.Fresh(p.now, other.Dnode)
			if !ok {
				p.task(g, "remove replica", "dnode %d is to apply the change", other.Dnode)
				return true
			}
			line, has := r.Group(g.ID)
			if _, still := line.member(m.Replica); !has || still || len(line.Members) == 0 {
				p.task(g, "remove replica", "dnode %d is to apply the change", other.Dnode)
				return true
			}
		}
		if m.Witness && !p.retired(g, m) {
			p.task(g, "remove replica", "the arbitrator %s is to forget it", p.v.Arbitrator.EndPoint)
			return true
		}
		p.do(Decide{ForgetMember{Group: g.ID, Replica: m.Replica}})
		return true
	}
	return false
}

// wanted returns the voters that the group should have now. It is not ready
// while a part of them is still on its way; whatever brings it nearer is
// already under way then.
func (p *planner) wanted(g Group, line GroupReport, leader Dnode) (want []Member, ready bool) {
	for _, m := range g.Data() {
		d, _ := p.v.Dnode(m.Dnode)
		switch {
		case !m.Joining && d.Dropping:
			if d.ID == leader.ID { // R21: never remove the leader
				p.task(g, "remove replica", "dnode %d leads group %d: hand it over first", d.ID, g.ID)
				want = append(want, m)
			}
		case !m.Joining, p.caughtUp(g, line, leader, m):
			want = append(want, m)
		}
	}
	if len(want)%2 == 1 || p.v.Arbitrator.EndPoint == "" {
		return want, len(want) > 0
	}
	w, ok := p.witness(g)
	return append(want, w), ok
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

// witness leads the arbitrator's membership to the point where it may vote. A
// wiped arbitrator gets a new replica id (R23, R29).
func (p *planner) witness(g Group) (Member, bool) {
	arb := p.v.Arbitrator
	if arb.UUID.IsZero() {
		p.task(g, "add arbitrator", "the arbitrator %s has never answered", arb.EndPoint)
		return Member{}, false
	}
	w, has := g.Witness()
	if !has || w.UUID != arb.UUID {
		p.do(Decide{AddMember{Group: g.ID, UUID: arb.UUID}})
		return Member{}, false
	}
	if e := (Enrolment{g.ID, w.Replica, w.UUID}); w.Joining && !p.f.Enrolled[e] {
		p.task(g, "add arbitrator", "the arbitrator %s is to confirm", arb.EndPoint)
		p.do(Enroll{Enrolment: e})
		return Member{}, false
	}
	return w, true
}

// difference returns the one joint change from the voters that Raft has to the
// ones that are wanted.
func difference(g Group, line GroupReport, want []Member) (consensus.Change, bool) {
	var c consensus.Change
	have := line.voters()
	for _, m := range want {
		if !slices.Contains(have, m.Replica) {
			c.AddVoter = append(c.AddVoter, consensus.Member{Replica: m.Replica, UUID: m.UUID, Witness: m.Witness})
		}
	}
	for _, r := range have {
		wanted := slices.ContainsFunc(want, func(m Member) bool { return m.Replica == r })
		known := slices.ContainsFunc(g.Members, func(m Member) bool { return m.Replica == r })
		if !wanted && known {
			c.Remove = append(c.Remove, r)
		}
	}
	return c, len(c.AddVoter)+len(c.Remove) > 0
}
