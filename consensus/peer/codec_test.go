package peer

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

var update = flag.Bool("update", false, "rewrite golden files")

func raftFrom(m Message, r *raftpb.Message) Message {
	m.Kind, m.Raft = KindRaft, r
	if r.From == nil {
		r.From, r.To = new(uint64(m.From)), new(uint64(m.To))
	}
	return m
}

func sampleEntries(first, term uint64, n, size int) []*raftpb.Entry {
	out := make([]*raftpb.Entry, n)
	for i := range out {
		out[i] = &raftpb.Entry{Index: new(first + uint64(i)), Term: &term}
		if size > 0 {
			out[i].Data = []byte(strings.Repeat("d", size))
		}
	}
	return out
}

// samples is one of every message, with names for the golden file.
func samples() (names []string, msgs []Message) {
	add := func(name string, m Message) {
		m.Group, m.From, m.To = 7, 1, 300
		if m.Raft != nil {
			m = raftFrom(m, m.Raft)
		}
		names, msgs = append(names, name), append(msgs, m)
	}
	mixed := sampleEntries(101, 5, 4, 3)
	mixed[1].Type = raftpb.EntryConfChangeV2.Enum()
	mixed[2].Term, mixed[3].Term = new(uint64(6)), new(uint64(6))
	mixed[3].Index, mixed[3].Data = new(uint64(200)), nil
	add("heartbeat", Message{Lease: true, Raft: &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), Term: new(uint64(5)), Commit: new(uint64(1000)), Context: []byte("ctx"),
	}})
	add("vote", Message{Raft: &raftpb.Message{
		Type: raftpb.MsgVote.Enum(), Term: new(uint64(6)), Index: new(uint64(1000)), LogTerm: new(uint64(5)), Context: []byte("CampaignTransfer"),
	}})
	add("append", Message{Raft: &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), Term: new(uint64(6)), Index: new(uint64(100)), LogTerm: new(uint64(5)), Commit: new(uint64(99)), Entries: mixed,
	}})
	add("rejection", Message{Raft: &raftpb.Message{
		Type: raftpb.MsgAppResp.Enum(), Term: new(uint64(6)), Index: new(uint64(100)), Reject: new(true), RejectHint: new(uint64(90)), LogTerm: new(uint64(4)),
		Vote: new(uint64(3)),
	}})
	add("snapshot", Message{Raft: &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), Term: new(uint64(6)), Snapshot: &raftpb.Snapshot{Data: []byte("snap"), Metadata: &raftpb.SnapshotMetadata{
			Index: new(uint64(90)), Term: new(uint64(5)),
			ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}, VotersOutgoing: []uint64{1, 4}, AutoLeave: new(false)},
		}},
	}})
	add("read index", Message{Raft: &raftpb.Message{
		Type: raftpb.MsgReadIndex.Enum(), From: new(uint64(9)), To: new(uint64(8)), Context: []byte("12345678"),
	}})
	add("feed", Message{Kind: KindFeed, Feed: &Feed{
		Seq: 3, Term: 6, Base: 1000, BaseTerm: 5, BaseCommitted: true, Runs: []Run{{1001, 5}, {1004, 6}}, Last: 1010, Commit: 1002, Lease: true,
	}})
	add("pulse", Message{Kind: KindFeed, Feed: &Feed{Seq: 4, Term: 6, Base: 2000, BaseTerm: 6, BaseCommitted: true, Last: 2000, Commit: 2000}})
	add("answer", Message{Kind: KindAnswer, Answer: &Answer{Seq: 3, Term: 6, Last: 1010, Generation: 77}})
	add("refusal", Message{Kind: KindRefusal, Refusal: WrongWitness})
	add("hung", Message{Kind: KindHung, Term: 6})
	add("unready", Message{Kind: KindUnready, Term: 6})
	add("held", Message{Kind: KindHeld, Index: 1234})
	add("position", Message{Kind: KindPosition, Term: 6, Index: 1234})
	add("goodbye", Message{Kind: KindGoodbye})
	add("ping", Message{Kind: KindPing})
	add("pong", Message{Kind: KindPong})
	for _, k := range []Kind{KindEnroll, KindEnrolled, KindRetire, KindRetired} {
		add(fmt.Sprint("enrol ", k), Message{Kind: k, Enroll: &Enroll{Witness: id.UUID{1, 2, 3}}})
	}
	return names, msgs
}

// same compares messages as their readers see them: a nil field is a zero one.
func same(t *testing.T, got, want Message) {
	t.Helper()
	if (got.Raft == nil) != (want.Raft == nil) || got.Raft != nil && !equalRaft(got.Raft, want.Raft) {
		t.Errorf("got  %v\nwant %v", got.Raft, want.Raft)
	}
	got.Raft, want.Raft = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// equalRaft fills in what a nil number means, and compares.
func equalRaft(a, b *raftpb.Message) bool {
	full := func(m *raftpb.Message) *raftpb.Message {
		m = proto.Clone(m).(*raftpb.Message)
		m.Type, m.Term, m.LogTerm = m.GetType().Enum(), new(m.GetTerm()), new(m.GetLogTerm())
		m.Index, m.Commit, m.Vote = new(m.GetIndex()), new(m.GetCommit()), new(m.GetVote())
		m.RejectHint, m.Reject = new(m.GetRejectHint()), new(m.GetReject())
		for _, e := range m.GetEntries() {
			e.Type = e.GetType().Enum()
		}
		return m
	}
	return proto.Equal(full(a), full(b))
}

func TestEveryMessageComesBack(t *testing.T) {
	names, msgs := samples()
	got, err := DecodeMessages(AppendMessages(nil, msgs))
	if err != nil || len(got) != len(msgs) {
		t.Fatalf("%d of %d messages: %v", len(got), len(msgs), err)
	}
	for i := range msgs {
		t.Run(names[i], func(t *testing.T) { same(t, got[i], msgs[i]) })
	}
}

// The format does not change by accident: testdata/messages.golden.
func TestWireFormat(t *testing.T) {
	names, msgs := samples()
	var b strings.Builder
	for i := range msgs {
		one := appendMessage(nil, &msgs[i])
		fmt.Fprintf(&b, "%s (%d bytes)\n%s", names[i], len(one), hex.Dump(one))
	}
	const golden = "testdata/messages.golden"
	if *update {
		if err := os.MkdirAll("testdata", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// Every way to cut a frame short is refused.
func TestTruncatedMessages(t *testing.T) {
	_, msgs := samples()
	whole := AppendMessages(nil, msgs)
	for n := range whole {
		if _, err := DecodeMessages(whole[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were taken", n, len(whole))
		}
	}
	if _, err := DecodeMessages(append(whole, 0)); err == nil {
		t.Error("a byte after the last message was taken")
	}
}

// A feed that breaks its invariants ends at the gate; one that is merely too
// long passes, to be refused by name.
func TestFeedGate(t *testing.T) {
	feed := Feed{Seq: 1, Term: 6, Base: 10, BaseTerm: 5, Runs: []Run{{11, 5}}, Last: 11 + MaxFeedEntries, Commit: 10}
	m := []Message{{Kind: KindFeed, Group: 7, From: 1, To: 3, Feed: &feed}}
	if _, err := DecodeMessages(AppendMessages(nil, m)); err != nil {
		t.Errorf("a long feed: %v", err)
	}
	feed.Last, feed.Runs = 12, []Run{{12, 5}}
	if _, err := DecodeMessages(AppendMessages(nil, m)); err == nil {
		t.Error("a feed with a gap was taken")
	}
}

// FuzzDecodeMessages: bytes are either refused, or mean what they mean when
// written again.
func FuzzDecodeMessages(f *testing.F) {
	_, msgs := samples()
	for i := range msgs {
		f.Add(AppendMessages(nil, msgs[i:i+1]))
	}
	f.Add(AppendMessages(nil, msgs))
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := DecodeMessages(b)
		if err != nil {
			return
		}
		second, err := DecodeMessages(AppendMessages(nil, first))
		if err != nil || len(second) != len(first) {
			t.Fatalf("%d messages became %d: %v", len(first), len(second), err)
		}
		for i := range first {
			same(t, second[i], first[i])
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	term := uint64(5)
	for _, c := range []struct {
		name string
		msgs []Message
	}{
		{"1000 heartbeats", func() []Message {
			out := make([]Message, 1000)
			for i := range out {
				out[i] = raftFrom(Message{Group: id.Group(i), From: 1, To: 2}, &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), Term: &term, Commit: &term})
			}
			return out
		}()},
		{"4096 entries of 16 B", []Message{raftFrom(Message{Group: 7, From: 1, To: 2}, &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), Term: &term, Index: new(uint64(100)), LogTerm: &term, Entries: sampleEntries(101, 5, 4096, 16),
		})}},
		{"1 entry of 64 KiB", []Message{raftFrom(Message{Group: 7, From: 1, To: 2}, &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), Term: &term, Index: new(uint64(100)), LogTerm: &term, Entries: sampleEntries(101, 5, 1, 64<<10),
		})}},
	} {
		wire := AppendMessages(nil, c.msgs)
		b.Run("encode "+c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(wire)))
			for b.Loop() {
				wire = AppendMessages(wire[:0], c.msgs)
			}
		})
		b.Run("decode "+c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(wire)))
			for b.Loop() {
				if _, err := DecodeMessages(wire); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
