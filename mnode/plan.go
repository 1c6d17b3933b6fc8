package mnode

import (
	"fmt"
	"strings"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Action is one step that the master takes next.
type Action interface{ key() string }

// The actions. Each may be taken twice without harm, and each shows its effect
// in the View or in a report, which is how the plan learns of it.
type (
	// Decide proposes a command.
	Decide struct{ Command Command }

	// Enroll asks the arbitrator to keep a record, or to retire it for ever.
	Enroll struct {
		Enrolment
		Retire bool
	}

	// Change asks the leader of a group to change its members.
	Change struct {
		Group  id.Group
		Leader id.UUID
		Change consensus.Change
	}

	// Transfer asks the leader of a group to hand it to another voter.
	Transfer struct {
		Group  id.Group
		Leader id.UUID
		To     id.Replica
	}

	// Ask finds out which arbitrator answers at an end point.
	Ask struct{ EndPoint string }
)

// The keys name an action in logs, too.
func (a Decide) key() string {
	return fmt.Sprintf("note %s %+v", strings.TrimPrefix(fmt.Sprintf("%T", a.Command), "mnode."), a.Command)
}

func (a Enroll) key() string {
	verb := "enroll"
	if a.Retire {
		verb = "retire"
	}
	return fmt.Sprintf("%s replica %d of group %d at arbitrator %s", verb, a.Replica, a.Group, a.Witness.Short())
}

func (a Change) key() string { return fmt.Sprintf("change members of group %d", a.Group) }

func (a Transfer) key() string {
	return fmt.Sprintf("hand group %d over to replica %d", a.Group, a.To)
}

func (a Ask) key() string { return "ask for an arbitrator at " + a.EndPoint }

// Task is something unfinished, with what it waits for.
type Task struct {
	Group   id.Group // zero: not about a group
	Dnode   id.Host  // zero: not about a dnode
	What    string   // "create vgroup", "drop vgroup", "add replica", ...
	Waiting string   // empty: nothing, it is being done
	Since   time.Time
}

// caughtUpEntries is how far behind a learner may be when it is promoted (R23).
const caughtUpEntries = 50

// planner collects the next steps and what the others wait for.
type planner struct {
	now     time.Time
	v       *View
	f       *Facts
	load    map[id.Host]int // replicas on each dnode once this plan is carried out
	actions []Action
	tasks   []Task
}

// Plan names the next step of everything that is unfinished: a pure function
// of the replicated record and of what this master has been told. Whoever
// becomes master computes the same from the same, so nothing is lost with one.
func Plan(now time.Time, v *View, f *Facts) ([]Action, []Task) {
	if v.Cluster.ID == 0 {
		return nil, nil
	}
	p := &planner{now: now, v: v, f: f, load: v.load()}
	p.arbitrator()
	p.moveDnodes()
	p.restoreDnodes()
	for _, g := range v.Groups {
		switch g.State {
		case Creating:
			p.create(g)
		case Dropping:
			p.drop(g)
		case Formed:
			p.members(g)
		}
	}
	p.dropDnodes()
	p.failovers()
	p.watchDnodes()
	return p.actions, p.tasks
}

func (p *planner) do(a Action) { p.actions = append(p.actions, a) }

func (p *planner) task(g Group, what, waiting string, args ...any) {
	t := Task{Group: g.ID, What: what, Waiting: fmt.Sprintf(waiting, args...)}
	if len(g.Members) > 0 {
		t.Since = g.Members[len(g.Members)-1].Created
	}
	p.tasks = append(p.tasks, t)
}

// create takes a group from its record to formed (R40): every data host has
// its passive replica, the arbitrator its record.
func (p *planner) create(g Group) {
	absent := 0
	for _, m := range g.Members {
		switch {
		case !m.Witness && p.lost(m), m.Witness && !m.UUID.IsZero() && m.UUID != p.v.Arbitrator.UUID:
			absent++ // it never comes: the others go on without it, and it is replaced
		case m.UUID.IsZero():
			p.task(g, "create vgroup", "the arbitrator %s has never answered", p.v.Arbitrator.EndPoint)
			return
		case m.Witness && !p.f.Enrolled[Enrolment{g.ID, m.Replica, m.UUID}]:
			p.task(g, "create vgroup", "the arbitrator %s is to confirm", p.v.Arbitrator.EndPoint)
			p.do(Enroll{Enrolment: Enrolment{g.ID, m.Replica, m.UUID}})
			return
		case !m.Witness && !p.confirmed(g, m):
			p.task(g, "create vgroup", "dnode %d is to create its replica", m.Dnode)
			return
		}
	}
	if 2*absent >= len(g.Members) {
		p.task(g, "create vgroup", "most of its members are gone: DROP DATABASE %s", g.Database)
		return
	}
	p.task(g, "create vgroup", "")
	p.do(Decide{FormGroup{Group: g.ID, Epoch: g.Epoch}})
}

// confirmed reports whether a member's host has the replica it should have.
func (p *planner) confirmed(g Group, m Member) bool {
	r, ok := p.f.Fresh(p.now, m.Dnode)
	if !ok || r.UUID != m.UUID {
		return false
	}
	line, has := r.Group(g.ID)
	return has && line.Replica == m.Replica && line.Epoch == g.Epoch && line.Fault == ""
}

// drop takes a doomed group out: first the replicas, then the arbitrator's
// record, then the group's own.
func (p *planner) drop(g Group) {
	for _, m := range g.Members {
		if !m.Witness && !p.lost(m) && !p.removed(g, m) {
			p.task(g, "drop vgroup", "dnode %d is to remove its replica", m.Dnode)
			return
		}
	}
	for _, m := range g.Members {
		if m.Witness && !p.retired(g, m) {
			p.task(g, "drop vgroup", "the arbitrator %s is to forget it", p.v.Arbitrator.EndPoint)
			return
		}
	}
	p.task(g, "drop vgroup", "")
	p.do(Decide{RemoveGroup{Group: g.ID, Epoch: g.Epoch}})
}

// lost reports whether nobody need wait for what a member's host does: its
// directory is gone, or it is silent and being dropped.
func (p *planner) lost(m Member) bool {
	d, _ := p.v.Dnode(m.Dnode)
	return p.v.gone(m) || d.Dropping && p.f.silent(p.now, d) > quietIntervals*p.f.Interval
}

// removed reports whether a host that knows of the drop has no such replica.
func (p *planner) removed(g Group, m Member) bool {
	r, ok := p.f.Fresh(p.now, m.Dnode)
	if !ok || r.UUID != m.UUID || uint64(r.Done) < g.Doomed {
		return false
	}
	_, has := r.Group(g.ID)
	return !has
}
