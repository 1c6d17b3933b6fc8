package arbitrator

import (
	"math/rand/v2"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// disk is a store that may lose what was not synced, and the judge of what the
// machine says: every answer must be covered by what is durable.
type disk struct {
	t       *testing.T
	durable map[Key]Record
	pending []Write
	seq     uint64
}

func (d *disk) sync(n int) uint64 {
	for _, w := range d.pending[:n] {
		if w.Seq != d.seq+1 {
			d.t.Fatalf("write %d follows write %d", w.Seq, d.seq)
		}
		for _, rec := range w.Records {
			old := d.durable[rec.Key]
			if err := rec.Check(); err != nil {
				d.t.Fatalf("write %d: %v", w.Seq, err)
			}
			if !rec.Retired && (rec.Term < old.Term || rec.Commit < old.Commit) {
				d.t.Fatalf("write %d goes back from %+v to %+v", w.Seq, old, rec)
			}
			if !rec.Retired && rec.Term == old.Term && old.Vote != 0 && rec.Vote != old.Vote {
				d.t.Fatalf("write %d changes a vote: %+v to %+v", w.Seq, old, rec)
			}
			if old.Retired && !rec.Retired {
				d.t.Fatalf("write %d revives %+v", w.Seq, rec)
			}
			d.durable[rec.Key] = rec
		}
		for _, k := range w.Removed {
			delete(d.durable, k)
		}
		d.seq = w.Seq
	}
	d.pending = append([]Write(nil), d.pending[n:]...)
	return d.seq
}

func (d *disk) take(effects []Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case Write:
			d.pending = append(d.pending, e)
		case Send:
			for _, m := range e.Messages {
				d.judge(Key{e.Cluster, m.Group, m.From}, m)
			}
		}
	}
}

// judge fails the test if m says something that a power cut could unsay.
func (d *disk) judge(k Key, m peer.Message) {
	rec, there := d.durable[k]
	switch {
	case m.Kind == peer.KindEnrolled && !there, m.Kind == peer.KindRetired && !rec.Retired:
		d.t.Fatalf("%v answered, durable is %+v", m.Kind, rec)
	case m.Kind == peer.KindAnswer:
		a := m.Answer
		if a.Term > rec.Term || a.Last > rec.Last && rec.Term == a.Term || a.Generation != d.seq {
			d.t.Fatalf("answer %+v, durable is %+v of generation %d", *a, rec, d.seq)
		}
	case m.Kind == peer.KindRaft && m.Raft.GetType() == raftpb.MsgVoteResp && !m.Raft.GetReject():
		term := id.Term(m.Raft.GetTerm())
		if rec.Term < term || rec.Term == term && rec.Vote != m.To {
			d.t.Fatalf("vote for %d in term %d granted, durable is %+v", m.To, term, rec)
		}
	case m.Kind == peer.KindRaft && m.Raft.GetType() != raftpb.MsgPreVoteResp && id.Term(m.Raft.GetTerm()) > rec.Term:
		d.t.Fatalf("%v of term %d, durable is %+v", m.Raft.GetType(), m.Raft.GetTerm(), rec)
	}
}

// oddsmaker draws messages, plausible ones and nonsense, from a few groups.
type oddsmaker struct{ *rand.Rand }

func (o oddsmaker) message() peer.Message {
	m := peer.Message{
		Group: id.Group(1 + o.IntN(2)), From: id.Replica(1 + o.IntN(2)), To: id.Replica(3 + o.IntN(2)),
		Lease: o.IntN(4) == 0,
	}
	term := uint64(1 + o.IntN(6))
	kinds := []raftpb.MessageType{
		raftpb.MsgVote, raftpb.MsgVote, raftpb.MsgPreVote, raftpb.MsgHeartbeat, raftpb.MsgHeartbeat,
		raftpb.MsgApp, raftpb.MsgSnap, raftpb.MsgTimeoutNow, raftpb.MsgHup, raftpb.MsgAppResp,
	}
	switch o.IntN(12) {
	case 0:
		m.Kind, m.Enroll = peer.KindEnroll, &peer.Enroll{Witness: own}
	case 1:
		if o.IntN(8) == 0 {
			m.Kind, m.Enroll = peer.KindRetire, &peer.Enroll{Witness: own}
		}
	case 2, 3, 4, 5:
		m.Kind = peer.KindRaft
		m.Raft = &raftpb.Message{
			Type: kinds[o.IntN(len(kinds))].Enum(), From: new(uint64(m.From)), To: new(uint64(m.To)), Term: new(term),
			Index: new(uint64(o.IntN(40))), LogTerm: new(uint64(o.IntN(6))), Commit: new(uint64(o.IntN(20))),
		}
	default:
		m.Kind, m.Feed = peer.KindFeed, o.feed(term)
	}
	return m
}

// feed draws a feed that passes Check, most of the time.
func (o oddsmaker) feed(term uint64) *peer.Feed {
	f := &peer.Feed{Seq: uint64(1 + o.IntN(9)), Term: id.Term(term), Lease: o.IntN(4) == 0, BaseCommitted: o.IntN(2) == 0}
	if o.IntN(8) > 0 {
		f.Base, f.BaseTerm = id.Index(1+o.IntN(30)), id.Term(1+o.IntN(int(term)))
	}
	f.Last = f.Base + id.Index(o.IntN(6))
	for at, t := f.Base+1, max(1, f.BaseTerm); at <= f.Last && t <= f.Term; t++ {
		f.Runs = append(f.Runs, peer.Run{First: at, Term: t})
		at += id.Index(1 + o.IntN(4))
	}
	f.Commit = id.Index(o.IntN(int(f.Last) + 1))
	return f
}

// play drives a machine by seed through random messages, syncs and power cuts.
func play(t *testing.T, seed uint64, steps int) {
	o := oddsmaker{rand.New(rand.NewPCG(seed, 1))}
	d := &disk{t: t, durable: map[Key]Record{}}
	m := NewMachine(DefaultConfig(), own, 0, nil)
	now := time.Duration(0)
	for range steps {
		now += time.Duration(o.IntN(100)) * time.Millisecond
		switch o.IntN(10) {
		case 0: // power cut: a prefix of the writes has reached the disk
			d.sync(o.IntN(len(d.pending) + 1))
			d.pending = nil
			var records []Record
			for _, rec := range d.durable {
				records = append(records, rec)
			}
			m = NewMachine(DefaultConfig(), own, d.seq, records)
		case 1, 2, 3, 4:
			d.take(m.Step(now, []Event{Synced{Seq: d.sync(o.IntN(len(d.pending) + 1))}}))
		default:
			r := Received{Cluster: tale, From: []id.UUID{hostA, hostB}[o.IntN(2)], To: own}
			for range 1 + o.IntN(4) {
				r.Messages = append(r.Messages, o.message())
			}
			d.take(m.Step(now, []Event{r}))
		}
	}
}

// Whatever is received in whatever order, no answer says more than what is
// durable, no vote changes within a term, and no record contradicts itself.
func TestNothingSaidIsForgotten(t *testing.T) {
	for seed := range uint64(3000) {
		play(t, seed, 60)
	}
}

// FuzzStep: no message makes the machine panic or break a record.
func FuzzStep(f *testing.F) {
	f.Add(uint64(1), uint64(7), uint64(2), uint64(10), uint64(2), uint64(12), uint64(11), true)
	f.Fuzz(func(t *testing.T, seed, from, term, base, baseTerm, last, commit uint64, committed bool) {
		o := oddsmaker{rand.New(rand.NewPCG(seed, 2))}
		d := &disk{t: t, durable: map[Key]Record{}}
		m := NewMachine(DefaultConfig(), own, 0, nil)
		enroll := peer.Message{Kind: peer.KindEnroll, Group: 1, To: 3, Enroll: &peer.Enroll{Witness: own}}
		d.take(m.Step(0, []Event{Received{Cluster: tale, From: hostA, To: own, Messages: []peer.Message{enroll}}}))
		for range 4 {
			wild := o.message()
			wild.Group, wild.To, wild.From = 1, 3, id.Replica(from)
			if wild.Raft != nil {
				wild.Raft.From, wild.Raft.To = &from, new(uint64(3))
				wild.Raft.Term, wild.Raft.Index, wild.Raft.LogTerm, wild.Raft.Commit = &term, &base, &baseTerm, &commit
			}
			if wild.Feed != nil {
				wild.Feed.Term, wild.Feed.Base, wild.Feed.BaseTerm = id.Term(term), id.Index(base), id.Term(baseTerm)
				wild.Feed.Last, wild.Feed.Commit, wild.Feed.BaseCommitted = id.Index(last), id.Index(commit), committed
			}
			d.take(m.Step(0, []Event{Received{Cluster: tale, From: hostA, To: own, Messages: []peer.Message{wild, o.message()}}}))
			d.take(m.Step(0, []Event{Synced{Seq: d.sync(len(d.pending))}}))
		}
	})
}

// A hung disk bounds what waits for it.
func TestWaitingAnswersAreBounded(t *testing.T) {
	m := NewMachine(DefaultConfig(), own, 0, nil)
	enroll := peer.Message{Kind: peer.KindEnroll, Group: 1, To: 3, Enroll: &peer.Enroll{Witness: own}}
	for range 100 {
		m.Step(0, []Event{Received{Cluster: tale, From: hostA, To: own, Messages: []peer.Message{enroll}}})
	}
	if len(m.waiting) != maxWaits || m.Counts().Dropped != 100-maxWaits {
		t.Errorf("%d answers wait, %d dropped; want %d and %d", len(m.waiting), m.Counts().Dropped, maxWaits, 100-maxWaits)
	}
}

// Room for tombstones is found among the groups that no longer exist.
func TestTombstonesAreBounded(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxRetired, cfg.MaxReplicas = 2, 2
	m := NewMachine(cfg, own, 0, nil)
	say := func(kind peer.Kind, g id.Group, r id.Replica) []Effect {
		msg := peer.Message{Kind: kind, Group: g, To: r, Enroll: &peer.Enroll{Witness: own}}
		m.Step(0, []Event{Received{Cluster: tale, From: hostA, To: own, Messages: []peer.Message{msg}}})
		return m.Step(0, []Event{Synced{Seq: m.handed}})
	}
	say(peer.KindEnroll, 1, 4)
	say(peer.KindRetire, 1, 3) // group 1 lives: never forgotten
	say(peer.KindRetire, 7, 3)
	say(peer.KindRetire, 8, 3) // 7 is forgotten for it
	want := []Key{{tale, 1, 3}, {tale, 1, 4}, {tale, 8, 3}}
	for i, rec := range m.Records() {
		if len(m.Records()) != len(want) || rec.Key != want[i] {
			t.Fatalf("records %+v, want %+v", m.Records(), want)
		}
	}
	say(peer.KindEnroll, 2, 3)
	out := say(peer.KindEnroll, 9, 3)
	if len(out) != 0 || m.Counts().Replicas != 2 {
		t.Errorf("a third replica was enrolled: %+v", out)
	}
}

func BenchmarkStep(b *testing.B) {
	for _, c := range []struct {
		name string
		msg  func(i uint64) peer.Message
	}{
		{"heartbeat", func(uint64) peer.Message {
			return peer.Message{Kind: peer.KindRaft, Group: 1, From: 1, To: 3, Raft: &raftpb.Message{
				Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(1)), To: new(uint64(3)), Term: new(uint64(2)),
			}}
		}},
		{"feed of 64", func(i uint64) peer.Message {
			base := id.Index(1 + 64*i)
			return peer.Message{Kind: peer.KindFeed, Group: 1, From: 1, To: 3, Feed: &peer.Feed{
				Seq: 1 + i, Term: 2, Base: base, BaseTerm: 2, BaseCommitted: true, Runs: []peer.Run{{First: base + 1, Term: 2}},
				Last: base + 64, Commit: base,
			}}
		}},
		{"pulse", func(i uint64) peer.Message {
			base := id.Index(1 + 1000*i)
			return peer.Message{Kind: peer.KindFeed, Group: 1, From: 1, To: 3, Feed: &peer.Feed{
				Seq: 1 + i, Term: 2, Base: base, BaseTerm: 2, BaseCommitted: true, Last: base, Commit: base,
			}}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			m := NewMachine(DefaultConfig(), own, 0, []Record{{Key: Key{tale, 1, 3}}})
			b.ReportAllocs()
			for i := range uint64(b.N) {
				m.Step(0, []Event{Received{Cluster: tale, From: hostA, To: own, Messages: []peer.Message{c.msg(i)}}})
				m.Step(0, []Event{Synced{Seq: m.handed}})
			}
		})
	}
}
