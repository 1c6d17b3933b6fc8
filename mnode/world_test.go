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
	arb    *worldArbitrator // the one in force, or the first
	arbs   map[string]*worldArbitrator
	config string // the arbitrator in every host's configuration, but for those that have their own
	rafts  map[id.Group]*worldRaft
	leader id.Host // of all groups that it can lead, as with two hosts (R44)
	log    *strings.Builder
}

// worldHost has replicas; a group that it ever held and lost is never made again.
type worldHost struct {
	uuid     id.UUID
	endPoint string
	up       bool
	seen     *View
	held     map[id.Group]id.Replica
	config   string // its own arbitrator key, empty: as everybody's
}

type worldArbitrator struct {
	uuid    id.UUID
	up      bool
	records map[Enrolment]bool // false: retired for ever
}

// worldRaft is the configuration that a group has applied.
type worldRaft struct {
	group   id.Group
	members []consensus.MemberStatus
	last    id.Index
	leader  id.UUID
	term    id.Term
}

func newWorld(t *testing.T, arbitrator bool) *world {
	w := &world{
		t: t, now: birth, v: &View{}, index: 1, hosts: map[id.Host]*worldHost{}, rafts: map[id.Group]*worldRaft{},
		arbs: map[string]*worldArbitrator{}, leader: 1, log: &strings.Builder{},
	}
	found := Found{Cluster: 7, Name: "plant", EndPoint: "a:6030", UUID: uuidA, RootHash: testHash}
	if arbitrator {
		w.arb = &worldArbitrator{uuid: uuidW, up: true, records: map[Enrolment]bool{}}
		w.arbs["w:6042"], w.config = w.arb, "w:6042"
		found.Arbitrator, found.Witness = w.config, uuidW
	}
	w.hosts[1] = &worldHost{uuid: uuidA, endPoint: "a:6030", up: true, held: map[id.Group]id.Replica{id.Mnode: 1}}
	w.rafts[id.Mnode] = &worldRaft{group: id.Mnode, last: 100, members: []consensus.MemberStatus{
		{Member: consensus.Member{Replica: 1, UUID: uuidA}, Match: 100},
	}}
	w.newMaster()
	w.commit(found)
	return w
}

// newMaster is a master that knows nothing but the log.
func (w *world) newMaster() {
	w.facts = Facts{
		NumOfMnodes: 3, Interval: time.Second, OfflineThreshold: 10 * 24 * time.Hour, Began: w.now,
		Hosts: map[id.Host]Heard{}, Enrolled: map[Enrolment]bool{}, Retired: map[Enrolment]bool{},
		Asked: map[string]Answered{}, Linked: map[id.UUID]bool{}, Changing: map[id.Group]time.Time{},
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
	for _, h := range w.hosts {
		if h.up {
			h.seen = w.v
			w.equal(h)
		}
	}
	w.elect()
	for n, h := range w.hosts {
		if h.up {
			w.facts.Hosts[n] = Heard{Report: w.report(n, h), At: w.now}
		}
	}
	if a := w.arbs[w.v.Arbitrator.EndPoint]; a != nil {
		if w.arb = a; a.up {
			w.facts.Answers, w.facts.AnswersAt, w.facts.AnswersFrom = a.uuid, w.now, w.v.Arbitrator.EndPoint
		}
	}
	w.facts.notice(w.now, w.v)
	for _, d := range w.v.Dnodes {
		w.facts.Linked[d.UUID] = w.alive(d.UUID)
	}
	for _, former := range w.v.Former {
		a := w.arbs[former.EndPoint]
		w.facts.Linked[former.UUID] = a != nil && a.up && a.uuid == former.UUID
	}
}

// elect gives every group that has a quorum and no leader one, the world's own
// if that can lead it.
func (w *world) elect() {
	for _, raft := range w.rafts {
		if w.leads(raft, raft.leader) && w.quorum(raft) {
			continue
		}
		raft.leader = id.UUID{}
		if !w.quorum(raft) {
			continue
		}
		raft.term++
		for _, m := range raft.members {
			if w.leads(raft, m.UUID) && (raft.leader.IsZero() || m.UUID == w.hosts[w.leader].uuid) {
				raft.leader = m.UUID
			}
		}
	}
}

// leads reports whether a directory is that of a data voter that is up.
func (w *world) leads(raft *worldRaft, u id.UUID) bool {
	return w.holds(raft, u) && slices.ContainsFunc(raft.members, func(m consensus.MemberStatus) bool {
		return m.UUID == u && !m.Witness && !m.Learner
	})
}

func (w *world) equal(h *worldHost) {
	for _, g := range h.seen.Groups {
		m, mine := g.On(h.uuid)
		replica, has := h.held[g.ID]
		if has && (g.State == Dropping || !mine || m.Replica != replica) {
			delete(h.held, g.ID)
			has = false
		}
		if mine && !has && (g.State == Creating || g.State == Formed && m.Joining) {
			h.held[g.ID] = m.Replica
		}
		if g.State == Formed && w.rafts[g.ID] == nil {
			raft := &worldRaft{group: g.ID, last: 1}
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
	r := Report{
		Dnode: n, UUID: h.uuid, EndPoint: h.endPoint, Done: h.seen.Index, Seen: h.seen.Index,
		Settings: map[string]string{settingArbitrator: cmp.Or(h.config, w.config)},
	}
	for g, replica := range h.held {
		rec, _ := h.seen.Group(g)
		line := GroupReport{Group: g, Replica: replica, Epoch: rec.Epoch, Formed: rec.State == Formed}
		if raft := w.rafts[g]; raft != nil && rec.State == Formed {
			line.Last, line.Term = raft.last, raft.term
			line.Leader, line.Role = raft.leader, consensus.RoleSlave
			if raft.leader == h.uuid {
				line.Role = consensus.RoleMaster
			}
			line.Members = slices.Clone(raft.members)
			for i := range line.Members {
				switch m := &line.Members[i]; {
				case m.UUID == raft.leader:
					m.Role = consensus.RoleMaster
				case !m.Witness && w.alive(m.UUID):
					m.Role = consensus.RoleSlave
				default:
					m.Role = consensus.RoleOffline
				}
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
		if m.Witness && w.arbitrates(m.UUID) || !m.Witness && w.holds(raft, m.UUID) {
			up++
		}
	}
	return up > all/2
}

// arbitrates reports whether an arbitrator's directory is up, and where hosts
// look for it.
func (w *world) arbitrates(u id.UUID) bool {
	return w.serving(u) != nil
}

func (w *world) serving(u id.UUID) *worldArbitrator {
	for _, known := range append(slices.Clone(w.v.Former), w.v.Arbitrator) {
		if a := w.arbs[known.EndPoint]; a != nil && a.up && a.uuid == u {
			return a
		}
	}
	return nil
}

// holds reports whether a directory is up and has its replica: a group that was
// formed without it never gave it one.
func (w *world) holds(raft *worldRaft, u id.UUID) bool {
	for _, h := range w.hosts {
		if h.uuid == u {
			_, has := h.held[raft.group]
			return h.up && has
		}
	}
	return false
}

// enrolled reports whether an arbitrator has a record, whether or not it is up.
func (w *world) enrolled(e Enrolment) bool {
	for _, a := range w.arbs {
		if a.uuid == e.Witness && a.records[e] {
			return true
		}
	}
	return false
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
		arb := w.serving(a.Witness)
		if arb == nil {
			if w.arbUp() {
				w.t.Fatalf("%s for another directory: %+v", what, a)
			}
			fmt.Fprintf(w.log, "%s group %d replica %d: no answer\n", what, a.Group, a.Replica)
			return
		}
		if live, known := arb.records[a.Enrolment]; !a.Retire && known && !live {
			w.facts.Retired[a.Enrolment] = true // as Master.act does
			fmt.Fprintf(w.log, "enroll group %d replica %d: it was retired\n", a.Group, a.Replica)
			return
		}
		arb.records[a.Enrolment] = !a.Retire
		if a.Retire {
			w.facts.Retired[a.Enrolment] = true
		} else {
			w.facts.Enrolled[a.Enrolment] = true
		}
		fmt.Fprintf(w.log, "%s group %d replica %d\n", what, a.Group, a.Replica)
	case Change:
		w.change(a)
	case Transfer:
		raft := w.rafts[a.Group]
		i := slices.IndexFunc(raft.members, func(m consensus.MemberStatus) bool { return m.Replica == a.To })
		if i < 0 || !w.leads(raft, raft.members[i].UUID) {
			w.t.Fatalf("%+v: it can't lead", a)
		}
		raft.leader, raft.term = raft.members[i].UUID, raft.term+1
		fmt.Fprintf(w.log, "transfer group %d: to %d\n", a.Group, a.To)
	case Ask:
		if arb := w.arbs[a.EndPoint]; arb == nil || !arb.up {
			fmt.Fprintf(w.log, "ask %s: no answer\n", a.EndPoint)
		} else {
			fmt.Fprintf(w.log, "ask %s: %s\n", a.EndPoint, arb.uuid.Short())
			w.facts.Asked[a.EndPoint] = Answered{UUID: arb.uuid, At: w.now}
		}
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
	case DropDnode:
		out = fmt.Sprintf(" %d", c.Dnode)
	case MoveDnode:
		out = fmt.Sprintf(" %d to %s", r.Number, c.EndPoint)
	case KeepDnode:
		out = fmt.Sprintf(" %d", c.Dnode)
	case MarkOffline:
		out = fmt.Sprintf(" %d, since %s", c.Dnode, sinceBirth(c.Since))
	case SetArbitrator:
		out = fmt.Sprintf(" %s %s", c.EndPoint, c.UUID.Short())
	}
	if r.Err != nil {
		out += " refused: " + r.Err.Text
	}
	return out
}

func sinceBirth(at time.Time) string {
	if at.IsZero() {
		return "it is back"
	}
	return at.Sub(birth).Round(time.Minute).String()
}

// change applies a membership change as consensus would, and checks the rules
// that only the planner can keep.
func (w *world) change(a Change) {
	raft := w.rafts[a.Group]
	w.facts.Changing[a.Group] = w.now
	fmt.Fprintf(w.log, "change group %d:", a.Group)
	for _, m := range a.Change.AddLearner {
		fmt.Fprintf(w.log, " learner %d", m.Replica)
		raft.members = append(raft.members, consensus.MemberStatus{Member: m, Match: raft.last})
	}
	for _, m := range a.Change.AddVoter {
		fmt.Fprintf(w.log, " voter %d", m.Replica)
		if m.Witness && !w.enrolled(Enrolment{a.Group, m.Replica, m.UUID}) {
			w.t.Fatalf("group %d: replica %d votes before it is enrolled", a.Group, m.Replica)
		}
		raft.members = slices.DeleteFunc(slices.Clone(raft.members), func(x consensus.MemberStatus) bool { return x.Replica == m.Replica })
		raft.members = append(raft.members, consensus.MemberStatus{Member: m, Match: raft.last})
	}
	for _, r := range a.Change.Remove {
		fmt.Fprintf(w.log, " not %d", r)
		if slices.ContainsFunc(raft.members, func(m consensus.MemberStatus) bool { return m.Replica == r && m.UUID == raft.leader }) {
			w.t.Fatalf("group %d: the leader is removed (R21)", a.Group)
		}
		raft.members = slices.DeleteFunc(slices.Clone(raft.members), func(x consensus.MemberStatus) bool { return x.Replica == r })
	}
	fmt.Fprintln(w.log)
	if !w.quorum(raft) {
		w.t.Fatalf("group %d stops: too few of its new voters are there", a.Group)
	}
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
	w.rounds(manyRounds, crash)
}

const manyRounds = 10000

// rounds lets the master work n times.
func (w *world) rounds(n int, crash func() bool) {
	idle := 0
	for range n {
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
		if done && w.log.Len() > before {
			idle = 0
		} else if idle++; idle > 2*int(actionTimeout/time.Second) {
			return // nothing is waited for that time alone brings
		} else {
			w.now = w.now.Add(time.Second)
		}
		if stuck := !w.arbUp() && onlyEnrolments(actions); len(actions) > 0 && (stuck || onlyQuestions(actions) && len(w.facts.Asked) == 0) {
			return
		}
	}
	if n == manyRounds {
		w.t.Fatalf("never settles:\n%s", w.log)
	}
}

func (w *world) arbUp() bool { return w.arb == nil || w.arb.up }

func onlyQuestions(actions []Action) bool {
	return !slices.ContainsFunc(actions, func(a Action) bool { _, ok := a.(Ask); return !ok })
}

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
		of := fmt.Sprintf("group %d", t.Group)
		if t.Dnode != 0 {
			of = fmt.Sprintf("dnode %d", t.Dnode)
		}
		fmt.Fprintf(&b, "%s of %s: %s\n", t.What, of, cmp.Or(t.Waiting, "under way"))
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
		w.commit(AlterReplica{Name: "other", Replica: 3})
		w.settle(crash)
		w.commit(RestoreDnode{Dnode: 2}) // its directory is gone
		w.hosts[2].up = false
		w.settle(crash)
		w.addHost(2, id.UUID{0xb2}, "b:6030")
		w.settle(crash)
		w.arbs["w2:6042"] = &worldArbitrator{uuid: id.UUID{0xe2}, up: true, records: map[Enrolment]bool{}}
		w.commit(SetArbitrator{EndPoint: "w2:6042", UUID: id.UUID{0xe2}, Configured: "w:6042"})
		w.commit(AlterReplica{Name: "other", Replica: 2})
		w.settle(crash)
		w.commit(DropDnode{Dnode: 3})
		w.settle(crash)
		if got, want := w.members(), "1: 1 2 w\n4: 1 2 w\n5: 1 2 w\n"; got != want {
			t.Fatalf("seed %d: got\n%s\nwant\n%s\nafter\n%s", seed, got, want, w.log)
		}
		for at, arb := range w.arbs {
			for e, live := range arb.records {
				g, _ := w.v.Group(e.Group)
				m, member := g.Witness()
				if live && (!member || m.Replica != e.Replica || m.UUID != e.Witness) {
					t.Errorf("seed %d: the arbitrator %s still keeps %+v", seed, at, e)
				}
			}
		}
	}
}

// members is who votes in each group: dnodes by number, w for the arbitrator.
// Replica ids depend on how often a step was begun, so they are left out.
func (w *world) members() string {
	var b strings.Builder
	for _, g := range w.v.Groups {
		var names []string
		for _, m := range g.Members {
			name := fmt.Sprint(m.Dnode)
			if m.Witness {
				name = "w"
			}
			if m.Joining || m.Leaving || w.v.gone(m) {
				name += " on its way"
			}
			names = append(names, name)
		}
		slices.Sort(names)
		fmt.Fprintf(&b, "%d: %s\n", g.ID, strings.Join(names, " "))
	}
	return b.String()
}
