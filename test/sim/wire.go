package main

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/arbitrator"
	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// What members say is checked when they say it: a promise must be on the disk of
// whoever makes it, a vote is given once, and a witness is told nothing that it
// may not know.

// said reads one message of a data host.
func (h *host) said(to *box, m *peer.Message) {
	g := h.w.group(m.Group)
	if g == nil {
		return
	}
	switch m.Kind {
	case peer.KindRaft:
		h.saidRaft(g, to, m)
	case peer.KindFeed:
		h.saidFeed(g, m)
	}
}

func (h *host) saidRaft(g *group, to *box, m *peer.Message) {
	w, r := h.w, m.Raft
	term, s := id.Term(r.GetTerm()), h.store.durable[g.id]
	if rep := h.replicas[g.id]; rep == nil || rep.id != m.From {
		w.fail("R38", "%s speaks as replica %d of group %d", h.name, m.From, g.id)
	}
	if w.trace != nil {
		w.tracef("%s>%s group %d %v", h.name, to.name, g.id, brief(r))
	}
	switch r.GetType() {
	case raftpb.MsgApp, raftpb.MsgSnap, raftpb.MsgHeartbeat:
		g.leads(h, m.From, term)
		if r.GetType() == raftpb.MsgSnap {
			w.copiesOffered++
		}
		if to.witness && r.GetType() != raftpb.MsgHeartbeat {
			w.fail("R9", "%s sends %v to the witness", h.name, r.GetType())
		}
		if rep := h.replicas[g.id]; to.witness && rep.shutIn == term && g.feed(h) == feedShut {
			w.fail("R9", "%s sends heartbeats of group %d to the witness with the feed shut", h.name, g.id)
		}
	case raftpb.MsgTimeoutNow:
		if to.witness {
			w.fail("R6", "%s wants the witness to lead", h.name)
		}
	case raftpb.MsgVoteResp:
		if r.GetReject() {
			return
		}
		g.voted(m.From, term, m.To)
		if s == nil || s.hard.Term < term || s.hard.Term == term && s.hard.Vote != m.To {
			w.fail("promise", "%s gives its vote of term %d in group %d to replica %d, which is not on its disk", h.name, term, g.id, m.To)
		}
	case raftpb.MsgAppResp:
		if r.GetReject() || r.GetIndex() == 0 {
			return
		}
		// What a newer leader has truncated since was there in its own term.
		if s == nil || s.hard.Term < term || s.hard.Term == term && s.last().Index < id.Index(r.GetIndex()) {
			w.fail("promise", "%s acknowledges entry %d of group %d in term %d, which is not on its disk", h.name, r.GetIndex(), g.id, term)
		}
	}
}

// voted checks that replica r votes once in a term.
func (g *group) voted(r id.Replica, term id.Term, candidate id.Replica) {
	b := ballot{r, term}
	if was, ok := g.votes[b]; ok && was != candidate {
		g.w.fail("vote", "replica %d of group %d votes for %d and for %d in term %d", r, g.id, was, candidate, term)
	}
	g.votes[b] = candidate
}

// saidFeed checks what a witness is told: R10, R10b, R11, R11b.
func (h *host) saidFeed(g *group, m *peer.Message) {
	w, f := h.w, m.Feed
	g.leads(h, m.From, f.Term)
	if w.trace != nil {
		w.tracef("%s feeds group %d: seq %d term %d base %d/%d last %d commit %d", h.name, g.id, f.Seq, f.Term, f.Base, f.BaseTerm, f.Last, f.Commit)
	}
	if err := f.Check(); err != nil {
		w.fail("R11", "%s: %v", h.name, err)
	}
	s := h.store.durable[g.id]
	if s == nil || f.Last > s.last().Index {
		w.fail("R10", "%s tells the witness of entry %d of group %d, durable is %v", h.name, f.Last, g.id, s.last())
	}
	term := f.BaseTerm
	for i, next := f.Base, 0; i <= f.Last; i++ {
		if next < len(f.Runs) && f.Runs[next].First == i {
			term = f.Runs[next].Term
			next++
		}
		if i > 0 && !s.has(i, term) {
			w.fail("R11", "%s tells the witness that entry %d of group %d is of term %d", h.name, i, g.id, term)
		}
	}
	rep := h.replicas[g.id]
	c := g.config(rep.handed)
	if slices.Contains(c.in, rep.id) {
		return
	}
	for _, r := range c.in {
		if !g.seats[r].witness && g.holdsDurably(r, f.Last, term) {
			return
		}
	}
	w.fail("R10b", "%s, on its way out, tells the witness of entry %d of group %d, which nobody who stays holds", h.name, f.Last, g.id)
}

// said reads one answer of a witness: I10, and its promises.
func (a *witness) said(m *peer.Message) {
	w := a.w
	if m.Kind != peer.KindRaft && m.Kind != peer.KindAnswer {
		return
	}
	key := arbitrator.Key{Cluster: cluster, Group: m.Group, Replica: m.From}
	g, rec := w.group(m.Group), a.durable[key]
	s, seated := g.seats[m.From]
	if !a.enrolled[key] || seated && s.uuid != a.uuid {
		w.fail("I10", "%s answers as replica %d of group %d, which is not enrolled in its directory", a.name, m.From, m.Group)
	}
	switch {
	case m.Kind == peer.KindAnswer && !m.Answer.Reject && m.Answer.Last > rec.Last:
		w.fail("promise", "%s acknowledges entry %d of group %d, its disk has %d", a.name, m.Answer.Last, m.Group, rec.Last)
	case m.Kind == peer.KindRaft && m.Raft.GetType() == raftpb.MsgVoteResp && !m.Raft.GetReject():
		term := id.Term(m.Raft.GetTerm())
		g.voted(m.From, term, m.To)
		if rec.Term < term || rec.Term == term && rec.Vote != m.To {
			w.fail("promise", "%s gives its vote of term %d in group %d to replica %d, which is not on its disk", a.name, term, m.Group, m.To)
		}
	}
	switch {
	case w.trace == nil:
	case m.Raft != nil:
		w.tracef("%s>%d group %d %v", a.name, m.To, m.Group, brief(m.Raft))
	default:
		w.tracef("%s>%d group %d answer %+v", a.name, m.To, m.Group, *m.Answer)
	}
}

// checkOp checks what a log is told to hold: terms and commits never go back,
// and a vote is not taken back within a term (R4).
func (w *world) checkOp(h *host, s *shadow, op *wal.Op) {
	if s == nil || op.Hard == nil || op.Drop {
		return
	}
	was, now := s.hard, *op.Hard
	was.Commit = min(was.Commit, s.last().Index) // of a write that a death cut off
	if now.Term < was.Term || now.Term == was.Term && was.Vote != 0 && now.Vote != was.Vote || now.Commit < was.Commit {
		w.fail("R4", "%s: hard state of group %d goes from %+v to %+v", h.name, op.Group, was, now)
	}
}

// ---- what the checker knows of a leader's view ----

// heard notes answers that reach a leader, for I7.
func (h *host) heard(from *box, m *peer.Message) {
	if m.Kind != peer.KindRaft {
		return
	}
	if t := m.Raft.GetType(); t != raftpb.MsgAppResp && t != raftpb.MsgHeartbeatResp {
		return
	}
	if r := h.replicas[m.Group]; r != nil {
		r.answers[m.From] = answer{h.w.now, h.w.now - h.frozen, id.Term(m.Raft.GetTerm())}
	}
}

// answer is the last one of a member: when, in which term.
type answer struct {
	at   time.Duration
	run  time.Duration // the same without the time for which the leader was frozen
	term id.Term
}

// responsive reports whether member m has certainly answered the leader h within
// D_open, in the newest term (R15).
func (h *host) responsive(g *group, m id.Replica) bool {
	a := h.replicas[g.id].answers[m]
	return g.recent(a, h.w.now-a.at)
}

// seemed reports the same of a leader that was frozen a moment ago: what it was
// answered last may wait in its queue behind an older answer of somebody else.
func (h *host) seemed(g *group, m id.Replica) bool {
	a := h.replicas[g.id].answers[m]
	return g.recent(a, h.w.now-h.frozen-a.run)
}

// recent reports whether an answer of this age keeps a member from being silent.
func (g *group) recent(a answer, age time.Duration) bool {
	return a.term == g.newest && age < g.w.conf.SilentAfter-10*time.Millisecond
}

// The words of View.Feed.
const (
	feedShut = "shut"
	feedOpen = "open"
)

// feed returns the state of a group's feed as its leader reports it.
func (g *group) feed(h *host) string {
	s, _ := h.view(g.id)
	return s.Feed
}

func (h *host) view(g id.Group) (consensus.View, bool) {
	if h.machine == nil {
		return consensus.View{}, false
	}
	return h.machine.View(g)
}

func (h *host) status(g id.Group) consensus.Status {
	if h.machine != nil {
		for _, s := range h.machine.Status() {
			if s.Group == g {
				return s
			}
		}
	}
	return consensus.Status{}
}

// looked is called after each step of a host.
func (w *world) looked(h *host) {
	if w.now < h.lookAt {
		return
	}
	h.lookAt = w.now + 10*time.Millisecond
	for _, g := range w.groups {
		w.lookShut(h, g)
	}
}

func (w *world) lookShut(h *host, g *group) {
	r := h.replicas[g.id]
	if !h.up || h.paused || r == nil || g.leaders[g.newest] != r.id || g.feed(h) != feedShut {
		return
	}
	g.checkShut(h, r)
}

// faulty is called when a machine stops a group. In a run without planted faults
// of the disk no replica has a reason to (R5).
func (w *world) faulty(h *host, e consensus.Report) {
	if h.mayFail {
		return
	}
	w.fail("R5", "%s: group %d is faulty: %v", h.name, e.Group, e.Args)
}

// brief shows a Raft message in one line.
func brief(m *raftpb.Message) string {
	s := m.GetType().String() + " term " + itoa(m.GetTerm())
	if m.GetIndex() != 0 || m.GetLogTerm() != 0 {
		s += " at " + itoa(m.GetIndex()) + "/" + itoa(m.GetLogTerm())
	}
	if n := len(m.GetEntries()); n > 0 {
		s += " +" + itoa(uint64(n))
	}
	if m.GetCommit() != 0 {
		s += " commit " + itoa(m.GetCommit())
	}
	if m.GetReject() {
		s += " reject"
	}
	return s
}
