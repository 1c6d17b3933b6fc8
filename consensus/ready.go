package consensus

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// drain takes everything that the Raft library has ready and turns it into
// effects.
func (m *Machine) drain(g *group) {
	for g.node.HasReady() {
		rd := g.node.Ready()
		if rd.SoftState != nil {
			m.softChanged(g, *rd.SoftState)
		}
		for _, msg := range rd.Messages {
			switch msg.GetTo() {
			case raft.LocalAppendThread:
				m.append(g, msg)
			case raft.LocalApplyThread:
				m.apply(g, msg)
			default:
				m.route(g, msg)
			}
		}
		m.readsConfirmed(g, rd.ReadStates)
	}
}

// append hands entries and hard state to the log. What waits for their
// durability, here or elsewhere, waits in disk (R4).
func (m *Machine) append(g *group, msg *raftpb.Message) {
	hard := g.log.hard
	if msg.Term != nil || msg.Vote != nil || msg.Commit != nil {
		hard = wal.HardState{
			Term: id.Term(msg.GetTerm()), Vote: id.Replica(msg.GetVote()), Commit: id.Index(msg.GetCommit()),
		}
	}
	if s := msg.GetSnapshot(); !raft.IsEmptySnap(s) {
		m.name(g, hard, s)
		g.log.hard = hard
	}
	voted := hard.Term != g.log.hard.Term || hard.Vote != g.log.hard.Vote
	if voted || len(msg.GetEntries()) > 0 {
		op := wal.Op{Entries: walEntries(msg.GetEntries())}
		if hard != g.log.hard || g.lazy.hard != nil {
			op.Hard, g.lazy.hard = &hard, nil
		}
		m.write(g, op)
		g.log.append(g.writeSeq, msg.GetEntries())
		m.noteTermStart(g, msg.GetEntries())
	} else if hard != g.log.hard {
		g.lazy.hard = &hard
		m.writeLazily(g)
	}
	if hard.Term != g.term {
		g.term = hard.Term
	}
	g.log.hard = hard
	switch {
	case len(msg.GetResponses()) == 0:
	case m.disk.pending(g.writeSeq, m.seq):
		m.disk.when(g.writeSeq, m.now, g, msg.GetResponses())
	default:
		m.deliver(g, msg.GetResponses())
	}
}

func walEntries(es []*raftpb.Entry) []wal.Entry {
	if len(es) == 0 {
		return nil
	}
	out := make([]wal.Entry, len(es))
	for i, e := range es {
		out[i] = walEntry(e)
	}
	return out
}

// noteTermStart finds the entry with which a new leader starts its term.
func (m *Machine) noteTermStart(g *group, es []*raftpb.Entry) {
	if n := len(es); n > 0 && g.leading() {
		g.lastIndex = id.Index(es[n-1].GetIndex())
		for _, e := range es {
			if g.termStart == 0 && id.Term(e.GetTerm()) == g.hardTerm() {
				g.termStart = id.Index(e.GetIndex())
			}
		}
	}
}

// hardTerm is the Raft library's own term, which may be ahead of what was
// handed to the log.
func (g *group) hardTerm() id.Term { return id.Term(g.node.BasicStatus().GetTerm()) }

// apply hands committed entries to the state machine, and takes membership
// changes itself.
func (m *Machine) apply(g *group, msg *raftpb.Message) {
	es := msg.GetEntries()
	last := id.Index(es[len(es)-1].GetIndex())
	data := make([]Entry, 0, len(es))
	for _, e := range es {
		switch e.GetType() {
		case raftpb.EntryConfChange, raftpb.EntryConfChangeV2:
			m.applyConf(g, e)
		default:
			if len(e.GetData()) > 0 {
				if g.change != nil && id.Term(e.GetTerm()) == g.term {
					m.wrote(g)
				}
				data = append(data, Entry{Index: id.Index(e.GetIndex()), Term: id.Term(e.GetTerm()), Data: e.GetData()})
			}
		}
	}
	g.applying = append(g.applying, applying{last: last, msgs: msg.GetResponses()})
	m.committed(g, last)
	m.out.applies = append(m.out.applies, Apply{Group: g.id, Entries: data, Index: last})
}

// committed lets go of what waited for commitment up to i.
func (m *Machine) committed(g *group, i id.Index) {
	n := 0
	for n < len(g.proposed) && g.proposed[n].last <= i {
		m.uncommitted -= g.proposed[n].bytes
		n++
	}
	g.proposed = g.proposed[n:]
}

// release gives back what g counts against the host's bound.
func (m *Machine) release(g *group) {
	for _, p := range g.proposed {
		m.uncommitted -= p.bytes
	}
	g.proposed = nil
}

// applied notes what the state machine has done.
func (m *Machine) applied(g *group, i id.Index) {
	n := 0
	for n < len(g.applying) && g.applying[n].last <= i {
		for _, msg := range g.applying[n].msgs {
			_ = g.node.Step(msg)
		}
		n++
	}
	g.applying = g.applying[n:]
	g.appliedIndex = max(g.appliedIndex, i)
	m.installed(g, i)
	m.announce(g)
}

// softChanged notes a change of role or leader.
func (m *Machine) softChanged(g *group, s raft.SoftState) {
	wasLeading := g.leading()
	lead := id.Replica(s.Lead)
	m.succeed(g, lead, s.RaftState)
	if lead != g.leader {
		g.changedAt = m.now
	}
	g.role, g.leader, g.term = s.RaftState, lead, g.hardTerm()
	switch {
	case g.leading() && !wasLeading:
		m.elected(g)
	case !g.leading() && wasLeading:
		m.deposed(g)
	}
	m.announce(g)
}

// elected starts what a leader keeps. Replicas count as responsive for D_open if
// anything came from them within D_open before; others don't (R15).
func (m *Machine) elected(g *group) {
	g.leadership = leadership{
		feed: newFeed(m.conf, m.now), lastIndex: g.log.last.Index,
		heard: map[id.Replica]time.Duration{}, notReady: map[id.Replica]time.Duration{}, progress: map[id.Replica]tracker.Progress{},
	}
	for r, mem := range g.members {
		if l := m.peer(mem.UUID); l.heard && m.now-l.heardAt <= m.conf.SilentAfter {
			g.heard[r] = m.now
		} else {
			g.heard[r] = m.now - 2*m.conf.SilentAfter
		}
	}
	g.equipFeeders()
	m.succeeded(g)
	m.out.report(g.id, false, "leads now", "term", g.term)
}

// deposed refuses what a leader had promised to answer.
func (m *Machine) deposed(g *group) {
	m.lost(g)
	m.release(g)
	g.leadership = leadership{}
	m.refuseAll(g, &NotLeaderError{Group: g.id, Leader: g.members[g.leader].UUID})
	m.out.report(g.id, false, "leads no more", "term", g.term)
}

// announce tells the state machine who leads, when that has changed.
func (m *Machine) announce(g *group) {
	now := announcement{term: g.term, who: g.leader, leader: g.ready()}
	if g.leader == g.self && !now.leader {
		now.who = 0 // elected, but not ready to serve yet
	}
	if now == g.announced {
		return
	}
	g.announced = now
	m.out.leaders = append(m.out.leaders, LeaderChange{
		Group: g.id, Term: now.term, Leader: g.members[now.who].UUID, Self: now.leader,
	})
}
