package consensus

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// receive takes one frame.
func (m *Machine) receive(e Received) {
	l := m.peer(e.From)
	l.heard, l.heardAt = true, m.now
	for i := range e.Messages {
		msg := &e.Messages[i]
		switch msg.Kind {
		case peer.KindPong, peer.KindPing:
		case peer.KindGoodbye:
			m.gone(e.From, CauseStopped)
		case peer.KindEnrolled, peer.KindRetired:
			m.enrolled(e.From, msg)
		default:
			m.receiveForGroup(e.From, msg)
		}
	}
}

// receiveForGroup checks that a message is meant for this replica and comes from
// the directory that its sender's id is bound to (R29, R31). A replica that is
// not formed is deaf (R40).
func (m *Machine) receiveForGroup(from id.UUID, msg *peer.Message) {
	g := m.groups[msg.Group]
	if g == nil || g.fault != nil || !g.formed || msg.To != g.self {
		return
	}
	sender, known := g.members[msg.From]
	if known && sender.UUID != from {
		return
	}
	if !known {
		g.meet(msg.From, from)
	}
	m.guard(g, func() {
		m.touch(g)
		switch msg.Kind {
		case peer.KindRaft:
			m.receiveRaft(g, from, msg)
		case peer.KindAnswer:
			if known && sender.Witness && msg.Answer != nil {
				m.answered(g, sender, msg.Answer)
			}
		case peer.KindRefusal:
			m.refused(g, sender, msg)
		case peer.KindHung:
			m.peerHangs(g, msg)
		case peer.KindUnready:
			m.unready(g, msg)
		case peer.KindHeld:
			g.held = max(g.held, min(msg.Index, g.commit()))
			m.cut(g)
		}
	})
}

// maxStrangers bounds whom a replica remembers beside its members.
const maxStrangers = 16

// meet remembers which directory speaks as a replica that this one has not
// learned of: it may be far behind in the log, and its leader a later member.
// Answers go there until the configuration names it.
func (g *group) meet(r id.Replica, u id.UUID) {
	if _, met := g.strangers[r]; !met && len(g.strangers) >= maxStrangers {
		clear(g.strangers)
	}
	g.strangers[r] = u
}

func (m *Machine) receiveRaft(g *group, from id.UUID, msg *peer.Message) {
	r := msg.Raft
	if r == nil || id.Replica(r.GetFrom()) != msg.From || id.Replica(r.GetTo()) != g.self {
		return
	}
	sender, known := g.members[msg.From]
	switch r.GetType() {
	case raftpb.MsgApp:
		if m.full && len(r.GetEntries()) > 0 {
			return // no room; the leader counts on others meanwhile
		}
		g.commitNow = max(g.commitNow, id.Index(r.GetCommit()))
	case raftpb.MsgAppResp:
		if known && sender.Witness && id.Term(r.GetTerm()) <= g.hardTerm() {
			return // a witness acknowledges feeds, not appends
		}
		if r.GetIndex() == 0 && !r.GetReject() && id.Term(r.GetTerm()) == g.hardTerm() {
			// No acknowledgement, but the library's word to a leader of an older
			// term, this one once. Taken for one it would have the library send
			// from entry 1, which no log has, and then nothing at all.
			return
		}
		m.answeredInTerm(g, from, r)
	case raftpb.MsgHeartbeatResp:
		m.answeredInTerm(g, from, r)
	case raftpb.MsgHeartbeat:
		g.commitNow = max(g.commitNow, id.Index(r.GetCommit()))
	case raftpb.MsgSnap:
		m.offered(g, from, r)
		return
	case raftpb.MsgVote, raftpb.MsgPreVote, raftpb.MsgVoteResp, raftpb.MsgPreVoteResp:
	case raftpb.MsgTimeoutNow:
		if !g.servesSoon() {
			m.out.send(from, peer.Beats, peer.Message{
				Kind: peer.KindUnready, Group: g.id, From: g.self, To: msg.From, Term: id.Term(r.GetTerm()),
			})
			return
		}
		g.handedOver(r)
	default:
		return // nothing else is said between hosts
	}
	_ = g.node.Step(r)
}

// answeredInTerm notes that a replica has answered this leader in its own term
// (R15). An acknowledged append also proves that its disk syncs.
func (m *Machine) answeredInTerm(g *group, from id.UUID, r *raftpb.Message) {
	if !g.leading() || id.Term(r.GetTerm()) != g.term {
		return
	}
	g.heard[id.Replica(r.GetFrom())] = m.now
	if r.GetType() == raftpb.MsgAppResp {
		m.peer(from).hung = false
	}
}

// refused notes why a witness gives no answers.
func (m *Machine) refused(g *group, from Member, msg *peer.Message) {
	f := find(g.feeders, from.Replica)
	if f == nil || f.refusal == msg.Refusal {
		return
	}
	f.refusal = msg.Refusal
	m.out.report(g.id, true, "arbitrator refuses", "reason", msg.Refusal.String(), "replica", from.Replica)
}

// enrolment is an EnrollWitness that the arbitrator has not answered.
type enrolment struct {
	EnrollWitness
	sentAt time.Duration
}

const repeatEnrolment = time.Second

func (m *Machine) enrol(e EnrollWitness) {
	m.enrolments = append(m.enrolments, enrolment{EnrollWitness: e})
	m.sendEnrolment(&m.enrolments[len(m.enrolments)-1])
}

func (m *Machine) sendEnrolment(e *enrolment) {
	e.sentAt = m.now
	kind := peer.KindEnroll
	if e.Retire {
		kind = peer.KindRetire
	}
	m.out.send(e.Witness, peer.Beats, peer.Message{
		Kind: kind, Group: e.Group, To: e.To, Enroll: &peer.Enroll{Witness: e.Witness},
	})
}

// resumeEnrolments asks an arbitrator again that was not connected when it was
// asked.
func (m *Machine) resumeEnrolments(witness id.UUID) {
	for i := range m.enrolments {
		if e := &m.enrolments[i]; e.Witness == witness {
			m.sendEnrolment(e)
		}
	}
}

func (m *Machine) repeatEnrolments() {
	for i := range m.enrolments {
		if e := &m.enrolments[i]; m.now-e.sentAt >= repeatEnrolment {
			m.sendEnrolment(e)
		}
	}
}

// enrolled handles the arbitrator's answer to an enrolment or a retirement. The
// record that it names is in From.
func (m *Machine) enrolled(from id.UUID, msg *peer.Message) {
	m.enrolments = slices.DeleteFunc(m.enrolments, func(e enrolment) bool {
		same := e.Witness == from && e.Group == msg.Group && e.To == msg.From &&
			e.Retire == (msg.Kind == peer.KindRetired)
		if !same {
			return false
		}
		switch msg.Refusal {
		case 0:
			m.out.answers = append(m.out.answers, Enrolled{Ticket: e.Ticket})
		case peer.Retired:
			m.out.refuse(e.Ticket, fmt.Errorf("%w: %w", ErrWitnessRefused, ErrRetired))
		default:
			m.out.refuse(e.Ticket, fmt.Errorf("%w: %s", ErrWitnessRefused, msg.Refusal))
		}
		return true
	})
}

var (
	// ErrWitnessRefused means that the arbitrator will not keep the record.
	ErrWitnessRefused = errors.New("the arbitrator refused")
	// ErrRetired is why, if it never will: another replica id is needed.
	ErrRetired = errors.New(peer.Retired.String())
)

// noteWitnesses remembers which directories are arbitrators.
func (m *Machine) noteWitnesses(g *group) {
	for _, mem := range g.members {
		if mem.Witness {
			m.peer(mem.UUID).isWitness = true
		}
	}
}

// pingWitnesses asks an arbitrator that has said nothing for a pulse whether it
// is there: every pulse, every second while a data replica is silent (R19).
func (m *Machine) pingWitnesses() {
	var quiet []id.UUID
	every := m.conf.PulseEvery
	for u, l := range m.peers {
		switch {
		case !l.isWitness && l.heard && m.now-l.heardAt > m.conf.SilentAfter:
			every = time.Second
		case l.isWitness && m.now-l.heardAt >= m.conf.PulseEvery:
			quiet = append(quiet, u)
		}
	}
	slices.SortFunc(quiet, func(a, b id.UUID) int { return slices.Compare(a[:], b[:]) })
	for _, u := range quiet {
		if l := m.peer(u); m.now-l.pingedAt >= every {
			l.pingedAt = m.now
			m.out.send(u, peer.Beats, peer.Message{Kind: peer.KindPing})
		}
	}
}
