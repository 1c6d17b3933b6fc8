package consensus

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/cockroachdb/datadriven"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// list is the state machine of the stories: it appends. What it held at a
// checkpoint and at the end of a copy outlives the machine.
type list struct {
	applied []string
	at      id.Index
	saved   map[id.Index][]string // checkpoints
	copied  map[id.Index][]string // finished copies
}

func (l *list) save(to *map[id.Index][]string, at id.Index, state []string) {
	if *to == nil {
		*to = map[id.Index][]string{}
	}
	(*to)[at] = slices.Clone(state)
}

// reopen is what a state machine does when it is opened with the log's mark.
func (l *list) reopen(mark id.Index) {
	state, ok := l.copied[mark]
	if !ok {
		state = l.saved[mark] // none: from the beginning
	}
	l.applied, l.at = slices.Clone(state), mark
	maps.DeleteFunc(l.copied, func(at id.Index, _ []string) bool { return at != mark })
}

// copies carries states from host to host.
type copies struct {
	held    bool             // they arrive when they are told to
	lostFor map[string]int   // so many offers to this host are lost
	unheard map[string]int   // so many frames with acknowledgements of this host are lost
	slow    map[string]bool  // this host's state machine finishes nothing
	late    []func()         // what they have yet to finish
	asked   map[uint64]asker // by ticket
	on      []func()         // on their way
	victim  string           // whose process ends before it acts on its step number after
	after   int
}

// asker waits for an answer of a host.
type asker struct {
	a    *actor
	m    *Machine // of a; another one: it has died since
	from *actor
	f    Fetch
}

// end ends the Fetch.
func (q *asker) end(e Fetched) {
	if q.a.m == q.m {
		e.Group, e.Attempt = q.f.Group, q.f.Attempt
		q.a.inbox = append(q.a.inbox, e)
	}
}

// died breaks off the copies from a host.
func (s *stage) died(from *actor) {
	for _, ticket := range slices.Sorted(maps.Keys(s.asked)) {
		if q := s.asked[ticket]; q.from == from {
			delete(s.asked, ticket)
			q.end(Fetched{Err: errors.New("connection lost")})
		}
	}
}

func newCopies() copies {
	return copies{asked: map[uint64]asker{}, lostFor: map[string]int{}, unheard: map[string]int{}, slow: map[string]bool{}}
}

func (s *stage) copying(a *actor, e Effect) {
	switch e := e.(type) {
	case Fetch:
		fmt.Fprintf(&s.log, "%s fetches what is above %d from %s\n", a.name, e.Above, s.nameOf(e.From))
		s.next++
		from := s.host(s.nameOf(e.From))
		s.asked[s.next] = asker{a, a.m, from, e}
		from.inbox = append(from.inbox, AskCopy{Group: e.Group, For: a.uuid, Above: e.Above, Ticket: s.next})
	case Capture:
		q, known := s.asked[e.Ticket]
		if !known { // of the command
			fmt.Fprintf(&s.log, "%s gives a copy of %d\n", a.name, e.Image.Index)
			return
		}
		state := slices.Clone(a.applied)
		s.on = append(s.on, func() {
			if _, waits := s.asked[e.Ticket]; !waits {
				return
			}
			delete(s.asked, e.Ticket)
			if q.a.m == q.m {
				q.a.save(&q.a.copied, e.Image.Index, state)
			}
			q.end(Fetched{Image: e.Image})
		})
		if !s.held {
			s.deliver()
		}
	case Install:
		fmt.Fprintf(&s.log, "%s installs the copy of %d\n", a.name, e.Index)
		a.applied, a.at = slices.Clone(a.copied[e.Index]), e.Index
		s.finish(a, Applied(e))
	}
}

// notCopied takes the refusal of a copy.
func (s *stage) notCopied(e Refused) bool {
	q, ok := s.asked[e.Ticket]
	if ok {
		delete(s.asked, e.Ticket)
		fmt.Fprintf(&s.log, "%s gets no copy: %v\n", q.a.name, e.Err)
		q.end(Fetched{Err: e.Err})
	}
	return ok
}

// finish tells a machine that something is applied, unless the host is slow.
func (s *stage) finish(a *actor, e Applied) {
	if s.slow[a.name] {
		s.late = append(s.late, func() { a.inbox = append(a.inbox, e) })
		return
	}
	a.inbox = append(a.inbox, e)
}

// losesAck reports whether a frame with acknowledgements gets lost.
func (s *stage) losesAck(from string, e Send) bool {
	acks := slices.ContainsFunc(e.Messages, func(m peer.Message) bool {
		return m.Raft != nil && m.Raft.GetType() == raftpb.MsgAppResp
	})
	if !acks || s.unheard[from] == 0 {
		return false
	}
	s.unheard[from]--
	return true
}

// losesOffer reports whether a frame with an offer of a copy gets lost.
func (s *stage) losesOffer(to string, e Send) bool {
	offers := slices.ContainsFunc(e.Messages, func(m peer.Message) bool {
		return m.Raft != nil && m.Raft.GetType() == raftpb.MsgSnap
	})
	if !offers || s.lostFor[to] == 0 {
		return false
	}
	s.lostFor[to]--
	return true
}

func (s *stage) deliver() {
	on := s.on
	s.on = nil
	for _, f := range on {
		f()
	}
}

// dies reports whether the machine of a ends instead of acting on its step, and
// starts it again.
func (s *stage) dies(a *actor) bool {
	if s.victim != a.name {
		return false
	}
	if s.after--; s.after >= 0 {
		return false
	}
	s.victim = ""
	s.restart(a.name)
	return true
}

// checkpoint makes what a host has applied outlive it.
func (s *stage) checkpoint(a *actor) {
	a.save(&a.saved, a.at, a.applied)
	a.inbox = append(a.inbox, Checkpointed{Group: 2, Index: a.at})
	s.settle()
}

func (s *stage) fill(a *actor, n int) {
	for i := range n {
		s.next++
		a.inbox = append(a.inbox, Propose{Group: 2, Tickets: []uint64{s.next}, Data: [][]byte{fmt.Appendf(nil, "%s%d", a.name, i)}})
		s.settle()
	}
}

func (s *stage) copyCommand(t *testing.T, d *datadriven.TestData) {
	name := func() string { return d.CmdArgs[0].Key }
	number := func(i int) int {
		n, err := strconv.Atoi(d.CmdArgs[i].Key)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		return n
	}
	switch d.Cmd {
	case "keep": // so many entries for a replica that lacks them
		s.conf.KeepForReplicaBytes = uint64(100 * number(0))
	case "fill":
		s.fill(s.host(name()), number(1))
	case "checkpoint":
		s.checkpoint(s.host(name()))
	case "hold": // copies are on their way until they are delivered
		s.held = true
	case "deliver":
		s.deliver()
		s.settle()
	case "lose": // offers to a host
		s.lostFor[name()] = number(1)
	case "release": // the second host has not read from the first for long
		a := s.host(name())
		a.inbox = append(a.inbox, Release{Group: 2, For: s.host(d.CmdArgs[1].Key).uuid, Index: id.Index(number(2))})
		s.settle()
	case "lose-acks": // of a host
		s.unheard[name()] = number(1)
	case "slow":
		s.slow[name()] = true
	case "fast":
		delete(s.slow, name())
		for _, f := range s.late {
			f()
		}
		s.late = nil
		s.settle()
	case "ask": // the first for a copy, as the second, above an entry
		s.next++
		a := s.host(name())
		a.inbox = append(a.inbox, AskCopy{Group: 2, For: id.UUID{d.CmdArgs[1].Key[0]}, Above: id.Index(number(2)), Ticket: s.next})
		s.settle()
	case "replace": // a leader; the replica of one host by replica 9 on another
		a, n := s.host(name()), s.host(d.CmdArgs[2].Key)
		gone := s.host(d.CmdArgs[1].Key)
		fresh := Member{Replica: 9, UUID: n.uuid}
		n.inbox = append(n.inbox, Create{Spec: GroupSpec{Group: 2, Replica: 9, Formed: true, Members: []Member{{Replica: 1, UUID: a.uuid}}}})
		s.change(a, Change{AddLearner: []Member{fresh}})
		s.run(2 * time.Second)
		s.change(a, Change{AddVoter: []Member{fresh}, Remove: []id.Replica{2}})
		s.run(time.Second)
		s.away[gone.name] = true
	case "logs":
		for _, n := range s.names() {
			for _, g := range s.hosts[n].log.Groups() {
				fmt.Fprintf(&s.log, "%s log %d to %d, mark %d, applied %d, %d values\n", n, g.Start.Index, g.Last.Index, g.Mark, s.hosts[n].at, len(s.hosts[n].applied))
			}
		}
	case "same":
		s.same(t)
	default:
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
}

// same checks that all hosts that are there hold the same.
func (s *stage) same(t *testing.T) {
	t.Helper()
	var first *actor
	for _, n := range s.names() {
		switch a := s.hosts[n]; {
		case s.away[n]:
		case first == nil:
			first = a
		case !slices.Equal(a.applied, first.applied):
			t.Errorf("%s holds %d values up to entry %d, %s holds %d up to entry %d",
				n, len(a.applied), a.at, first.name, len(first.applied), first.at)
		}
	}
}

// TestCopyCutAtEveryStep ends the receiver's process, or the sender's, after
// each step of a copy. Nobody may be left with half a state, and all is well at
// the end.
func TestCopyCutAtEveryStep(t *testing.T) {
	for _, victim := range []string{"a", "b"} {
		for steps, done := 0, false; !done; steps++ {
			t.Run(fmt.Sprintf("%s after %d steps", victim, steps), func(t *testing.T) {
				cryptotest.SetGlobalRandom(t, 1)
				s := newStage(t)
				s.conf.KeepForReplicaBytes = 500
				s.form(2, []string{"a", "b"})
				s.run(time.Second)
				s.away["b"] = true
				s.run(time.Second)
				s.fill(s.host("a"), 50)
				s.checkpoint(s.host("a"))
				s.run(2 * time.Second)
				if start := s.host("a").log.groups[2].state.Start.Index; start < 30 {
					t.Fatalf("a's log begins after %d: b needs no copy", start)
				}
				delete(s.away, "b")
				s.host("b").inbox = nil
				s.after, s.victim = steps, victim
				s.run(2 * time.Second)
				done = s.victim != "" // all was over before
				s.victim = ""
				s.run(4 * time.Second)
				s.fill(s.host("a"), 1)
				s.fill(s.host("b"), 1)
				s.run(time.Second)
				s.same(t)
				for n, h := range s.hosts {
					if g := h.log.groups[2].state; g.Hard.Commit < g.Start.Index || g.Hard.Term == 0 {
						t.Errorf("the log of %s begins after %d with %+v", n, g.Start.Index, g.Hard)
					}
				}
				if a := s.host("a"); len(a.applied) != 51 {
					t.Errorf("a holds %d values, want 51", len(a.applied))
				}
			})
		}
	}
}
