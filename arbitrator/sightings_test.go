package arbitrator

import (
	"errors"
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
)

func openStore(t *testing.T, fs wal.FS) *Store {
	t.Helper()
	s, err := OpenStore(fs, smallSegments)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// write appends operations and makes them durable.
func write(t *testing.T, s *Store, ops ...wal.Op) {
	t.Helper()
	if err := errors.Join(s.Log().Append(ops), s.Log().Flush(), s.Log().Sync()); err != nil {
		t.Fatal(err)
	}
}

// Every start is counted before it says anything, with the generation that it
// found; an older one of the same disk is told from it.
func TestStartsAreCounted(t *testing.T) {
	disk, seen := waltest.NewDisk(1), peer.Sighting{}
	var copied *waltest.Disk
	for start := range uint64(startsTested) {
		s := openStore(t, disk)
		if err := s.Begin(100 + start); err != nil {
			t.Fatal(err)
		}
		o := s.Starts()
		if err := o.Check(); err != nil || o.Boot != start+1 || o.Nonce != 100+start || o.Sequence != start {
			t.Fatalf("start %d offers %+v, %v", start+1, o, err)
		}
		var err error
		if seen, err = seen.Judge(o); err != nil {
			t.Fatal(err)
		}
		if start == 3 {
			copied = disk.Clone(9)
		}
		write(t, s, s.Ops(Write{Seq: start + 1, Records: []Record{{Key: Key{tale, 7, 3}, Term: id.Term(start + 1)}}})...)
		seen.Heard(o.Start, start+1)
		disk.PowerOff()
		_ = s.Log().Abandon()
	}
	s := openStore(t, copied)
	if err := s.Begin(999); err != nil {
		t.Fatal(err)
	}
	if _, err := seen.Judge(s.Starts()); err == nil {
		t.Errorf("a copy that offers %+v continues %+v", s.Starts(), seen)
	}
}

// startsTested is more than an offer tells of.
const startsTested = peer.MaxHistory + 5

// What was seen of a host outlives a power cut once it was written, and an old
// copy of the host's directory is refused, in its own cluster only.
func TestSightingsAreKept(t *testing.T) {
	disk := waltest.NewDisk(1)
	s := openStore(t, disk)
	u := id.UUID{1}
	first := peer.Offer{Start: peer.Start{Boot: 1, Nonce: 11, Sequence: 5}}
	from := peer.Remote{Cluster: tale, UUID: u, Host: 1, Addr: "a:6030", Start: first.Start}
	s.Heard(from, 6)
	if _, err := s.Judge(tale, u, first); err != nil || len(s.Clusters()) > 0 || s.Sightings() != nil {
		t.Errorf("a cluster that never enrolled left something: %v", err)
	}
	op, _ := s.Adopt(tale, peer.Secret{42})
	write(t, s, op)
	s.Heard(from, 6) // its first word
	if ops := s.Sightings(); len(ops) != 1 {
		t.Fatalf("%d operations", len(ops))
	} else {
		write(t, s, ops...)
	}
	if ops := s.Sightings(); ops != nil {
		t.Errorf("%d operations, and nothing has changed", len(ops))
	}
	s.Heard(from, 7) // not written
	disk.PowerOff()
	_ = s.Log().Abandon()

	s = openStore(t, disk)
	if m := s.Clusters()[tale][1]; m.UUID != u || m.Addr != "a:6030" || m.Seen != (peer.Sighting{Start: first.Start, Highest: 6}) {
		t.Errorf("remembered %+v", m)
	}
	for _, c := range []struct {
		cluster       id.Cluster
		uuid          id.UUID
		offer         peer.Offer
		refused, news bool
	}{
		{tale, u, first.Next(12, 5), true, true},
		{tale, u, first.Next(12, 5), true, false},
		{tale + 1, u, first.Next(12, 5), false, false},
		{tale, id.UUID{2}, first.Next(12, 5), false, false},
		{tale, u, first.Next(13, 6), false, false},
		{tale, u, first.Next(12, 9), true, true},
	} {
		news, err := s.Judge(c.cluster, c.uuid, c.offer)
		if (err != nil) != c.refused || news != c.news {
			t.Errorf("%+v: news %v, %v", c, news, err)
		}
	}
	if m := s.Clusters()[tale][1]; m.Seen.Nonce != 13 || !m.OldCopy {
		t.Errorf("in the end %+v", m)
	}
}
