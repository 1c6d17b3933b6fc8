package consensus

import (
	"errors"
	"testing"
	"testing/cryptotest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// lagging is a host with replicas of groups 1 to n that are led by another.
type lagging struct {
	m      *Machine
	leader id.UUID
	now    time.Duration
	log    *memLog
}

func newLagging(t *testing.T, n int) *lagging {
	t.Helper()
	l := &lagging{leader: id.UUID{'l'}, log: newMemLog()}
	l.m = NewMachine(DefaultConfig(), id.UUID{'f'}, l.log)
	for g := range n {
		l.step(Create{Spec: GroupSpec{Group: id.Group(g + 1), Replica: 2, Formed: true, Members: l.members()}})
	}
	return l
}

func (l *lagging) members() []Member {
	return []Member{{Replica: 1, UUID: l.leader}, {Replica: 2, UUID: id.UUID{'f'}}}
}

// step writes at once what is to be written, and returns the rest.
func (l *lagging) step(events ...Event) (rest []Effect) {
	for len(events) > 0 {
		effects := l.m.Step(l.now, events)
		events = nil
		for _, e := range effects {
			if w, ok := e.(Write); ok {
				l.log.do(w.Ops)
				events = append(events, Written{Seq: w.Seq})
				continue
			}
			rest = append(rest, e)
		}
	}
	return rest
}

// offer is what the leader says when its log begins after entry 100.
func (l *lagging) offer(g id.Group) Event {
	r := &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: proto.Uint64(5),
		Index: proto.Uint64(100), LogTerm: proto.Uint64(5),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(120), Term: proto.Uint64(5), ConfState: confOf(1, 2)}},
	}
	return Received{From: l.leader, Messages: []peer.Message{{Kind: peer.KindRaft, Group: g, From: 1, To: 2, Raft: r}}}
}

// beat makes the leader known.
func (l *lagging) beat(g id.Group) Event {
	r := &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: proto.Uint64(5)}
	return Received{From: l.leader, Messages: []peer.Message{{Kind: peer.KindRaft, Group: g, From: 1, To: 2, Raft: r}}}
}

func (l *lagging) image(members []Member) Image {
	g := group{members: map[id.Replica]Member{}, confIndex: 7}
	for _, mem := range members {
		g.members[mem.Replica] = mem
	}
	return Image{Index: 110, Term: 5, Record: g.encodeConf(nil, confOf(1, 2))}
}

func only[E Effect](effects []Effect) (list []E) {
	for _, e := range effects {
		if e, ok := e.(E); ok {
			list = append(list, e)
		}
	}
	return list
}

// A host receives a bounded number of copies at once, and waits longer after
// each failure.
func TestFetchesAreBounded(t *testing.T) {
	l := newLagging(t, 3)
	fetching := func() (groups []id.Group) {
		t.Helper()
		for g := range id.Group(3) {
			effects := l.step(l.beat(g+1), l.offer(g+1))
			for _, f := range only[Fetch](effects) {
				if f.From != l.leader || f.Above != 1 {
					t.Errorf("got %+v", f)
				}
				groups = append(groups, f.Group)
			}
		}
		return groups
	}
	if got := fetching(); len(got) != maxFetches {
		t.Fatalf("copies of groups %v begin, want %d", got, maxFetches)
	}
	if got := fetching(); got != nil {
		t.Fatalf("copies of groups %v begin twice", got)
	}
	l.step(Fetched{Group: 1, Attempt: 99, Err: errors.New("another one")})
	if got := fetching(); got != nil {
		t.Fatalf("the end of an earlier attempt lets copies of %v begin", got)
	}
	l.step(Fetched{Group: 1, Attempt: 1, Err: errors.New("disk full")})
	if got := fetching(); len(got) != 1 || got[0] != 3 {
		t.Fatalf("copies of %v begin, want group 3: group 1 has just failed", got)
	}
	l.step(Fetched{Group: 3, Attempt: 3, Err: errors.New("disk full")})
	l.now += retryFetch
	if got := fetching(); len(got) != 1 || got[0] != 1 {
		t.Fatalf("copies of %v begin, want group 1", got)
	}
	l.step(Fetched{Group: 1, Attempt: 4, Err: errors.New("disk full")}, DiskSpace{Full: true})
	l.now += retryFetchMost
	if got := fetching(); got != nil {
		t.Fatalf("copies of %v begin on a full disk", got)
	}
}

// Only a copy with a place for this replica is taken: it names this directory,
// with data, and binds everybody.
func TestForeignCopyIsRefused(t *testing.T) {
	own := newLagging(t, 0).members()
	for name, list := range map[string][]Member{
		"other directory": {own[0], {Replica: 2, UUID: id.UUID{'x'}}},
		"witness":         {own[0], {Replica: 2, UUID: own[1].UUID, Witness: true}},
		"unbound":         {own[1]},
		"not there":       {own[0]},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLagging(t, 1)
			if fs := only[Fetch](l.step(l.beat(1), l.offer(1))); len(fs) != 1 {
				t.Fatalf("%d copies begin", len(fs))
			}
			l.step(Fetched{Group: 1, Attempt: 1, Image: l.image(list)})
			if got := only[Install](l.step(l.offer(1))); got != nil {
				t.Errorf("it is installed: %+v", got)
			}
			if s := l.log.groups[1].state; s.Start.Index != 1 {
				t.Errorf("the log begins after %d", s.Start.Index)
			}
		})
	}
}

// One Write names the copy; before it is durable nothing is acknowledged and
// nothing installed, and no vote is lost.
func TestCopyIsNamedAtOnce(t *testing.T) {
	l := newLagging(t, 1)
	l.step(l.beat(1), l.offer(1))
	effects := l.m.Step(l.now, []Event{Fetched{Group: 1, Attempt: 1, Image: l.image(l.members())}})
	ws := only[Write](effects)
	if len(ws) != 1 || len(effects) != 1 {
		t.Fatalf("got %+v, want one Write", effects)
	}
	var named []wal.Op
	for _, op := range ws[0].Ops {
		if op.Start != nil {
			named = append(named, op)
		}
	}
	if len(named) != 1 || named[0].Start.Index != 110 || named[0].Mark != 110 || named[0].Meta == nil ||
		named[0].Hard == nil || named[0].Hard.Commit != 110 || named[0].Hard.Term != 5 {
		t.Fatalf("got %+v", ws[0].Ops)
	}
	if d := l.m.groups[1].log.durable; d != 0 {
		t.Errorf("entry %d counts as durable", d)
	}
	l.log.do(ws[0].Ops)
	after := l.step(Written{Seq: ws[0].Seq})
	if got := only[Install](after); len(got) != 1 || got[0].Index != 110 {
		t.Errorf("got %+v", got)
	}
	acks := 0
	for _, s := range only[Send](after) {
		for _, msg := range s.Messages {
			if msg.Raft.GetType() == raftpb.MsgAppResp && msg.Raft.GetIndex() == 110 && !msg.Raft.GetReject() {
				acks++
			}
		}
	}
	if acks != 1 {
		t.Errorf("%d acknowledgements of the copy, want one", acks)
	}
	l.step(Applied{Group: 1, Index: 110})
	if g := l.m.groups[1]; g.appliedIndex != 110 || g.confIndex != 7 || g.inbound.state != inboundNone || g.log.durable != 110 {
		t.Errorf("applied %d, members of %d, state %d, durable %d", g.appliedIndex, g.confIndex, g.inbound.state, g.log.durable)
	}
}

// A copy that arrives in a later term than its offer waits for an offer of that
// term: who leads now decides whether it is needed.
func TestCopyOfAnOlderTermWaits(t *testing.T) {
	l := newLagging(t, 1)
	l.step(l.beat(1), l.offer(1))
	inTerm6 := func(e Event) Event {
		r, _ := e.(Received)
		r.Messages[0].Raft.Term = proto.Uint64(6)
		return r
	}
	l.step(inTerm6(l.beat(1)))
	if got := only[Install](l.step(Fetched{Group: 1, Attempt: 1, Image: l.image(l.members())})); got != nil {
		t.Fatalf("got %+v before the new leader has offered one", got)
	}
	if got := only[Install](l.step(inTerm6(l.offer(1)))); len(got) != 1 || got[0].Index != 110 {
		t.Fatalf("got %+v, want the copy that is here", got)
	}
}

// While the state machine takes the copy over, the log goes on above it.
func TestEntriesFollowWhileACopyIsInstalled(t *testing.T) {
	l := newLagging(t, 1)
	l.step(l.beat(1), l.offer(1))
	if got := only[Install](l.step(Fetched{Group: 1, Attempt: 1, Image: l.image(l.members())})); len(got) != 1 {
		t.Fatalf("got %+v", got)
	}
	from := func(r *raftpb.Message) Event {
		r.From, r.To, r.Term = proto.Uint64(1), proto.Uint64(2), proto.Uint64(5)
		return Received{From: l.leader, Messages: []peer.Message{{Kind: peer.KindRaft, Group: 1, From: 1, To: 2, Raft: r}}}
	}
	e := &raftpb.Entry{Index: proto.Uint64(111), Term: proto.Uint64(5), Data: []byte("x")}
	l.step(from(&raftpb.Message{
		Type: raftpb.MsgApp.Enum(), Index: proto.Uint64(110), LogTerm: proto.Uint64(5), Commit: proto.Uint64(110), Entries: []*raftpb.Entry{e},
	}))
	after := l.step(from(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), Commit: proto.Uint64(111)}))
	g := l.m.groups[1]
	if g.fault != nil {
		t.Fatalf("the group has stopped: %v", g.fault)
	}
	if got := only[Apply](after); len(got) != 1 || got[0].Index != 111 {
		t.Errorf("got %+v, want entry 111 behind the copy in the queue", got)
	}
	if g.appliedIndex != 1 {
		t.Errorf("entry %d counts as applied", g.appliedIndex)
	}
	l.step(Applied{Group: 1, Index: 110}, Applied{Group: 1, Index: 111})
	if g.appliedIndex != 111 || g.inbound.state != inboundNone {
		t.Errorf("applied %d, state %d", g.appliedIndex, g.inbound.state)
	}
}

func TestNoImageOfTheMiddleOfAReplay(t *testing.T) {
	l := newLagging(t, 1)
	g := l.m.groups[1]
	if _, ok := g.image(); !ok {
		t.Error("no image of a replica that is well")
	}
	g.confIndex = 5
	if image, ok := g.image(); ok {
		t.Errorf("an image of entry %d with the members of entry 5", image.Index)
	}
}

// A host gives a bounded number of copies at once.
func TestCopiesGivenAreBounded(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	s := newStage(t)
	s.form(2, []string{"a", "b"})
	s.run(time.Second)
	a, b := s.host("a"), s.host("b")
	ask := func() []Effect {
		return a.m.Step(s.now, []Event{AskCopy{Group: 2, For: b.uuid, Ticket: 1}})
	}
	for i := range maxPins {
		a.m.pins = append(a.m.pins, pin{group: &group{}, by: id.UUID{byte(i)}})
	}
	if got := only[Capture](ask()); got != nil {
		t.Errorf("another copy is given: %+v", got)
	}
	a.m.pins = a.m.pins[1:]
	for range 2 { // the same host's second question takes the place of the first
		if got := only[Capture](ask()); len(got) != 1 {
			t.Errorf("no copy is given with room for one")
		}
	}
}

func TestPinsGiveWayToAFullDisk(t *testing.T) {
	l := newLagging(t, 2)
	g := l.m.groups[1]
	l.m.pins = []pin{{group: g, index: 10}, {group: l.m.groups[2], index: 3}}
	if got := l.m.pinned(g, 20); got != 10 {
		t.Errorf("the log may be cut up to %d, want 10", got)
	}
	l.m.full = true
	if got := l.m.pinned(g, 20); got != 20 {
		t.Errorf("the log of a full disk may be cut up to %d, want 20", got)
	}
}

// A replica that is being copied to takes nothing over.
func TestNoHeirInTheMiddleOfACopy(t *testing.T) {
	m := NewMachine(DefaultConfig(), id.UUID{'a'}, newMemLog())
	g := &group{
		self: 1, members: map[id.Replica]Member{1: {Replica: 1, UUID: id.UUID{'a'}}, 2: {Replica: 2, UUID: id.UUID{'b'}}},
		voters: [2][]id.Replica{{1, 2}},
		leadership: leadership{
			heard:    map[id.Replica]time.Duration{2: 0},
			progress: map[id.Replica]tracker.Progress{2: {State: tracker.StateReplicate}},
		},
	}
	if got := m.heir(g); got != 2 {
		t.Errorf("heir %d, want 2", got)
	}
	g.progress[2] = tracker.Progress{State: tracker.StateSnapshot}
	if got := m.heir(g); got != 0 {
		t.Errorf("heir %d, want none", got)
	}
}
