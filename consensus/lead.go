package consensus

import (
	"math"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

func in(list []id.Replica, r id.Replica) bool { return slices.Contains(list, r) }

// lead does what a leader does whenever it may have made progress: it looks at
// its members, moves the feed, feeds the witnesses and ends joint changes.
func (m *Machine) lead(g *group) {
	if !g.leading() {
		return
	}
	g.node.WithProgress(func(r uint64, _ raft.ProgressType, p tracker.Progress) {
		g.progress[id.Replica(r)] = p
	})
	commit, n := g.commit(), 0
	for n < len(g.waiting) && g.waiting[n].last <= commit {
		n++
	}
	g.waiting = g.waiting[n:]
	if len(g.feeders) > 0 {
		was := g.feed.state
		if now := g.feed.step(m.conf, m.look(g, commit)); now != was {
			m.out.report(g.id, false, "feed changed", "from", was.String(), "to", now.String(), "index", commit)
		}
		m.feedWitnesses(g)
	}
	m.endJoint(g)
}

// look gathers what the feed decides on.
func (m *Machine) look(g *group, commit id.Index) sight {
	told := g.told()
	held, answering := m.heldByQuorum(g)
	caughtUp := answering && held >= commit
	return sight{
		now:       m.now,
		answering: answering,
		stalled:   len(g.waiting) > 0 && m.now-g.waiting[0].since >= m.conf.StallAfter-m.conf.Tick,
		keepsUp:   caughtUp || answering && held >= g.commitOld,
		caughtUp:  caughtUp,
		drained:   caughtUp && commit >= told && held >= told,
	}
}

// heldByQuorum returns up to where the data voters that answer hold the log on a
// majority of every half of the configuration, witnesses counted as absent
// (R16); and whether so many answer at all.
func (m *Machine) heldByQuorum(g *group) (held id.Index, answering bool) {
	held = math.MaxUint64
	for _, half := range g.voters {
		if len(half) == 0 {
			continue
		}
		var room [8]id.Index
		ends := room[:0]
		for _, r := range half {
			if !g.members[r].Witness && m.responsive(g, r) {
				ends = append(ends, g.match(r))
			}
		}
		majority := len(half)/2 + 1
		if len(ends) < majority {
			return 0, false
		}
		slices.Sort(ends)
		held = min(held, ends[len(ends)-majority])
	}
	return held, true
}

// quorum reports whether the data voters for which ok holds are a majority of
// every half of the configuration, witnesses counted as absent (R16).
func (g *group) quorum(ok func(id.Replica) bool) bool {
	for _, half := range g.voters {
		n := 0
		for _, r := range half {
			if !g.members[r].Witness && ok(r) {
				n++
			}
		}
		if len(half) > 0 && n <= len(half)/2 {
			return false
		}
	}
	return true
}

// responsive reports whether a data replica has answered this leader in this
// term within D_open, its process is not known to be gone, and its disk not
// known to hang (R15, R43(4)). The machine looks once a tick, so it counts one
// tick less: a write never waits longer than D_open for a silent replica.
func (m *Machine) responsive(g *group, r id.Replica) bool {
	if r == g.self {
		return true
	}
	l := m.peer(g.members[r].UUID)
	return !l.refused && !l.hung && m.now-g.heard[r] <= m.conf.SilentAfter-m.conf.Tick
}

// sync reports whether every acknowledged write of g is on all data voters.
func (m *Machine) sync(g *group) bool {
	if len(g.feeders) > 0 {
		return g.feed.state == feedShut
	}
	commit := g.commit()
	for _, r := range g.dataVoters() {
		if !m.responsive(g, r) || g.match(r) < commit {
			return false
		}
	}
	return true
}

// goodbye tells every other data host that this one stops now (R32).
func (m *Machine) goodbye() {
	for _, g := range m.sorted() {
		for _, r := range g.dataVoters() {
			if r == g.self {
				continue
			}
			to := g.members[r].UUID
			said := slices.ContainsFunc(m.out.sends, func(s Send) bool {
				return s.To == to && s.Messages[len(s.Messages)-1].Kind == peer.KindGoodbye
			})
			if !said {
				m.out.send(to, peer.Beats, peer.Message{Kind: peer.KindGoodbye})
			}
		}
	}
}

// linkChanged handles what the carrier knows about a peer's process.
func (m *Machine) linkChanged(e Link) {
	switch e.State {
	case LinkUp:
		l := m.peer(e.Peer)
		l.refused, l.goodbye = false, false
		m.resumeEnrolments(e.Peer)
	case LinkRefused:
		m.gone(e.Peer, CauseKilled)
	}
}

// gone handles a host whose process is known to have ended: nobody needs to
// wait for its silence. Of several hosts that could take over, the one with the
// lowest replica id does, at once; the others forget their leader, so that they
// may vote (R32). A host's campaigns share frames and one sync, so they need no
// bound.
func (m *Machine) gone(u id.UUID, cause Cause) {
	l := m.peer(u)
	l.refused, l.goodbye = true, l.goodbye || cause == CauseStopped
	m.proven(u, cause)
	for _, g := range m.sorted() {
		if g.fault != nil || !g.formed {
			continue
		}
		m.touch(g)
		if g.leader == 0 || g.members[g.leader].UUID != u || !g.canLead() {
			continue
		}
		m.guard(g, func() {
			if g.firstAlive(m) == g.self {
				_ = g.node.Campaign()
			} else {
				_ = g.node.ForgetLeader()
			}
		})
	}
}

func (g *group) firstAlive(m *Machine) id.Replica {
	for _, r := range g.dataVoters() {
		if r == g.self || !m.peer(g.members[r].UUID).refused {
			return r
		}
	}
	return g.self
}

// sample does what is needed once a second: roles look back one second, members
// learn how far the log may go, and those that are offered a copy are offered it
// again.
func (m *Machine) sample(g *group) {
	g.commitOld = g.commitNow
	if !g.leading() {
		return
	}
	g.commitNow = g.commit()
	m.offerAgain(g)
	m.unpinDone(g)
	held := m.spare(g)
	if held <= g.held {
		return
	}
	g.held = held
	m.cut(g)
	for _, r := range g.dataMembers() {
		if r != g.self {
			m.out.send(g.members[r].UUID, peer.Beats, peer.Message{
				Kind: peer.KindHeld, Group: g.id, From: g.self, To: r, Index: held,
			})
		}
	}
}

// endJoint ends a joint change as soon as it is applied. Only a leader that
// stays may do so; another hands over first (R21, R22).
func (m *Machine) endJoint(g *group) {
	if len(g.voters[1]) == 0 || g.appliedIndex < g.confIndex || m.stopping || !g.ready() {
		return
	}
	if !in(g.voters[0], g.self) {
		if to := m.heir(g); to != 0 && !g.handsOver() {
			m.transfer(g, to, CauseMembers)
		}
		return
	}
	if g.leaveAt > g.appliedIndex {
		return // proposed, not applied yet
	}
	m.drain(g)
	if g.leading() && g.node.ProposeConfChange(&raftpb.ConfChangeV2{}) == nil {
		g.lastIndex++
		g.leaveAt = g.lastIndex
		m.touch(g)
	}
}
