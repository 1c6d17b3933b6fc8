package host

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

var quiet = slog.New(slog.DiscardHandler)

// What was seen is kept over a restart: by the rhythm, on a lost link and at the
// end. What was heard since is not.
func TestSightingsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, other := t.TempDir(), id.UUID{2}
		first := peer.Offer{Start: peer.Start{Boot: 1, Nonce: 21, Sequence: 5}}
		from := peer.Remote{UUID: other, Start: first.Start}
		s := OpenSightings(dir, quiet)
		if err := s.Judge(1, other, first); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		var own atomic.Uint64
		var told []uint64
		go func() {
			defer close(ended)
			_ = s.Run(ctx, own.Load, func(n uint64) { told = append(told, n) })
		}()
		remembers := func(when string, want uint64) {
			t.Helper()
			synctest.Wait()
			again := OpenSightings(dir, quiet)
			if err := again.Judge(1, other, first.Next(22, want)); err != nil {
				t.Errorf("%s: the true directory: %v", when, err)
			}
			again = OpenSightings(dir, quiet)
			if err := again.Judge(1, other, first.Next(22, want-1)); err == nil || again.Copy(other) == nil {
				t.Errorf("%s: a copy at %d passes", when, want-1)
			}
		}
		time.Sleep(sightingsEvery)
		remembers("after the first round", 5)
		s.Heard(from, 6)
		remembers("before the next round", 5)
		time.Sleep(sightingsEvery)
		remembers("after it", 6)
		s.HeardAnswers(from, []peer.Message{{Kind: peer.KindPong}, {Answer: &peer.Answer{Generation: 9}}, {Answer: &peer.Answer{Generation: 8}}})
		s.LinkLost()
		remembers("after the link was lost", 9)
		s.Heard(from, 10)
		own.Store(3)
		stop()
		<-ended
		remembers("after the end", 10)
		if len(told) != 1 || told[0] != 3 {
			t.Errorf("told %v, want the last number only", told)
		}
	})
}

// A directory is refused as long as it offers an old copy.
func TestCopyIsForgotten(t *testing.T) {
	s, other := OpenSightings(t.TempDir(), quiet), id.UUID{2}
	first := peer.Offer{Start: peer.Start{Boot: 1, Nonce: 21, Sequence: 5}}
	for _, c := range []struct {
		offer   peer.Offer
		refused bool
	}{{first, false}, {first.Next(22, 4), true}, {first.Next(23, 5), false}} {
		if err := s.Judge(1, other, c.offer); (err != nil) != c.refused || (s.Copy(other) != nil) != c.refused {
			t.Errorf("%+v: %v, %v", c.offer, err, s.Copy(other))
		}
	}
}

// A damaged file is reported and stops nobody.
func TestDamagedSightings(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, sightingsName), []byte("TARSEEN1 and nothing that fits"), 0o600); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	s := OpenSightings(dir, slog.New(slog.NewTextHandler(&said, nil)))
	if !strings.Contains(said.String(), "level=ERROR") {
		t.Errorf("said %q", said.String())
	}
	if err := s.Judge(1, id.UUID{2}, peer.Offer{Start: peer.Start{Boot: 1, Nonce: 1}}); err != nil {
		t.Error(err)
	}
}

// FuzzDecodeSightings: what is decoded remembers somebody.
func FuzzDecodeSightings(f *testing.F) {
	f.Add([]byte(`[{"UUID":"0a000000000000000000000000000000","Boot":1,"Nonce":2,"Sequence":3,"Highest":4}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decodeSightings(b)
		if err != nil {
			return
		}
		for _, x := range list {
			if _, err := x.Judge(peer.Offer{Start: x.Start}); err != nil {
				t.Fatalf("%+v refuses itself: %v", x, err)
			}
		}
	})
}

// A disk that takes nothing for hours is two lines in the log, not one every 5 s.
func TestSightingsThatCanNotBeKeptAreSaidOnce(t *testing.T) {
	var out bytes.Buffer
	s := OpenSightings(t.TempDir(), slog.New(slog.NewTextHandler(&out, nil)))
	path := s.path
	s.path = filepath.Join(filepath.Dir(path), "gone", sightingsName)
	for range 3 {
		s.mu.changed = true
		s.save()
	}
	if n := strings.Count(out.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, &out)
	}
	s.path = path
	for range 2 {
		s.mu.changed = true
		s.save()
	}
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d lines once it is kept again, want 2:\n%s", n, &out)
	}
}
