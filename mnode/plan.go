package mnode

import (
	"fmt"
	"slices"
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

// Task is something unfinished, with what it waits for.
type Task struct {
	Group   id.Group // zero: not about a group
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
	actions []Action
	tasks   []Task
}

// Plan names the next step of everything that is unfinished: a pure function
// of the replicated record and of what this master has been told. Whoever
// becomes master computes the same from the same, so nothing is lost with one.
func Plan(now time.Time, v *View, f *Facts) ([]Action, []Task) {
	p := &planner{now: now, v: v, f: f}
	if v.Cluster.ID == 0 {
		return nil, nil
	}
	p.arbitrator()
	p.moveDnodes()
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
	p.growMnode()
	p.dropDnodes()
	p.failovers()
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

// arbitrator notes which directory answers at which end point. A new one (it
// was wiped) makes every group replace its witness (R41).
func (p *planner) arbitrator() {
	known := p.v.Arbitrator
	switch answers := p.f.Answers; {
	case p.f.Configured != known.EndPoint:
		p.do(Decide{SetArbitrator{EndPoint: p.f.Configured}})
	case known.EndPoint != "" && !answers.IsZero() && answers != known.UUID:
		p.do(Decide{SetArbitrator{EndPoint: known.EndPoint, UUID: answers}})
	}
}

// moveDnodes notes members that answer at another address: the directory is
// the identity, the address is not (R31).
func (p *planner) moveDnodes() {
	for _, d := range p.v.Dnodes {
		r, ok := p.f.Fresh(p.now, d.ID)
		if ok && !d.Dropped && r.UUID == d.UUID && r.EndPoint != "" && r.EndPoint != d.EndPoint {
			p.do(Decide{MoveDnode{UUID: d.UUID, EndPoint: r.EndPoint}})
		}
	}
}

// create takes a group from its record to formed (R40): every data host has
// its passive replica, the arbitrator its record.
func (p *planner) create(g Group) {
	for _, m := range g.Members {
		switch {
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
		if d, ok := p.v.Dnode(m.Dnode); !m.Witness && ok && !d.Dropped && !p.removed(g, m) {
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

// removed reports whether a host that knows of the drop has no such replica.
func (p *planner) removed(g Group, m Member) bool {
	r, ok := p.f.Fresh(p.now, m.Dnode)
	if !ok || r.UUID != m.UUID || uint64(r.Done) < g.Doomed {
		return false
	}
	_, has := r.Group(g.ID)
	return !has
}

// retired reports whether the arbitrator has forgotten a witness for ever, and
// asks for it if not. A wiped arbitrator took its records with it.
func (p *planner) retired(g Group, m Member) bool {
	e := Enrolment{g.ID, m.Replica, m.UUID}
	if m.UUID.IsZero() || m.UUID != p.v.Arbitrator.UUID || p.f.Retired[e] {
		return true
	}
	p.do(Enroll{Enrolment: e, Retire: true})
	return false
}

// growMnode gives the mnode another replica while there are fewer than wanted
// and a host that can hold one (A15, A18). One at a time.
func (p *planner) growMnode() {
	g, _ := p.v.Group(id.Mnode)
	data := g.Data()
	if len(data) >= p.f.NumOfMnodes || slices.ContainsFunc(data, func(m Member) bool { return m.Joining }) {
		return
	}
	for _, d := range p.v.Dnodes {
		member := slices.ContainsFunc(g.Members, func(m Member) bool { return m.Dnode == d.ID })
		if !member && p.f.usable(p.now, d) {
			p.do(Decide{AddMember{Group: id.Mnode, Dnode: d.ID, UUID: d.UUID}})
			return
		}
	}
}

// dropDnodes makes a tombstone of every leaving dnode that nothing needs.
func (p *planner) dropDnodes() {
	for _, d := range p.v.Dnodes {
		if !d.Dropping {
			continue
		}
		if g, busy := p.v.groupOn(d.ID); busy {
			p.tasks = append(p.tasks, Task{Group: g, What: "drop dnode", Waiting: fmt.Sprintf("dnode %d is still a member of group %d", d.ID, g)})
			continue
		}
		p.do(Decide{RemoveDnode{Dnode: d.ID}})
	}
}
