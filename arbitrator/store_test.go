package arbitrator

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
)

var update = flag.Bool("update", false, "rewrite golden files")

var smallSegments = wal.Options{SegmentBytes: 16 << 10, CacheBytes: 4 << 10}

// What was synced is there after a power cut at any write; what was not may be
// there or not, but never by half.
func TestStoreSurvivesPowerCuts(t *testing.T) {
	for seed := range uint64(300) {
		o := oddsmaker{rand.New(rand.NewPCG(seed, 3))}
		fs := waltest.NewDisk(seed)
		durable, later := map[Key]Record{}, map[Key][]Record{}
		synced, uuid := uint64(0), id.UUID{}
		for life := range 4 {
			store, err := OpenStore(fs, smallSegments)
			if err != nil {
				t.Fatalf("seed %d, life %d: %v", seed, life, err)
			}
			if life == 0 {
				uuid = store.UUID()
			}
			if store.UUID() != uuid || store.Generation() < synced {
				t.Fatalf("seed %d: %v of generation %d, want %v of at least %d", seed, store.UUID(), store.Generation(), uuid, synced)
			}
			records := store.Records()
			checkRecords(t, seed, records, durable, later)
			durable, later = map[Key]Record{}, map[Key][]Record{}
			for _, rec := range records {
				durable[rec.Key] = rec
			}
			m := NewMachine(DefaultConfig(), own, store.Generation(), records)
			if life < 3 {
				fs.DieAfter(1 + o.IntN(200))
			}
			synced = drive(o, m, store, durable, later, 100)
			if life == 3 {
				_ = store.Log().Close()
				continue
			}
			if o.IntN(2) == 0 {
				fs.PowerOff()
			} else {
				fs.Kill()
			}
			_ = store.Log().Abandon()
		}
	}
}

// drive plays random messages until the disk dies, and notes what is durable
// and what may be.
func drive(o oddsmaker, m *Machine, store *Store, durable map[Key]Record, later map[Key][]Record, steps int) (synced uint64) {
	log := store.Log()
	synced = store.Generation()
	for range steps {
		r := Received{Cluster: tale, From: hostA, To: own, Messages: []peer.Message{o.message(), o.message()}}
		for _, e := range m.Step(time.Second, []Event{r}) {
			w, ok := e.(Write)
			if !ok {
				continue
			}
			for _, rec := range w.Records {
				later[rec.Key] = append(later[rec.Key], rec)
			}
			if log.Append(store.Ops(w)) != nil {
				return synced
			}
		}
		if log.Flush() != nil || o.IntN(2) == 0 {
			continue
		}
		if log.Sync() != nil {
			return synced
		}
		synced = m.handed
		m.Step(time.Second, []Event{Synced{Seq: synced}})
		for k, versions := range later {
			durable[k] = versions[len(versions)-1]
			delete(later, k)
		}
		if _, err := log.Maintain(); err != nil {
			return synced
		}
	}
	return synced
}

func checkRecords(t *testing.T, seed uint64, got []Record, durable map[Key]Record, later map[Key][]Record) {
	t.Helper()
	found := map[Key]bool{}
	for _, rec := range got {
		found[rec.Key] = true
		allowed := slices.Clone(later[rec.Key])
		if old, ok := durable[rec.Key]; ok {
			allowed = append(allowed, old)
		}
		if !slices.ContainsFunc(allowed, func(a Record) bool { return reflect.DeepEqual(a, rec) }) {
			t.Fatalf("seed %d: found %+v, want one of %+v", seed, rec, allowed)
		}
	}
	for k := range durable {
		if !found[k] {
			t.Fatalf("seed %d: record %+v is gone", seed, k)
		}
	}
}

// samples is one of everything that the store holds.
func samples() (names []string, metas [][]byte) {
	add := func(name string, meta []byte) { names, metas = append(names, name), append(metas, meta) }
	s := &Store{uuid: id.UUID{1, 2, 3}, generation: 1000}
	add("identity", s.identityOp().Meta)
	add("cluster", appendCluster(nil, 77, &knownCluster{secret: peer.Secret{9, 8}, hosts: map[id.Host]Member{
		1: {UUID: id.UUID{0xa}, Addr: "a.example.com:6030"},
		2: {UUID: id.UUID{0xb}, Addr: "b.example.com:6030", Seen: peer.Sighting{Start: peer.Start{Boot: 3, Nonce: 7, Sequence: 300}, Highest: 400}},
	}}))
	add("starts", appendStarts(nil, &peer.Offer{Start: peer.Start{Boot: 2, Nonce: 7, Sequence: 1000}, History: []peer.Start{{Boot: 1, Nonce: 6}}}))
	add("enrolled", appendRecord(nil, &Record{Key: Key{77, 2, 3}}))
	add("shut", appendRecord(nil, &Record{Key: Key{77, 2, 3}, Term: 5, Vote: 1, Commit: 100000, CommitTerm: 5, Last: 100000}))
	add("open", appendRecord(nil, &Record{
		Key: Key{77, 2, 3}, Term: 7, Vote: 2, Commit: 100000, CommitTerm: 5, Last: 100400,
		Runs: []peer.Run{{First: 100001, Term: 5}, {First: 100300, Term: 7}},
	}))
	add("tainted", appendRecord(nil, &Record{Key: Key{77, 2, 3}, Term: 5, Tainted: true}))
	add("retired", appendRecord(nil, &Record{Key: Key{77, 2, 3}, Retired: true}))
	return names, metas
}

func newTestStore() *Store {
	s := &Store{slots: make(map[Key]id.Group)}
	s.mu.clusters, s.mu.unsaved = make(map[id.Cluster]*knownCluster), make(map[id.Cluster]bool)
	return s
}

// The format does not change by accident: testdata/votes.golden.
func TestStoreFormat(t *testing.T) {
	var b strings.Builder
	names, metas := samples()
	for i, meta := range metas {
		fmt.Fprintf(&b, "%s (%d bytes)\n%s", names[i], len(meta), hex.Dump(meta))
		if err := newTestStore().read(2, meta); err != nil {
			t.Errorf("%s: %v", names[i], err)
		}
	}
	const golden = "testdata/votes.golden"
	if *update {
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

// FuzzStoreRead: what is read is either refused or written back the same.
func FuzzStoreRead(f *testing.F) {
	_, metas := samples()
	for _, meta := range metas {
		f.Add(meta)
	}
	f.Fuzz(func(t *testing.T, meta []byte) {
		s := newTestStore()
		if s.read(2, meta) != nil {
			return
		}
		var again []byte
		switch {
		case s.startsSlot != 0:
			again = appendStarts(nil, &s.starts)
		case len(s.records) == 1:
			again = appendRecord(nil, &s.records[0])
		case len(s.mu.clusters) == 1:
			for c, k := range s.mu.clusters {
				again = appendCluster(nil, c, k)
			}
		default:
			again = s.identityOp().Meta
		}
		// A number may be written in more than one way; what it says counts.
		s2 := newTestStore()
		if err := s2.read(2, again); err != nil || !reflect.DeepEqual(s.records, s2.records) || !reflect.DeepEqual(s.starts, s2.starts) || s.uuid != s2.uuid {
			t.Errorf("%x reads back as %x: %v", meta, again, err)
		}
	})
}

// A wiped directory is another directory.
func TestWipeIsAnotherIdentity(t *testing.T) {
	open := func(seed uint64) id.UUID {
		s, err := OpenStore(waltest.NewDisk(seed), smallSegments)
		if err != nil {
			t.Fatal(err)
		}
		return s.UUID()
	}
	if a, b := open(1), open(1); a == b || a.IsZero() {
		t.Errorf("two empty directories got the identities %v and %v", a, b)
	}
}

// Slots that were given back are used again.
func TestSlotsAreReused(t *testing.T) {
	s := newTestStore()
	s.next = 2
	rec := func(r id.Replica) Record { return Record{Key: Key{tale, 2, r}} }
	first := s.Ops(Write{Seq: 1, Records: []Record{rec(3), rec(4)}})
	s.Ops(Write{Seq: 2, Removed: []Key{rec(3).Key}})
	third := s.Ops(Write{Seq: 3, Records: []Record{rec(5)}})
	if third[0].Group != first[0].Group || s.next != 4 || !bytes.Equal(third[0].Meta, appendRecord(nil, &Record{Key: rec(5).Key})) {
		t.Errorf("slot %d after %d was given back", third[0].Group, first[0].Group)
	}
}
