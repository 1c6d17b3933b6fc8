package consensus

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// feeder tells one witness about one group's log, on the leader (R9 to R13). It
// replaces the Raft library's own appends to the witness: those would read and
// send everything since the feed was last open, this is one message that says
// the same at any lag.
//
// Invariant: sent is never above what was durable on this host when it was sent
// (R10), nor above the cap of a leader that is on its way out (R10b).
type feeder struct {
	to Member

	match id.Index // the witness has acknowledged everything up to here
	sent  id.Index // highest entry it may have heard of
	// rebase: it has rejected a feed, the next starts at the commit index (R13).
	rebase bool

	seq      uint64           // of the newest feed
	inflight bool             // it is not answered
	asked    time.Duration    // since when the witness owes an answer, while inflight
	sentAt   [8]time.Duration // of the newest feeds, at seq modulo 8
	answer   time.Duration    // smoothed answer time
	repeats  int              // sent again without any answer since

	refusal peer.Refusal // why it gives no answers; zero: it does
}

// resendAfter is how long a feed may stay unanswered (R12). It doubles with every
// repetition, so that a witness that has become slow is not flooded before its
// first answer tells how slow.
func (f *feeder) resendAfter() time.Duration {
	return min((20*time.Millisecond+2*f.answer)<<min(f.repeats, 6), longestResend)
}

const longestResend = time.Second

// unanswered is how long the witness has left a feed without any answer that it
// should have given. A refusal is one.
func (f *feeder) unanswered(now time.Duration) time.Duration {
	if !f.inflight || f.refusal != 0 || f.match >= f.sent {
		return 0
	}
	return now - f.asked
}

// measured takes the answer to feed seq into account, also if a newer one is
// out: a slow witness answers those first.
func (f *feeder) measured(seq uint64, now time.Duration) {
	if seq <= f.seq && f.seq-seq < uint64(len(f.sentAt)) {
		f.answer += (now - f.sentAt[seq%uint64(len(f.sentAt))] - f.answer) / 4
		f.repeats = 0
	}
}

// equipFeeders makes a feeder for each witness of the configuration. What a
// witness may have heard from earlier leaders is not above this leader's log:
// it was durable on one of them, and whoever was elected held it (R10).
func (g *group) equipFeeders() {
	var fresh []*feeder
	for _, half := range g.voters {
		for _, r := range half {
			if mem := g.members[r]; mem.Witness && find(fresh, r) == nil {
				f := find(g.feeders, r)
				if f == nil {
					f = &feeder{to: mem, sent: g.lastIndex}
				}
				fresh = append(fresh, f)
			}
		}
	}
	g.feeders = fresh
}

func find(fs []*feeder, r id.Replica) *feeder {
	for _, f := range fs {
		if f.to.Replica == r {
			return f
		}
	}
	return nil
}

// told is the highest entry that any witness may have heard of.
func (g *group) told() id.Index {
	var t id.Index
	for _, f := range g.feeders {
		t = max(t, f.sent)
	}
	return t
}

// feedLimit is the last entry that a witness may hear of: durable here (R10) and,
// for a leader that the new configuration leaves out, durable on a data voter
// that stays (R10b).
func (g *group) feedLimit() id.Index {
	limit := g.log.durable
	if in(g.voters[0], g.self) {
		return limit
	}
	var stays id.Index
	for _, r := range g.voters[0] {
		if !g.members[r].Witness {
			stays = max(stays, g.match(r))
		}
	}
	return min(limit, stays)
}

// feedWitnesses sends what the state of the feed asks for.
func (m *Machine) feedWitnesses(g *group) {
	if g.feed.state != feedOpen {
		return
	}
	limit := g.feedLimit()
	for _, f := range g.feeders {
		due := f.match < limit || f.rebase
		if f.inflight {
			due = due && m.now-f.sentAt[f.seq%uint64(len(f.sentAt))] >= f.resendAfter()
		}
		if due {
			m.sendFeed(g, f, limit, false)
		}
	}
}

// sendFeed builds one feed (R11): from what the witness is known to hold, or may
// jump to, up to limit.
func (m *Machine) sendFeed(g *group, f *feeder, limit id.Index, pulse bool) {
	commit := g.commit()
	base := max(commit, f.match)
	if f.rebase || pulse {
		base = commit
	}
	base = min(base, limit)
	last := min(limit, base+peer.MaxFeedEntries)
	if pulse {
		last = base
	}
	baseTerm, err := g.log.term(base)
	if err != nil {
		return // the log was cut above it; the next commit moves the base
	}
	runs, err := g.runs(base, baseTerm, last)
	if err != nil {
		return
	}
	if f.inflight {
		f.repeats++
	} else {
		f.asked = m.now
	}
	f.seq++
	f.sentAt[f.seq%uint64(len(f.sentAt))] = m.now
	f.inflight, f.sent = true, max(f.sent, last)
	m.out.send(f.to.UUID, peer.Beats, peer.Message{
		Kind: peer.KindFeed, Group: g.id, From: g.self, To: f.to.Replica,
		Feed: &peer.Feed{
			Seq: f.seq, Term: g.term, Base: base, BaseTerm: baseTerm, BaseCommitted: base <= commit,
			Runs: runs, Last: last, Commit: min(commit, last), Lease: !pulse && !m.disk.hung,
		},
	})
}

// runs lists the terms of the entries above base, up to last.
func (g *group) runs(base id.Index, baseTerm id.Term, last id.Index) ([]peer.Run, error) {
	var runs []peer.Run
	term := id.Term(0)
	for i := base + 1; i <= last; i++ {
		t, err := g.log.term(i)
		if err != nil {
			return nil, err
		}
		if t != term {
			runs = append(runs, peer.Run{First: i, Term: t})
			term = t
		}
	}
	return runs, nil
}

// answered handles the witness's answer to a feed (R12, R13).
func (m *Machine) answered(g *group, from Member, a *peer.Answer) {
	if a.Term > g.hardTerm() {
		m.stepAppResp(g, from.Replica, a.Term, 0)
		return
	}
	f := find(g.feeders, from.Replica)
	if f == nil || !g.leading() || a.Term != g.term {
		return
	}
	f.refusal, f.asked = 0, m.now // a late answer is one, too
	newest := a.Seq == f.seq
	f.measured(a.Seq, m.now)
	f.inflight = f.inflight && !newest
	switch {
	case a.Reject && newest:
		f.match, f.rebase = 0, true
	case !a.Reject && a.Last <= f.sent:
		f.match = max(f.match, a.Last)
		f.rebase = f.rebase && !newest
		m.stepAppResp(g, from.Replica, a.Term, a.Last)
	}
}

// stepAppResp tells the library what the witness has acknowledged. It moves the
// witness's progress whatever state that is in.
func (m *Machine) stepAppResp(g *group, from id.Replica, term id.Term, index id.Index) {
	f, t, i, self := uint64(from), uint64(term), uint64(index), uint64(g.self)
	_ = g.node.Step(&raftpb.Message{
		Type: raftpb.MsgAppResp.Enum(), From: &f, To: &self, Term: &t, Index: &i,
	})
}

// toWitness passes what the library says to a witness, or swallows it (R6, R9).
func (m *Machine) toWitness(g *group, to Member, msg *raftpb.Message) {
	switch msg.GetType() {
	case raftpb.MsgVote, raftpb.MsgPreVote:
		if u := g.past.leader; !u.IsZero() && m.peer(u).refused && len(msg.GetContext()) == 0 {
			msg.Context = peer.LeaderGone(u)
		}
	case raftpb.MsgHeartbeat:
		if !g.leading() || g.feed.state == feedShut {
			return
		}
	default:
		return // appends are the feeder's business
	}
	m.out.send(to.UUID, peer.Beats, peer.Message{
		Kind: peer.KindRaft, Group: g.id, From: g.self, To: to.Replica, Raft: msg,
		Lease: msg.GetType() == raftpb.MsgHeartbeat && !m.disk.hung,
	})
}

// pulse tells the witnesses of all shut groups what is committed, in one frame
// (R19). It limits what a restored old copy of a data host could lose.
func (m *Machine) pulse() {
	if m.now < m.pulseAt {
		return
	}
	m.pulseAt = m.now + m.conf.PulseEvery
	for _, g := range m.sorted() {
		if g.fault != nil || !g.leading() || g.feed.state != feedShut {
			continue
		}
		commit := g.commit()
		held := g.quorum(func(r id.Replica) bool { return g.match(r) >= commit })
		for _, f := range g.feeders {
			if held && commit > f.match {
				m.guard(g, func() { m.sendFeed(g, f, g.feedLimit(), true) })
			}
		}
	}
}
