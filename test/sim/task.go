package main

import (
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// task is what the mnode's leader does over several groups and crashes: steps
// that are repeated until their outcome shows, one after the other. It keeps no
// memory besides the step it is at, as its record in the mnode would.
type task struct {
	w     *world
	name  string
	steps []func() bool // true: done, go on
	at    int
	ended func()
}

func (t *task) done() bool { return t.at == len(t.steps) }

// begin works on t every 20 to 60 ms until it is done.
func (w *world) begin(name string, steps ...func() bool) *task {
	t := &task{w: w, name: name, steps: steps}
	w.tracef("task %s begins", name)
	t.work()
	return t
}

func (t *task) work() {
	if t.done() {
		t.w.tracef("task %s is done", t.name)
		if t.ended != nil {
			t.ended()
		}
		return
	}
	if t.steps[t.at]() {
		t.at++
	}
	t.w.after(t.w.between(20*time.Millisecond, 60*time.Millisecond), t.work)
}

// change asks the leader for a change of membership, at most every 100 ms.
func (g *group) change(c consensus.Change) {
	h := g.leader()
	if h == nil || g.w.now < g.askAgain {
		return
	}
	g.askAgain = g.w.now + 100*time.Millisecond
	q := g.w.newRequest(h, g)
	q.onDone = func(error) {}
	h.post(consensus.ChangeMembers{Group: g.id, Ticket: q.ticket, Change: c})
}

// admit is the first half of R23 and R39: a host gets a new replica id, joins as
// learner, and catches up.
func (g *group) admit(h *host, r id.Replica) []func() bool {
	created := func() bool {
		h.create(g, r, true)
		return h.store.durable[g.id] != nil
	}
	learner := func() bool {
		created() // a power cut may have taken it
		if c := g.current(); slices.Contains(c.learners, r) || slices.Contains(c.in, r) {
			return true
		}
		g.change(consensus.Change{AddLearner: []consensus.Member{g.member(r)}})
		return false
	}
	caughtUp := func() bool {
		created()
		l := g.leader()
		if l == nil {
			return false
		}
		s := l.status(g.id)
		return slices.ContainsFunc(s.Members, func(m consensus.MemberStatus) bool {
			return m.Replica == r && m.Match+50 >= s.Commit
		})
	}
	return []func() bool{created, learner, caughtUp}
}

// enrolled is pitfall 11: the record exists before anyone counts on it.
func (g *group) enrolled(r id.Replica) func() bool { return g.enrolledBy(g, r) }

// exchange makes one joint change and waits until it is left.
func (g *group) exchange(add []id.Replica, remove ...id.Replica) func() bool {
	var c consensus.Change
	for _, r := range add {
		c.AddVoter = append(c.AddVoter, g.member(r))
	}
	c.Remove = remove
	return func() bool {
		now := g.current()
		gone := !slices.ContainsFunc(remove, func(r id.Replica) bool { return slices.Contains(now.voters(), r) })
		here := !slices.ContainsFunc(add, func(r id.Replica) bool { return !slices.Contains(now.in, r) })
		if gone && here && !now.joint() {
			return true
		}
		if l := g.leader(); l != nil && !now.joint() {
			if slices.Contains(remove, l.replicas[g.id].id) && g.w.chance(0.8) { // else it must refuse (R21)
				g.handFrom(l, remove)
				return false
			}
			g.change(c)
		}
		return false
	}
}

// handFrom is R21: leadership goes to a data voter that stays.
func (g *group) handFrom(l *host, leaving []id.Replica) {
	if g.w.now < g.askAgain {
		return
	}
	g.askAgain = g.w.now + 300*time.Millisecond
	for _, r := range g.current().in {
		if h := g.host(r); h != nil && h != l && h.up && !slices.Contains(leaving, r) {
			l.post(consensus.Transfer{Group: g.id, To: r})
			return
		}
	}
}

// everyoneKnows is R24: all data voters that stay have applied the last change.
func (g *group) everyoneKnows() bool {
	c := g.current()
	for _, r := range c.in {
		if h := g.host(r); h != nil && (h.replicas[g.id] == nil || h.replicas[g.id].applied < c.at) {
			return false
		}
	}
	return !c.joint()
}

// replaceData gives the seat of replica old to a new host (R23).
func (g *group) replaceData(old id.Replica, h *host) *task {
	r := g.seat(&h.box)
	was := g.host(old)
	steps := append(g.admit(h, r), g.exchange([]id.Replica{r}, old), g.everyoneKnows, func() bool {
		if was != nil {
			was.retire()
		}
		return true
	})
	return g.w.begin("replace data replica "+itoa(uint64(old))+" by "+itoa(uint64(r)), steps...)
}

// replaceWitness gives the vote of replica old to another arbitrator, or to the
// new directory of the same (R23, R41).
func (g *group) replaceWitness(old id.Replica, a *witness) *task {
	r := g.seat(&a.box)
	return g.w.begin("replace witness "+itoa(uint64(old))+" by "+itoa(uint64(r)),
		g.enrolled(r), g.exchange([]id.Replica{r}, old), g.everyoneKnows)
}

// retire ends a host for good: nothing of it ever comes back.
func (h *host) retire() {
	h.kill()
	h.removed = true
}

// enrolledBy has the leader of another group ask: a group that is being born has
// none.
func (g *group) enrolledBy(by *group, r id.Replica) func() bool {
	asked, answered := time.Duration(-1), false
	return func() bool {
		h := by.leader()
		if h == nil || answered || asked >= 0 && g.w.now-asked < 2*time.Second {
			return answered
		}
		asked = g.w.now
		q := g.w.newRequest(h, g)
		q.onDone = func(err error) { answered = answered || err == nil }
		h.post(consensus.EnrollWitness{Group: g.id, To: r, Witness: g.seats[r].uuid, Ticket: q.ticket})
		return false
	}
}
