package consensus

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// moves remembers when R44 last moved a group, and how long it must be calm
// before the next time.
type moves struct {
	at   time.Duration
	calm time.Duration
}

const (
	movesPerSecond = 50               // R44
	maxCalm        = 60 * time.Second // R44
	hungLately     = 30 * time.Second // R43(5)
)

// collocate moves leadership of g to the host that leads the mnode, so that with
// two data hosts a cut between them leaves one host with everything (R44).
func (m *Machine) collocate(g *group) {
	mn := m.groups[id.Mnode]
	if g.id == id.Mnode || mn == nil || mn.leader == 0 || mn.leading() || !g.ready() || m.stopping {
		return
	}
	host := mn.members[mn.leader].UUID
	voters := g.dataVoters()
	at := slices.IndexFunc(voters, func(r id.Replica) bool { return g.members[r].UUID == host })
	if len(voters) != 2 || at < 0 || m.moves >= movesPerSecond {
		return
	}
	to, calm := voters[at], max(g.moves.calm, m.conf.CalmFor)
	safe := m.sync(g) && g.match(to) == g.lastIndex && m.now-m.peer(host).hungAt >= hungLately
	if !safe || m.now-max(g.changedAt, mn.changedAt) < calm {
		return
	}
	if g.moves.at > 0 && m.now-g.moves.at < reopenWindow {
		g.moves.calm = min(2*calm, maxCalm)
	} else {
		g.moves.calm = m.conf.CalmFor
	}
	g.moves.at = m.now
	m.moves++
	m.out.report(g.id, false, "leadership follows the mnode", "to", host.Short())
	m.transfer(g, to, CauseMoved)
}

// heir is the data voter of the incoming configuration that can take over
// soonest, zero if nobody answers.
func (m *Machine) heir(g *group) id.Replica {
	var best id.Replica
	for _, r := range g.voters[0] {
		if r == g.self || g.members[r].Witness || !m.responsive(g, r) || g.progress[r].State == tracker.StateSnapshot || m.refusedLately(g, r) {
			continue
		}
		if best == 0 || g.match(r) > g.match(best) {
			best = r
		}
	}
	return best
}

// diskSpace notes whether entries find room on the disk. A leader without room
// refuses every write, so it gives way to a host that may have some.
func (m *Machine) diskSpace(full bool) {
	was := m.full
	m.full = full
	if full && !was {
		m.yieldAt = m.now
		m.yield()
	}
}

// yieldEvery keeps two hosts that are both full from passing their groups back
// and forth: each move costs the readers an election.
const yieldEvery = 30 * time.Second

// yield offers the groups that a full host leads to whoever answers, unless
// they could not commit without this host: it takes no entries from others.
func (m *Machine) yield() {
	if !m.stopping && m.now >= m.yieldAt && m.handOver(m.othersCommit, CauseDiskFull) {
		m.yieldAt = m.now + yieldEvery
	}
}

// othersCommit reports whether the members of g that answer are enough without
// this host, the arbitrator among them.
func (m *Machine) othersCommit(g *group) bool {
	for _, half := range g.voters {
		n := 0
		for _, r := range half {
			l := m.peer(g.members[r].UUID)
			witness := g.members[r].Witness && l.heard && !l.refused && m.now-l.heardAt < 2*m.conf.PulseEvery
			if r != g.self && (witness || !g.members[r].Witness && m.responsive(g, r)) {
				n++
			}
		}
		if len(half) > 0 && n <= len(half)/2 {
			return false
		}
	}
	return true
}

// anyGroup leaves no group out.
func anyGroup(*group) bool { return true }

// handOver gives away every group that this host leads (R33) and that may go. It
// reports whether there was one with somebody to take it.
func (m *Machine) handOver(may func(*group) bool, why Cause) (moved bool) {
	for _, g := range m.sorted() {
		if g.fault != nil || !g.leading() || g.handsOver() || !may(g) {
			continue
		}
		m.guard(g, func() {
			if to := m.heir(g); to != 0 {
				m.transfer(g, to, why)
				moved = true
			}
		})
	}
	return moved
}

// transfer hands a group over, and remembers why.
func (m *Machine) transfer(g *group, to id.Replica, why Cause) {
	g.giving = giving{why: why, at: m.now}
	g.node.TransferLeader(uint64(to))
	m.touch(g)
}

// handsOver reports whether a hand-over is under way.
func (g *group) handsOver() bool { return g.node.BasicStatus().LeadTransferee != raft.None }

// maxBehind is how many committed entries a replica may have to apply when it is
// handed the lead: a few milliseconds of work (R33 wants less than 100 ms in all).
const maxBehind = 1024

// servesSoon reports whether this replica could serve at once if it led.
func (g *group) servesSoon() bool {
	return !g.takesCopy() && g.commit() <= g.appliedIndex+maxBehind
}

// askAgain is how long a replica that was not ready is left in peace.
const askAgain = 200 * time.Millisecond

// unready takes a hand-over back, because the other replica would lead without
// serving. Until then the library has refused proposals.
func (m *Machine) unready(g *group, msg *peer.Message) {
	if !g.leading() || msg.Term != g.term || g.node.BasicStatus().LeadTransferee != uint64(msg.From) {
		return
	}
	g.node.TransferLeader(uint64(g.self)) // takes it back
	g.notReady[msg.From] = m.now
	if g.giving.why == CauseDiskFull {
		m.yieldAt = m.now + askAgain
	}
	g.giving = giving{}
	m.out.report(g.id, false, "hand-over refused, the other replica is not ready", "to", g.members[msg.From].UUID.Short())
}

func (m *Machine) refusedLately(g *group, r id.Replica) bool {
	at, refused := g.notReady[r]
	return refused && m.now-at < askAgain
}
