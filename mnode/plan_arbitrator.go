package mnode

import (
	"slices"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// arbitrator decides which one is in force, and notes which directory answers
// there. A new directory (it was wiped), or another arbitrator, makes every
// even group replace its witness (R41), the mnode's own first.
//
// ALTER CLUSTER ARBITRATOR sets it at once. The configuration counts when it
// changes: all hosts name the same one, and it is another than the last time.
func (p *planner) arbitrator() {
	known, answers := p.v.Arbitrator, p.f.Answers
	if c, agreed := p.f.configured(p.now, p.v); agreed && c != known.Configured {
		p.follow(c)
		return
	}
	if known.EndPoint != "" && p.f.AnswersFrom == known.EndPoint && !answers.IsZero() && answers != known.UUID {
		p.do(Decide{SetArbitrator{EndPoint: known.EndPoint, UUID: answers, Configured: known.Configured}})
	}
}

// follow puts the arbitrator that the configuration names into force, once it
// has answered: a slip of the pen must not cost the one that there is.
func (p *planner) follow(endPoint string) {
	set := SetArbitrator{EndPoint: endPoint, Configured: endPoint}
	if known := p.v.Arbitrator; endPoint != "" && endPoint != known.EndPoint {
		a, ok := p.f.Asked[endPoint]
		if !ok || p.now.Sub(a.At) > quietIntervals*p.f.Interval {
			p.tasks = append(p.tasks, Task{What: "change arbitrator", Waiting: "the arbitrator " + endPoint + " does not answer"})
			p.do(Ask{endPoint})
			return
		}
		set.UUID = a.UUID
	}
	p.do(Decide{set})
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
		p.do(Decide{AddMember{Group: g.ID, UUID: arb.UUID, As: g.NextReplica}})
		return Member{}, false
	}
	switch e := (Enrolment{g.ID, w.Replica, w.UUID}); {
	case w.Joining && p.f.Retired[e]: // it was to leave already when it was needed again
		p.do(Decide{ForgetMember{Group: g.ID, Replica: w.Replica}})
		return Member{}, false
	case w.Joining && !p.f.Enrolled[e]:
		p.task(g, "add arbitrator", "the arbitrator %s is to confirm", arb.EndPoint)
		p.do(Enroll{Enrolment: e})
		return Member{}, false
	}
	return w, true
}

// retired reports whether an arbitrator has forgotten a replica for ever, and
// asks for it if not. A wiped one took its records with it, and a former one
// that can't be reached keeps a record that nobody will use.
func (p *planner) retired(g Group, m Member) bool {
	e := Enrolment{g.ID, m.Replica, m.UUID}
	reached := m.UUID == p.v.Arbitrator.UUID ||
		p.f.Linked[m.UUID] && slices.ContainsFunc(p.v.Former, func(a Arbitrator) bool { return a.UUID == m.UUID })
	if m.UUID.IsZero() || p.f.Retired[e] || !reached {
		return true
	}
	p.do(Enroll{Enrolment: e, Retire: true})
	return false
}

// at names the end point of an arbitrator's directory.
func (v *View) at(witness id.UUID) string {
	for _, a := range v.Former {
		if a.UUID == witness {
			return a.EndPoint
		}
	}
	return v.Arbitrator.EndPoint
}
