package consensus

import (
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

func TestMissing(t *testing.T) {
	// The log ends at 100 in term 5, and 90 are known to be committed.
	log := Remains{Commit: 90, Last: wal.Position{Index: 100, Term: 5}}
	for name, c := range map[string]struct {
		index       id.Index
		term        id.Term
		least, most id.Index
	}{
		"told nothing yet":                {0, 0, 0, 0},
		"as far as the log":               {100, 5, 0, 0},
		"not as far":                      {95, 5, 0, 0},
		"of an earlier term":              {120, 4, 0, 0},
		"further in the same term":        {130, 5, 30, 30},
		"further in a later term":         {130, 6, 30, 40},
		"not further, but in a later one": {98, 6, 1, 8},
		"within what is committed":        {90, 6, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			least, most := log.Missing(wal.Position{Index: c.index, Term: c.term})
			if least != c.least || most != c.most {
				t.Errorf("got %d to %d, want %d to %d", least, most, c.least, c.most)
			}
		})
	}
}

// A log may end in the middle of a change of members that nobody has applied yet.
// Whoever replays it from the founders comes to the one member all the same.
func TestOnlyEndsEveryChange(t *testing.T) {
	founders := &raftpb.ConfState{Voters: []uint64{1, 2, 3}}
	change := func(cc *raftpb.ConfChangeV2) []byte {
		b, err := proto.Marshal(cc)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	one := func(kind raftpb.ConfChangeType, n uint64) *raftpb.ConfChangeSingle {
		return &raftpb.ConfChangeSingle{Type: kind.Enum(), NodeId: &n}
	}
	learner := change(&raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{one(raftpb.ConfChangeAddLearnerNode, 4)}})
	joint := change(&raftpb.ConfChangeV2{
		Transition: raftpb.ConfChangeTransitionJointExplicit.Enum(),
		Changes:    []*raftpb.ConfChangeSingle{one(raftpb.ConfChangeAddNode, 4), one(raftpb.ConfChangeRemoveNode, 1)},
	})
	for name, tail := range map[string][][]byte{
		"nothing": nil, "a learner": {learner}, "a joint change": {learner, joint}, "a joint change that has ended": {learner, joint, {}},
	} {
		t.Run(name, func(t *testing.T) {
			log := newMemLog()
			g := &group{id: 7, self: 2, formed: true, confIndex: 1, members: map[id.Replica]Member{}}
			for r := range id.Replica(3) {
				g.members[r+1] = Member{Replica: r + 1, UUID: id.UUID{byte(r)}}
			}
			op := wal.Op{Group: 7, Start: &wal.Position{Index: 1, Term: 1}, Meta: g.encodeMeta(founders), Mark: 1, Hard: &wal.HardState{Term: 2, Commit: 1}}
			for i, data := range tail {
				op.Entries = append(op.Entries, wal.Entry{Index: id.Index(i + 2), Term: 2, Type: uint8(raftpb.EntryConfChangeV2), Data: data})
			}
			log.do([]wal.Op{op})
			all, err := ReadRemains(log)
			if err != nil {
				t.Fatal(err)
			}
			log.do([]wal.Op{all[0].Only(1000, id.UUID{9}, []byte("x"))})

			replayed, err := confAt(log, g, founders, 1, log.Groups()[0].Last.Index)
			if err != nil {
				t.Fatal(err)
			}
			others := slices.Concat(replayed.VotersOutgoing, replayed.Learners, replayed.LearnersNext)
			if !slices.Equal(replayed.Voters, []uint64{1000}) || len(others) > 0 {
				t.Errorf("who replays the log ends with %v", replayed)
			}
			again, err := ReadRemains(log)
			if err != nil {
				t.Fatal(err)
			}
			if r := again[0]; r.Replica != 1000 || len(r.Members) != 1 || r.Commit != r.Last.Index {
				t.Errorf("the survivor has %+v", r)
			}
		})
	}
}
