package consensus

import (
	"bytes"
	"reflect"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

func exampleGroup() (*group, *raftpb.ConfState) {
	g := &group{
		id: 2, self: 1, formed: true, confIndex: 300,
		members: map[id.Replica]Member{
			1: {Replica: 1, UUID: id.UUID{1, 2}},
			2: {Replica: 2, UUID: id.UUID{3, 4}},
			9: {Replica: 9, UUID: id.UUID{5, 6}, Witness: true},
		},
	}
	return g, &raftpb.ConfState{Voters: []uint64{1, 2, 9}}
}

func TestGroupRecordSurvivesTheRoundTrip(t *testing.T) {
	g, cs := exampleGroup()
	got := &group{id: 2, members: map[id.Replica]Member{}}
	conf, err := got.decodeMeta(g.encodeMeta(cs))
	if err != nil {
		t.Fatal(err)
	}
	if got.self != g.self || !got.formed || got.confIndex != g.confIndex || !reflect.DeepEqual(got.members, g.members) {
		t.Errorf("got %+v, want %+v", got, g)
	}
	if err := conf.Equivalent(cs); err != nil {
		t.Error(err)
	}
}

// FuzzGroupRecord: whatever decodes, encodes to something that decodes to the
// same; nothing else panics or allocates by a length that is not there.
func FuzzGroupRecord(f *testing.F) {
	g, cs := exampleGroup()
	f.Add(g.encodeMeta(cs))
	f.Add([]byte{1, 0, 1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		g := &group{members: map[id.Replica]Member{}}
		cs, err := g.decodeMeta(b)
		if err != nil {
			return
		}
		once := g.encodeMeta(cs)
		again := &group{members: map[id.Replica]Member{}}
		cs2, err := again.decodeMeta(once)
		if err != nil {
			t.Fatalf("own encoding does not decode: %v", err)
		}
		if !bytes.Equal(once, again.encodeMeta(cs2)) {
			t.Error("encoding is not stable")
		}
	})
}

func TestGroupRecordRefusesEveryCut(t *testing.T) {
	g, cs := exampleGroup()
	whole := g.encodeMeta(cs)
	for n := range whole {
		got := &group{members: map[id.Replica]Member{}}
		if _, err := got.decodeMeta(whole[:n]); err == nil && len(got.members) == len(g.members) {
			t.Errorf("the first %d of %d bytes decode", n, len(whole))
		}
	}
}
