package consensus

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/tarbitrator/tarbitrator/arbitrator"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// stage runs machines of data hosts and one arbitrator over a perfect network
// and instant disks, so that a script can tell what happens when one of them is
// taken away. Timing under faults is the simulation's business (test/sim).
type stage struct {
	t     *testing.T
	now   time.Duration
	hosts map[string]*actor
	arb   *arbitrator.Machine
	away  map[string]bool // takes part in nothing
	hung  map[string]bool // its disk finishes no write
	deaf  map[string]bool // its cable is out
	said  map[string]int  // messages to the arbitrator, by kind
	log   strings.Builder
	next  uint64
	conf  Config
	copies
}

type actor struct {
	name    string
	uuid    id.UUID
	m       *Machine
	log     *memLog
	inbox   []Event
	pending []Event // Written, while the disk hangs
	list
	history []string // of changes of leader, as it saw them
}

var arbUUID = id.UUID{0xee}

const cluster = id.Cluster(7)

func newStage(t *testing.T) *stage {
	return &stage{
		t: t, hosts: map[string]*actor{}, away: map[string]bool{}, hung: map[string]bool{}, deaf: map[string]bool{}, said: map[string]int{},
		arb: newArbitrator(), conf: DefaultConfig(), copies: newCopies(),
	}
}

func newArbitrator() *arbitrator.Machine {
	return arbitrator.NewMachine(arbitrator.DefaultConfig(), arbUUID, 0, nil)
}

func (s *stage) host(name string) *actor {
	a := s.hosts[name]
	if a == nil {
		a = &actor{name: name, uuid: id.UUID{name[0]}, log: newMemLog()}
		a.m = NewMachine(s.conf, a.uuid, a.log)
		s.hosts[name] = a
	}
	return a
}

func (s *stage) names() []string { return slices.Sorted(maps.Keys(s.hosts)) }

// form makes a group of the named hosts and, with an even number of them, the
// arbitrator.
func (s *stage) form(g id.Group, names []string) {
	var spec GroupSpec
	spec.Group, spec.Formed = g, true
	for i, n := range names {
		spec.Members = append(spec.Members, Member{Replica: id.Replica(i + 1), UUID: s.host(n).uuid})
	}
	if len(names)%2 == 0 {
		w := id.Replica(len(names) + 1)
		spec.Members = append(spec.Members, Member{Replica: w, UUID: arbUUID, Witness: true})
		s.toArb(s.host(names[0]), []peer.Message{{Kind: peer.KindEnroll, Group: g, To: w, Enroll: &peer.Enroll{Witness: arbUUID}}})
	}
	for i, n := range names {
		spec.Replica = id.Replica(i + 1)
		a := s.host(n)
		a.inbox = append(a.inbox, Create{Spec: spec})
	}
	s.settle()
}

// run lets time pass.
func (s *stage) run(d time.Duration) {
	for end := s.now + d; s.now < end; {
		s.now += DefaultConfig().Tick
		for _, n := range s.names() {
			if !s.away[n] {
				s.hosts[n].inbox = append(s.hosts[n].inbox, Tick{})
			}
		}
		s.settle()
	}
}

// settle steps machines until nothing is under way.
func (s *stage) settle() {
	for busy := true; busy; {
		busy = false
		for _, n := range s.names() {
			a := s.hosts[n]
			if s.away[n] || len(a.inbox) == 0 {
				continue
			}
			busy = true
			events := a.inbox
			a.inbox = nil
			if effects := a.m.Step(s.now, events); !s.dies(a) {
				s.act(a, effects)
			}
		}
	}
}

func (s *stage) act(a *actor, effects []Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case Write:
			a.log.do(e.Ops)
			a.pending = append(a.pending, Written{Seq: e.Seq})
		case Send:
			s.send(a, e)
		case Apply:
			for _, en := range e.Entries {
				a.applied = append(a.applied, string(en.Data))
			}
			a.at = e.Index
			s.finish(a, Applied{Group: e.Group, Index: e.Index})
		case Capture, Install, Fetch:
			s.copying(a, e)
		case Refused:
			if s.notCopied(e) {
				continue
			}
			fmt.Fprintf(&s.log, "%s refuses: %v\n", a.name, e.Err)
		case ReadReady:
			fmt.Fprintf(&s.log, "%s may read at %d\n", a.name, e.Index)
		case LeaderChange:
			if e.Self {
				fmt.Fprintf(&s.log, "%s is master of %d\n", a.name, e.Group)
			}
		case FailedOver:
			a.history = append(a.history, fmt.Sprintf("%s leads %d groups, before %s: %v; detection %v, vote %v, first write %v, %v", a.name,
				e.Groups, s.nameOf(e.From), e.Cause, e.Detection, e.Vote, e.FirstWrite, e.Mode))
		case Deposed:
			a.history = append(a.history, fmt.Sprintf("%s led %v: %v %v", a.name, e.Ended, e.Cause, e.Stood))
		case Report:
			if e.What == "feed changed" || e.Bad {
				fmt.Fprintf(&s.log, "%s: %s %s\n", a.name, e.What, args(e.Args))
			}
		}
	}
	if !s.hung[a.name] {
		a.inbox = append(a.inbox, a.pending...)
		a.pending = nil
	}
}

func args(list []any) string {
	var parts []string
	for i := 0; i+1 < len(list); i += 2 {
		if k := list[i]; k == "from" || k == "to" || k == "reason" || k == "err" {
			parts = append(parts, fmt.Sprintf("%v=%v", k, list[i+1]))
		}
	}
	return strings.Join(parts, " ")
}

func (s *stage) nameOf(u id.UUID) string {
	if u.IsZero() {
		return "nobody"
	}
	return string(u[0])
}

func (s *stage) send(a *actor, e Send) {
	if s.deaf[a.name] || s.losesAck(a.name, e) {
		return
	}
	if e.To == arbUUID {
		s.toArb(a, e.Messages)
		return
	}
	for _, n := range s.names() {
		if b := s.hosts[n]; b.uuid == e.To && !s.away[n] && !s.deaf[n] && !s.losesOffer(n, e) {
			b.inbox = append(b.inbox, Received{From: a.uuid, Messages: e.Messages})
		}
	}
}

func (s *stage) toArb(a *actor, msgs []peer.Message) {
	for _, m := range msgs {
		s.said[fmt.Sprint(m.Kind)]++
		if m.Kind == peer.KindFeed {
			s.said["feeds"]++
		}
	}
	if s.away["arbitrator"] {
		return
	}
	effects := s.arb.Step(s.now, []arbitrator.Event{arbitrator.Received{Cluster: cluster, From: a.uuid, To: arbUUID, Messages: msgs}})
	for len(effects) > 0 {
		var after []arbitrator.Event
		for _, e := range effects {
			switch e := e.(type) {
			case arbitrator.Write:
				after = append(after, arbitrator.Synced{Seq: e.Seq})
			case arbitrator.Send:
				a.inbox = append(a.inbox, Received{From: arbUUID, Messages: e.Messages})
			}
		}
		if effects = nil; len(after) > 0 {
			effects = s.arb.Step(s.now, after)
		}
	}
}

func (s *stage) change(a *actor, c Change) {
	s.next++
	a.inbox = append(a.inbox, ChangeMembers{Group: 2, Ticket: s.next, Change: c})
	s.run(200 * time.Millisecond)
}

// newcomer makes a host, which learns everything from the log, the other data
// voter beside one that was alone.
func (s *stage) newcomer(a, master *actor, group id.Group) {
	spec := GroupSpec{Group: group, Replica: 2001, Formed: true}
	for i, u := range []id.UUID{{'a'}, {'b'}, arbUUID} {
		spec.Members = append(spec.Members, Member{Replica: id.Replica(i + 1), UUID: u, Witness: u == arbUUID})
	}
	a.inbox = append(a.inbox, Create{Spec: spec})
	s.change(master, Change{AddLearner: []Member{{Replica: 2001, UUID: a.uuid}}})
	s.toArb(master, []peer.Message{{Kind: peer.KindEnroll, Group: group, To: 2002, Enroll: &peer.Enroll{Witness: arbUUID}}})
	s.change(master, Change{AddVoter: []Member{{Replica: 2001, UUID: a.uuid}, {Replica: 2002, UUID: arbUUID, Witness: true}}})
	s.run(time.Second)
}

// recover does to a host's log what tnode recover does (R35).
func (s *stage) recover(a *actor, group id.Group) {
	all, err := ReadRemains(a.log)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range all {
		if r.Group != group {
			continue
		}
		for _, mem := range r.Members {
			if mem.Witness {
				s.toArb(a, []peer.Message{{Kind: peer.KindRetire, Group: group, To: mem.Replica, Enroll: &peer.Enroll{Witness: arbUUID}}})
			}
		}
		op := r.Only(r.Replica+1000, a.uuid, []byte("recovered"))
		a.log.do([]wal.Op{op})
		fmt.Fprintf(&s.log, "%s had %d entries, and goes on as replica %d\n", a.name, r.Last.Index, r.Replica+1000)
	}
	a.inbox = nil
}

func (s *stage) restart(name string) {
	a := s.host(name)
	a.inbox, a.pending = nil, nil
	s.died(a)
	a.m = NewMachine(s.conf, a.uuid, a.log)
	for _, g := range a.log.Groups() {
		a.list.reopen(g.Mark)
		a.inbox = append(a.inbox, Attach{Group: g.Group})
	}
	delete(s.away, name)
}

func (s *stage) status(g id.Group) {
	for _, n := range s.names() {
		if s.away[n] {
			fmt.Fprintf(&s.log, "%s away\n", n)
			continue
		}
		for _, st := range s.hosts[n].m.Status() {
			if st.Group == g {
				fmt.Fprintf(&s.log, "%s %s feed=%s mode=%s applied=%d %s\n",
					n, st.Role, st.Feed, st.Mode, st.Applied, strings.Join(s.hosts[n].applied, " "))
			}
		}
	}
}

// TestStories runs the scripts under testdata/story.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/story", func(t *testing.T, path string) {
		cryptotest.SetGlobalRandom(t, 1) // the library's election timeouts: a is first
		s := newStage(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.command(t, d)
			out := s.log.String()
			s.log.Reset()
			return out
		})
	})
}

func (s *stage) command(t *testing.T, d *datadriven.TestData) {
	name := func() string { return d.CmdArgs[0].Key }
	group := id.Group(2)
	switch d.Cmd {
	case "form", "form-mnode":
		if d.Cmd == "form-mnode" {
			group = id.Mnode
		}
		var names []string
		for _, a := range d.CmdArgs {
			names = append(names, a.Key)
		}
		s.form(group, names)
	case "run":
		dur, err := time.ParseDuration(name())
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		s.run(dur)
	case "propose":
		s.next++
		a := s.host(name())
		a.inbox = append(a.inbox, Propose{Group: group, Tickets: []uint64{s.next}, Data: [][]byte{[]byte(d.CmdArgs[1].Key)}})
		s.settle()
	case "read":
		s.next++
		a := s.host(name())
		a.inbox = append(a.inbox, Read{Group: group, Ticket: s.next})
		s.settle()
	case "kill": // the others' redial is refused
		s.away[name()] = true
		for _, n := range s.names() {
			s.hosts[n].inbox = append(s.hosts[n].inbox, Link{Peer: s.host(name()).uuid, State: LinkRefused})
		}
		s.settle()
	case "cut":
		s.away[name()] = true
	case "unplug":
		s.deaf[name()] = true
	case "plug":
		delete(s.deaf, name())
	case "full":
		a := s.host(name())
		a.inbox = append(a.inbox, DiskSpace{Full: true})
		s.settle()
	case "goodbye": // and it is gone
		a := s.host(name())
		a.inbox = append(a.inbox, Leaving{})
		s.settle()
		s.away[name()] = true
	case "transfer":
		a := s.host(name())
		a.inbox = append(a.inbox, Transfer{Group: group, To: 2})
		s.settle()
	case "history": // what was seen since the last time
		for _, n := range s.names() {
			for _, line := range s.hosts[n].history {
				fmt.Fprintln(&s.log, line)
			}
			s.hosts[n].history = nil
		}
	case "heal":
		delete(s.away, name())
		if a := s.hosts[name()]; a != nil { // the arbitrator is none
			a.inbox = nil
		}
	case "restart":
		s.restart(name())
		for _, n := range s.names() {
			s.hosts[n].inbox = append(s.hosts[n].inbox, Link{Peer: s.host(name()).uuid, State: LinkUp})
		}
		s.settle()
	case "join": // a host with the founding record of others asks to be let in
		a, w := s.host(name()), id.Replica(9)
		founder := s.host(d.CmdArgs[1].Key)
		spec := GroupSpec{Group: group, Replica: 2, Formed: true, Members: []Member{{Replica: 1, UUID: founder.uuid}}}
		a.inbox = append(a.inbox, Create{Spec: spec})
		s.change(founder, Change{AddLearner: []Member{{Replica: 2, UUID: a.uuid}}})
		s.status(group)
		s.toArb(founder, []peer.Message{{Kind: peer.KindEnroll, Group: group, To: w, Enroll: &peer.Enroll{Witness: arbUUID}}})
		s.change(founder, Change{AddVoter: []Member{{Replica: 2, UUID: a.uuid}, {Replica: w, UUID: arbUUID, Witness: true}}})
	case "newcomer": // newcomer c b: c starts from the founding record and is let in by b
		s.newcomer(s.host(name()), s.host(d.CmdArgs[1].Key), group)
	case "recover": // of the stopped host: it goes on alone, and the arbitrator's record is retired
		s.recover(s.host(name()), group)
	case "hand-over":
		a := s.host(name())
		a.inbox = append(a.inbox, Stopping{})
		s.settle()
	case "members":
		for _, st := range s.host(name()).m.Status() {
			for _, mem := range st.Members {
				fmt.Fprintf(&s.log, "replica %d witness=%v learner=%v %s\n", mem.Replica, mem.Witness, mem.Learner, mem.Role)
			}
		}
	case "hang":
		s.hung[name()] = true
	case "status":
		s.status(group)
	case "said": // how much the arbitrator was told since the last time
		keys := slices.Collect(maps.Keys(s.said))
		sort.Strings(keys)
		fmt.Fprintf(&s.log, "feeds=%d\n", s.said["feeds"])
		s.said = map[string]int{}
	default:
		s.copyCommand(t, d)
	}
}
