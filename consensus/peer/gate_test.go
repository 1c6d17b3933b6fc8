package peer

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// memory is what a member remembers of others, and what it was told.
type memory struct {
	mu      sync.Mutex
	seen    map[id.UUID]Sighting
	refused []string // why others refused this member
}

func (m *memory) config(offer Offer) func(*Config) {
	m.seen = make(map[id.UUID]Sighting)
	return func(c *Config) {
		c.Offer = offer
		c.Judge = func(_ id.Cluster, u id.UUID, o Offer) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			seen, err := m.seen[u].Judge(o)
			m.seen[u] = seen
			return err
		}
		c.OnRefusedAsCopy = func(by Remote, why string) {
			m.mu.Lock()
			defer m.mu.Unlock()
			if text := fmt.Sprintf("%d: %s", by.UUID[0], why); !slices.Contains(m.refused, text) {
				m.refused = append(m.refused, text)
			}
		}
		c.OnSequence = func(from Remote, sequence uint64) {
			m.mu.Lock()
			defer m.mu.Unlock()
			s := m.seen[from.UUID]
			s.Heard(from.Start, sequence)
			m.seen[from.UUID] = s
		}
	}
}

func (m *memory) of(u id.UUID) Sighting {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen[u]
}

func (m *memory) told() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refused
}

// A directory comes back as an old copy of itself: it stays outside and is told
// so, whoever dials; the true one is let in again.
func TestOldCopyStaysOutside(t *testing.T) {
	for _, dials := range []string{"the copy", "the other"} {
		t.Run(dials+" dials", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { oldCopyStaysOutside(t, dials == "the copy") })
		})
	}
}

func oldCopyStaysOutside(t *testing.T, copyDials bool) {
	n := newFakeNet()
	self := Identity{Cluster: testCluster, Secret: testSecret}
	var ofA memory
	a := n.join(t, 1, self, ofA.config(Offer{Start: Start{1, 11, 0}}))
	join := func(offer Offer) (*member, *memory) {
		m := new(memory)
		b := n.join(t, 2, self, m.config(offer))
		if copyDials {
			a.SetPeers(nil)
			b.SetPeers([]Peer{{UUID: uuidOf(1), Addrs: []string{a.addr}}})
		} else {
			a.SetPeers([]Peer{{UUID: uuidOf(2), Addrs: []string{b.addr}}})
		}
		time.Sleep(2 * redialCopy)
		return b, m
	}
	first := Offer{Start: Start{1, 21, 10}}
	b, m := join(first)
	b.TellSequence(20)
	synctest.Wait()
	if got, back := ofA.of(uuidOf(2)), m.of(uuidOf(1)); got != (Sighting{first.Start, 20}) || back.Nonce != 11 {
		t.Errorf("host 1 remembers %+v, host 2 %+v", got, back)
	}
	b.stop()
	late := n.join(t, 3, self, nil)
	late.TellSequence(7)
	a.SetPeers([]Peer{{UUID: uuidOf(3), Addrs: []string{late.addr}}})
	time.Sleep(time.Second)
	if got := ofA.of(uuidOf(3)).Highest; got != 7 {
		t.Errorf("of host 3, which connected after it had told 7, host 1 remembers %d", got)
	}
	late.stop()
	copied, m := join(first.Next(22, 19))
	if got := m.told(); len(got) != 1 || !strings.HasPrefix(got[0], "1: old copy of the directory: start 1 had written up to 20") {
		t.Errorf("the copy was told %q", got)
	}
	for _, x := range []*member{a, copied} {
		for _, l := range x.Links() {
			if l.State == LinkUp || copyDials != (x == copied) && !strings.Contains(l.Err, "old copy") && l.Err != "" {
				t.Errorf("link of %d: %+v", x.cfg.UUID[0], l)
			}
		}
	}
	copied.stop()
	b, m = join(first.Next(23, 20))
	if got := ofA.of(uuidOf(2)); got.Boot != 2 || got.Nonce != 23 || len(m.told()) > 0 || !b.Send(uuidOf(1), Beats, beat(7)) {
		t.Errorf("the true one: remembered as %+v, told %q", got, m.told())
	}
	b.stop()
	a.stop()
}

// Both sides are old copies: both learn it at once.
func TestTwoOldCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet()
		self := Identity{Cluster: testCluster, Secret: testSecret}
		var ofA, ofB memory
		a := n.join(t, 1, self, ofA.config(Offer{Start: Start{1, 11, 0}}))
		b := n.join(t, 2, self, ofB.config(Offer{Start: Start{1, 21, 0}}))
		ofA.seen[uuidOf(2)] = Sighting{Start{2, 22, 0}, 0}
		ofB.seen[uuidOf(1)] = Sighting{Start{2, 12, 0}, 0}
		a.SetPeers([]Peer{{UUID: uuidOf(2), Addrs: []string{b.addr}}})
		time.Sleep(time.Second)
		for _, m := range []*memory{&ofA, &ofB} {
			if got := m.told(); len(got) != 1 || !strings.Contains(got[0], "start 2 was seen already, this is start 1") {
				t.Errorf("told %q", got)
			}
		}
		a.stop()
		b.stop()
	})
}

// A process that learns that its directory is an old copy is let in nowhere from
// then on, and leaves no trace.
func TestMarkOldCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet()
		self := Identity{Cluster: testCluster, Secret: testSecret}
		var ofA, ofB memory
		a := n.join(t, 1, self, ofA.config(Offer{Start: Start{1, 11, 0}}))
		b := n.join(t, 2, self, ofB.config(Offer{Start: Start{1, 21, 0}}))
		a.SetPeers([]Peer{{UUID: uuidOf(2), Addrs: []string{b.addr}}})
		b.SetPeers([]Peer{{UUID: uuidOf(1), Addrs: []string{a.addr}}})
		time.Sleep(time.Second)
		wantTold(t, a, "2 up")
		b.MarkOldCopy()
		time.Sleep(time.Minute)
		wantTold(t, a, "2 down")
		if got := ofB.told(); len(got) != 1 || !strings.Contains(got[0], "found to be one before") {
			t.Errorf("told %q", got)
		}
		a.stop()
		b.stop()
	})
}

// A reason that is too long is cut, not refused.
func TestLongVerdict(t *testing.T) {
	d, a, _, _ := shake(t, testSecret, testSecret, verdictMember, false)
	long := errors.New(strings.Repeat("x", 2*maxWhy))
	got, err := readVerdict(strings.NewReader(string(appendVerdict(nil, d.seal, long))), &a)
	if err != nil || got != strings.Repeat("x", maxWhy) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// The bytes of an offer are those of the golden file.
func TestOfferGolden(t *testing.T) {
	const path = "testdata/offer.golden"
	o := Offer{Start{300, 0x0102030405060708, 70000}, true, []Start{{298, 1, 5}, {299, 2, 69999}}}
	got := hex.EncodeToString(AppendOffer(nil, &o)) + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("got %swant %s%v", got, want, err)
	}
}

// An arbitrator that introduces itself has proved nothing: its word stops nobody.
func TestRefusalWithoutProof(t *testing.T) {
	told := 0
	n := NewNet(Config{UUID: uuidOf(1), OnRefusedAsCopy: func(Remote, string) { told++ }}, Identity{}, quiet())
	for _, introduced := range []bool{true, false} {
		n.refused(fmt.Errorf("shake hands: %w", &copyError{by: Remote{Introduced: introduced}, us: true, why: "old"}))
	}
	n.refused(&copyError{them: errors.New("old")})
	n.refused(errSecret)
	if told != 1 {
		t.Errorf("told %d times, want once", told)
	}
}
