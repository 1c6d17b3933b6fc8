package mnode

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// world is a cluster as its master sees it: hosts that make themselves equal to
// the View they have, an arbitrator, and groups whose membership is what was
// last changed. It is the other side of Plan, without time and disks.
type world struct {
	t      *testing.T
	now    time.Time
	v      *View
	index  id.Index
	facts  Facts
	hosts  map[id.Host]*worldHost
	arb    *worldArbitrator
	rafts  map[id.Group]*worldRaft
	leader id.Host // of all groups, as with two hosts (R44)
	log    *strings.Builder
}

// worldHost has replicas; a group that it ever held and lost is never made again.
type worldHost struct {
	uuid     id.UUID
	endPoint string
	up       bool
	seen     *View
	held     map[id.Group]id.Replica
}

type worldArbitrator struct {
	uuid    id.UUID
	up      bool
	records map[Enrolment]bool // false: retired for ever
}

// worldRaft is the configuration that a group has applied.
type worldRaft struct {
	members []consensus.MemberStatus
	last    id.Index
}

func newWorld(t *testing.T, arbitrator bool) *world {
	w := &world{
		t: t, now: birth, v: &View{}, index: 1, hosts: map[id.Host]*worldHost{}, rafts: map[id.Group]*worldRaft{},
		leader: 1, log: &strings.Builder{},
	}
	found := Found{Cluster: 7, Name: "plant", EndPoint: "a:6030", UUID: uuidA, RootHash: testHash}
	if arbitrator {
		w.arb = &worldArbitrator{uuid: uuidW, up: true, records: map[Enrolment]bool{}}
		found.Arbitrator, found.Witness = "w:6042", uuidW
	}
	w.hosts[1] = &worldHost{uuid: uuidA, endPoint: "a:6030", up: true, held: map[id.Group]id.Replica{id.Mnode: 1}}
	w.rafts[id.Mnode] = &worldRaft{last: 100, members: []consensus.MemberStatus{
		{Member: consensus.Member{Replica: 1, UUID: uuidA}, Role: consensus.RoleMaster, Match: 100},
	}}
	w.newMaster()
	w.commit(found)
	return w
}

// newMaster is a master that knows nothing but the log.
func (w *world) newMaster() {
	configured := ""
	if w.arb != nil {
		configured = "w:6042"
	}
	w.facts = Facts{
		NumOfMnodes: 3, Interval: time.Second, Configured: configured,
		Hosts: map[id.Host]Heard{}, Enrolled: map[Enrolment]bool{}, Retired: map[Enrolment]bool{},
	}
}

func (w *world) commit(c Command) Result {
	w.index++
	next := w.v.clone()
	r := Envelope{At: w.now, Command: c}.apply(next, w.index, 1)
	if err := next.check(); err != nil {
		w.t.Fatalf("%+v made a state that breaks %v", c, err)
	}
	w.v = next
	return r
}

// reconcile makes every host that is up equal to the View, and lets it report.
func (w *world) reconcile() {
	for n, h := range w.hosts {
		if h.up {
			h.seen = w.v
			w.equal(h)
			w.facts.Hosts[n] = Heard{Report: w.report(n, h), At: w.now}
		}
	}
	if w.arb != nil && w.arb.up {
		w.facts.Answers, w.facts.AnswersAt = w.arb.uuid, w.now
	}
}

func (w *world) equal(h *worldHost) {
	for _, g := range h.seen.Groups {
		m, mine := g.On(h.uuid)
		_, has := h.held[g.ID]
		switch {
		case g.State == Dropping || has && !mine:
			delete(h.held, g.ID)
		case mine && !has && (g.State == Creating || m.Joining):
			h.held[g.ID] = m.Replica
		}
		if g.State == Formed && w.rafts[g.ID] == nil {
			raft := &worldRaft{last: 1}
			for _, f := range g.Founders {
				raft.members = append(raft.members, consensus.MemberStatus{
					Member: consensus.Member{Replica: f.Replica, UUID: f.UUID, Witness: f.Witness}, Match: 1,
				})
			}
			w.rafts[g.ID] = raft
		}
	}
}

func (w *world) report(n id.Host, h *worldHost) Report {
	r := Report{Dnode: n, UUID: h.uuid, EndPoint: h.endPoint, Done: h.seen.Index, Seen: h.seen.Index}
	for g, replica := range h.held {
		rec, _ := h.seen.Group(g)
		line := GroupReport{Group: g, Replica: replica, Epoch: rec.Epoch, Formed: rec.State == Formed}
		if raft := w.rafts[g]; raft != nil && rec.State == Formed {
			line.Members, line.Last, line.Term = raft.members, raft.last, 1
			line.Leader, line.Role = w.hosts[w.leader].uuid, consensus.RoleSlave
			if n == w.leader && w.quorum(raft) {
				line.Role = consensus.RoleMaster
			}
		}
		r.Groups = append(r.Groups, line)
	}
	slices.SortFunc(r.Groups, func(a, b GroupReport) int { return cmp.Compare(a.Group, b.Group) })
	return r
}

// quorum reports whether enough voters are up.
func (w *world) quorum(raft *worldRaft) bool {
	up, all := 0, 0
	for _, m := range raft.members {
		if m.Learner {
			continue
		}
		all++
		if m.Witness && w.arb.up && m.UUID == w.arb.uuid || !m.Witness && w.alive(m.UUID) {
			up++
		}
	}
	return up > all/2
}

func (w *world) alive(u id.UUID) bool {
	for _, h := range w.hosts {
		if h.uuid == u {
			return h.up
		}
	}
	return false
}

// act carries out one action and says so.
func (w *world) act(a Action) {
	switch a := a.(type) {
	case Decide:
		r := w.commit(a.Command)
		fmt.Fprintf(w.log, "decide %s%s\n", strings.TrimPrefix(fmt.Sprintf("%T", a.Command), "mnode."), describe(a.Command, r))
	case Enroll:
		what := "enroll"
		if a.Retire {
			what = "retire"
		}
		if !w.arb.up {
			fmt.Fprintf(w.log, "%s group %d replica %d: no answer\n", what, a.Group, a.Replica)
			return
		}
		if a.Witness != w.arb.uuid {
			w.t.Fatalf("%s for another directory: %+v", what, a)
		}
		if live, known := w.arb.records[a.Enrolment]; !a.Retire && known && !live {
			w.t.Fatalf("enrolled after it was retired: %+v", a)
		}
		w.arb.records[a.Enrolment] = !a.Retire
		if a.Retire {
			w.facts.Retired[a.Enrolment] = true
		} else {
			w.facts.Enrolled[a.Enrolment] = true
		}
		fmt.Fprintf(w.log, "%s group %d replica %d\n", what, a.Group, a.Replica)
	case Change:
		w.change(a)
	}
}

func describe(c Command, r Result) string {
	out := ""
	switch c := c.(type) {
	case AddMember:
		out = fmt.Sprintf(" group %d dnode %d: replica %d", c.Group, c.Dnode, r.Number)
	case SetVoters:
		out = fmt.Sprintf(" group %d: %v", c.Group, c.Voters)
	case FormGroup:
		out = fmt.Sprintf(" %d", c.Group)
	case RemoveGroup:
		out = fmt.Sprintf(" %d", c.Group)
	case ForgetMember:
		out = fmt.Sprintf(" group %d replica %d", c.Group, c.Replica)
	case RemoveDnode:
		out = fmt.Sprintf(" %d", c.Dnode)
	case SetArbitrator:
		out = fmt.Sprintf(" %s %s", c.EndPoint, c.UUID.Short())
	}
	if r.Err != nil {
		out += " refused: " + r.Err.Text
	}
	return out
}

// change applies a membership change as consensus would, and checks the rules
// that only the planner can keep.
func (w *world) change(a Change) {
	raft := w.rafts[a.Group]
	fmt.Fprintf(w.log, "change group %d:", a.Group)
	for _, m := range a.Change.AddLearner {
		fmt.Fprintf(w.log, " learner %d", m.Replica)
		raft.members = append(raft.members, consensus.MemberStatus{Member: m, Match: raft.last})
	}
	for _, m := range a.Change.AddVoter {
		fmt.Fprintf(w.log, " voter %d", m.Replica)
		if m.Witness && !w.arb.records[Enrolment{a.Group, m.Replica, m.UUID}] {
			w.t.Fatalf("group %d: replica %d votes before it is enrolled", a.Group, m.Replica)
		}
		raft.members = slices.DeleteFunc(slices.Clone(raft.members), func(x consensus.MemberStatus) bool { return x.Replica == m.Replica })
		raft.members = append(raft.members, consensus.MemberStatus{Member: m, Match: raft.last})
	}
	for _, r := range a.Change.Remove {
		fmt.Fprintf(w.log, " not %d", r)
		raft.members = slices.DeleteFunc(slices.Clone(raft.members), func(x consensus.MemberStatus) bool { return x.Replica == r })
	}
	fmt.Fprintln(w.log)
	data, witnesses := 0, 0
	for _, m := range raft.members {
		switch {
		case m.Witness:
			witnesses++
		case !m.Learner:
			data++
		}
	}
	if data == 0 || witnesses > 1 || witnesses == 1 && data%2 == 1 {
		w.t.Fatalf("group %d has %d data voters and %d witnesses (R7)", a.Group, data, witnesses)
	}
}

// settle lets the master work until it has nothing to do; crash decides before
// every step whether the master is replaced by one that knows only the log.
func (w *world) settle(crash func() bool) {
	for range 1000 {
		w.now = w.now.Add(100 * time.Millisecond)
		w.reconcile()
		actions, _ := Plan(w.now, w.v, &w.facts)
		done := false
		before := w.log.Len()
		for _, a := range actions {
			if crash != nil && crash() {
				fmt.Fprintln(w.log, "a new master")
				w.newMaster()
				done = true
				break
			}
			w.act(a)
			done = true
		}
		if !done || w.log.Len() == before {
			return
		}
		if stuck := !w.arbUp() && onlyEnrolments(actions); stuck {
			return
		}
	}
	w.t.Fatalf("never settles:\n%s", w.log)
}

func (w *world) arbUp() bool { return w.arb == nil || w.arb.up }

func onlyEnrolments(actions []Action) bool {
	return !slices.ContainsFunc(actions, func(a Action) bool { _, ok := a.(Enroll); return !ok })
}

// addHost starts a dnode that was created, and lets it in.
func (w *world) addHost(n id.Host, u id.UUID, endPoint string) Result {
	r := w.commit(AdmitDnode{EndPoint: endPoint, UUID: u})
	if r.Err == nil {
		w.hosts[n] = &worldHost{uuid: u, endPoint: endPoint, up: true, held: map[id.Group]id.Replica{}}
	}
	return r
}

// String shows the state as an operator would want to see it.
func (w *world) String() string {
	var b strings.Builder
	for _, g := range w.v.Groups {
		fmt.Fprintf(&b, "group %d %s %s:", g.ID, g.Database, g.State)
		for _, m := range g.Members {
			name := fmt.Sprintf("dnode %d", m.Dnode)
			if m.Witness {
				name = "arbitrator " + m.UUID.Short()
			}
			mark := ""
			if m.Joining {
				mark = " joining"
			}
			if m.Leaving {
				mark = " leaving"
			}
			fmt.Fprintf(&b, " [%d %s%s]", m.Replica, name, mark)
		}
		b.WriteByte('\n')
	}
	_, tasks := Plan(w.now, w.v, &w.facts)
	for _, t := range tasks {
		fmt.Fprintf(&b, "%s of group %d: %s\n", t.What, t.Group, cmp.Or(t.Waiting, "under way"))
	}
	return b.String()
}

// The same story with the master replaced before random steps ends in the same
// place: nothing depends on what a master remembers.
func TestAnyMasterFinishes(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t, true)
		crash := func() bool { return rng.IntN(3) == 0 }
		w.settle(crash)
		w.commit(CreateDnode{EndPoint: "b:6030"})
		w.addHost(2, uuidB, "b:6030")
		w.settle(crash)
		o := DefaultOptions()
		o.Replica = 2
		w.commit(CreateDatabase{Name: "demo", Options: o})
		w.settle(crash)
		w.arb.uuid, w.arb.records = id.UUID{0xef}, map[Enrolment]bool{} // wiped
		w.settle(crash)
		w.commit(CreateDatabase{Name: "other", Options: o})
		w.commit(DropDatabase{Name: "demo"})
		w.settle(crash)
		w.commit(CreateDnode{EndPoint: "c:6030"})
		w.addHost(3, uuidC, "c:6030")
		w.settle(crash)
		want := "group 1  ready: [1 dnode 1] [2 dnode 2] [5 dnode 3]\n" +
			"group 4 other ready: [1 dnode 1] [2 dnode 2] [3 arbitrator ef000000]\n" +
			"group 5 other ready: [1 dnode 1] [2 dnode 2] [3 arbitrator ef000000]\n"
		if got := w.String(); got != want {
			t.Fatalf("seed %d: got\n%s\nwant\n%s\nafter\n%s", seed, got, want, w.log)
		}
		for e, live := range w.arb.records {
			if _, member := w.v.Group(e.Group); live && !member {
				t.Errorf("seed %d: the arbitrator still keeps %+v", seed, e)
			}
		}
	}
}
