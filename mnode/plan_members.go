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
// that is enrolled (R39), a leader that stays (R21).
func (p *planner) members(g Group) {
	line, host, led := p.f.leader(p.now, p.v, g)
	if !led {
		p.headless(g)
		return
	}
	t := p.target(g)
	if p.record(g, line) || p.takeBack(g, line, host, t) || p.clear(g) || p.fill(g, t) {
		return
	}
	want, ready := p.voters(g, line, host, t)
	if !ready {
		return
	}
	change, differs := difference(line, want)
	switch {
	case !differs && len(want)%2 == 1:
		p.unneeded(g, line)
	case !differs:
	case !p.carried(want):
		p.task(g, "change members", "too few of the members that vote then answer now")
	default:
		p.task(g, "change members", "")
		p.do(Change{Group: g.ID, Leader: host.UUID, Change: change})
	}
}

// unneeded strikes out an arbitrator that was to join a group which is odd now,
// and stays so.
func (p *planner) unneeded(g Group, line GroupReport) {
	if slices.ContainsFunc(g.Data(), func(m Member) bool { return m.Joining || p.v.departs(m) }) {
		return
	}
	for _, m := range g.Members {
		if _, known := line.member(m.Replica); !m.Witness || !m.Joining || known {
			continue
		}
		if !p.calm(g) || !p.retired(g, m) {
			p.task(g, "remove replica", "the arbitrator %s is to forget it", p.v.at(m.UUID))
			return
		}
		p.do(Decide{ForgetMember{Group: g.ID, Replica: m.Replica}})
	}
}

// calm reports whether no change of a group can be under way any more that this
// master has asked for, or the last one.
func (p *planner) calm(g Group) bool {
	return p.now.Sub(p.f.Began) > actionTimeout && p.now.Sub(p.f.Changing[g.ID]) > actionTimeout
}

// carried reports whether a majority of voters answers: a change that these
// could not end would stop the group.
func (p *planner) carried(want []Member) bool {
	n := 0
	for _, m := range want {
		if m.Witness && p.now.Sub(p.f.AnswersAt) <= quietIntervals*p.f.Interval || !m.Witness && p.answers(m) {
			n++
		}
	}
	return n > len(want)/2
}

// headless says what becomes of a group that has work to do and no master.
func (p *planner) headless(g Group) {
	data := g.Data()
	switch {
	case !slices.ContainsFunc(data, func(m Member) bool { return !m.Joining && !p.v.gone(m) }):
		p.task(g, "change members", "every replica of vgroup %d was in a directory that is gone: DROP DATABASE %s", g.ID, g.Database)
	case slices.ContainsFunc(g.Members, func(m Member) bool { return m.Joining || m.Leaving || p.v.departs(m) }):
		p.task(g, "change members", "group %d has no master", g.ID)
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
	for _, m := range g.Members {
		if m.Leaving && slices.Contains(voters, m.Replica) {
			return false // older than the record: look again later
		}
	}
	// One that was taken back and came to vote all the same is removed again.
	voters = slices.DeleteFunc(voters, func(r id.Replica) bool {
		return !slices.ContainsFunc(g.Members, func(m Member) bool { return m.Replica == r })
	})
	slices.Sort(noted)
	slices.Sort(voters)
	if slices.Equal(noted, voters) || len(voters) == 0 {
		return false
	}
	p.do(Decide{SetVoters{Group: g.ID, Voters: voters}})
	return true
}

// takeBack strikes out a member that was to join and is not wanted any more:
// its dnode is being dropped or has lost its directory again, the arbitrator is
// another one, or the database has been given fewer replicas. It waits until no
// change can be under way any more, asked for by this master or the last one,
// that makes it a voter.
func (p *planner) takeBack(g Group, line GroupReport, leader Dnode, t int) bool {
	extra := len(p.staying(g)) - t
	for i := len(g.Members) - 1; i >= 0; i-- { // the newest first
		m := g.Members[i]
		switch {
		case !m.Joining:
			continue
		case m.Witness && m.UUID != p.v.Arbitrator.UUID, p.v.departs(m):
		case !m.Witness && extra > 0 && g.ID != id.Mnode:
		default:
			continue
		}
		if !p.calm(g) {
			p.task(g, "remove replica", "replica %d was to join and is taken back in a moment", m.Replica)
			return true
		}
		if _, known := line.member(m.Replica); known {
			p.do(Change{Group: g.ID, Leader: leader.UUID, Change: consensus.Change{Remove: []id.Replica{m.Replica}}})
		} else if !m.Witness || p.retired(g, m) {
			p.do(Decide{ForgetMember{Group: g.ID, Replica: m.Replica}})
		}
		return true
	}
	return false
}

// clear strikes out former members, once every data replica that stays has
// applied the change that removed them (R24). It reports whether the rest has to
// wait. That an arbitrator can't be told holds up nothing: nobody asks it for that
// replica any more.
func (p *planner) clear(g Group) bool {
	for _, m := range g.Members {
		if !m.Leaving {
			continue
		}
		for _, other := range p.staying(g) {
			if !other.Joining && !p.appliedRemoval(g, other, m) {
				p.task(g, "remove replica", "dnode %d is to apply the change", other.Dnode)
				return true
			}
		}
		if m.Witness && !p.retired(g, m) {
			p.task(g, "remove replica", "the arbitrator %s is to forget it", p.v.at(m.UUID))
			continue
		}
		p.do(Decide{ForgetMember{Group: g.ID, Replica: m.Replica}})
		return true
	}
	return false
}

// appliedRemoval reports whether a member's configuration is without another
// one.
func (p *planner) appliedRemoval(g Group, at, removed Member) bool {
	r, ok := p.f.Fresh(p.now, at.Dnode)
	if !ok || r.UUID != at.UUID {
		return false
	}
	line, has := r.Group(g.ID)
	_, still := line.member(removed.Replica)
	return has && !still && len(line.Members) > 0
}

// difference returns the one joint change from the voters that Raft has to the
// ones that are wanted.
func difference(line GroupReport, want []Member) (consensus.Change, bool) {
	var c consensus.Change
	have := line.voters()
	for _, m := range want {
		if !slices.Contains(have, m.Replica) {
			c.AddVoter = append(c.AddVoter, consensus.Member{Replica: m.Replica, UUID: m.UUID, Witness: m.Witness})
		}
	}
	for _, r := range have {
		if !slices.ContainsFunc(want, func(m Member) bool { return m.Replica == r }) {
			c.Remove = append(c.Remove, r)
		}
	}
	return c, len(c.AddVoter)+len(c.Remove) > 0
}
