package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

func wantTold(t *testing.T, m *member, want ...string) {
	t.Helper()
	if got := m.told(); !slices.Equal(got, want) {
		t.Errorf("host %d was told %q, want %q", m.cfg.UUID[0], got, want)
	}
}

func beat(g id.Group) []Message {
	return []Message{{Kind: KindHung, Group: g, From: 1, To: 2, Term: 3}}
}

// Two hosts find each other, talk, and say goodbye.
func TestTwoHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := linked(t, newFakeNet())
		time.Sleep(time.Second)
		wantTold(t, a, "2 up")
		wantTold(t, b, "1 up")
		for class := range Bulk + 1 {
			if !a.Send(uuidOf(2), class, beat(7)) || !b.Send(uuidOf(1), class, beat(8)) {
				t.Errorf("send on class %d refused", class)
			}
			if got := b.received(); len(got) != 1 || got[0].Group != 7 {
				t.Errorf("class %d: host 2 received %+v", class, got)
			}
			if got := a.received(); len(got) != 1 || got[0].Group != 8 {
				t.Errorf("class %d: host 1 received %+v", class, got)
			}
		}
		if links := a.Links(); len(links) != 1 || links[0].State != LinkUp || links[0].Remote.Host != 2 || links[0].Classes != [3]bool{true, true, true} {
			t.Errorf("links of host 1: %+v", links)
		}
		time.Sleep(time.Minute) // keep-alives keep it
		wantTold(t, a)
		b.stop()
		wantTold(t, a, "2 refused")
		a.stop()
	})
}

// The kernel takes the sockets of a dead process away one after the other: for a
// moment its end point still takes connections, and hangs them up sooner or
// later.
func TestDyingProcess(t *testing.T) {
	for _, dies := range []string{"1", "2"} { // they differ in who dials first
		t.Run(dies, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet()
				stays, gone := linked(t, n)
				if dies == "1" {
					stays, gone = gone, stays
				}
				time.Sleep(time.Second)
				wantTold(t, stays, dies+" up")
				n.mu.Lock()
				n.dying[gone.addr] = 3
				n.mu.Unlock()
				gone.stop()
				time.Sleep(100 * time.Millisecond)
				wantTold(t, stays, dies+" down", dies+" refused")
				stays.stop()
			})
		})
	}
}

// A host that starts again is down and up, at once when it dials itself.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet()
		a, b := linked(t, n)
		time.Sleep(time.Second)
		wantTold(t, a, "2 up")
		b.stop()
		wantTold(t, a, "2 refused")
		b = n.join(t, 2, Identity{Cluster: testCluster, Host: 2, Secret: testSecret}, nil)
		b.SetPeers([]Peer{{UUID: uuidOf(1), Addrs: []string{a.addr}}})
		time.Sleep(1500 * time.Millisecond)
		wantTold(t, a, "2 up")
		wantTold(t, b, "1 up")
		b.stop()
		a.stop()
	})
}

// The wire is cut: neither side hears anything, and both notice.
func TestCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet()
		a, b := linked(t, n)
		time.Sleep(time.Second)
		a.told()
		b.told()
		n.setCut(a.addr, true)
		n.setCut(b.addr, true)
		time.Sleep(8 * time.Second)
		wantTold(t, a, "2 down")
		wantTold(t, b, "1 down")
		n.setCut(a.addr, false)
		n.setCut(b.addr, false)
		time.Sleep(3 * time.Second)
		wantTold(t, a, "2 up")
		wantTold(t, b, "1 up")
		a.stop()
		b.stop()
	})
}

// One direction of dialling is enough: the smaller UUID can't, the larger does.
func TestOneWayToDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet()
		self := Identity{Cluster: testCluster, Secret: testSecret}
		a, b := n.join(t, 1, self, nil), n.join(t, 2, self, nil)
		a.SetPeers([]Peer{{UUID: uuidOf(2), Addrs: []string{"nowhere:1"}}})
		b.SetPeers([]Peer{{UUID: uuidOf(1), Addrs: []string{"nowhere:1", a.addr}}})
		time.Sleep(5 * time.Second)
		wantTold(t, a, "2 up")
		wantTold(t, b, "1 up")
		a.stop()
		b.stop()
	})
}

// Who answers at the address must be who was meant, and know the secret.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet()
		a := n.join(t, 1, Identity{Cluster: testCluster, Secret: testSecret}, nil)
		other := n.join(t, 2, Identity{Cluster: testCluster + 1, Secret: testSecret}, nil)
		thief := n.join(t, 3, Identity{Cluster: testCluster, Secret: Secret{9}}, nil)
		guest := n.join(t, 4, Identity{}, nil)
		wiped := n.join(t, 5, Identity{Cluster: testCluster, Secret: testSecret}, nil)
		a.SetPeers([]Peer{
			{UUID: uuidOf(2), Addrs: []string{other.addr}}, {UUID: uuidOf(3), Addrs: []string{thief.addr}},
			{UUID: uuidOf(4), Addrs: []string{guest.addr}}, {UUID: uuidOf(6), Addrs: []string{wiped.addr}},
		})
		time.Sleep(5 * time.Second)
		wantTold(t, a)
		want := map[id.UUID]string{
			uuidOf(2): "belongs to another cluster", uuidOf(3): "does not know the cluster's secret",
			uuidOf(4): "belongs to no cluster yet", uuidOf(6): "another data directory answers",
		}
		for _, l := range a.Links() {
			if !bytes.Contains([]byte(l.Err), []byte(want[l.Remote.UUID])) {
				t.Errorf("link to %v: %q, want %q", l.Remote.UUID.Short(), l.Err, want[l.Remote.UUID])
			}
			if l.Remote.UUID == uuidOf(6) && l.Answered != uuidOf(5) {
				t.Errorf("at the address of 6 answered %v, want 5", l.Answered.Short())
			}
		}
		// The guest joins.
		guest.SetIdentity(Identity{Cluster: testCluster, Host: 4, Secret: testSecret})
		time.Sleep(2 * time.Second)
		wantTold(t, a, "4 up")
		for _, m := range []*member{a, other, thief, guest, wiped} {
			m.stop()
		}
	})
}

// A host that becomes a member dials the peers that it knew as a guest.
func TestPeersBeforeIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet()
		a := n.join(t, 1, Identity{}, nil)
		b := n.join(t, 2, Identity{Cluster: testCluster, Secret: testSecret}, nil)
		a.SetPeers([]Peer{{UUID: uuidOf(2), Addrs: []string{b.addr}}})
		time.Sleep(time.Second)
		wantTold(t, a)
		a.SetIdentity(Identity{Cluster: testCluster, Host: 1, Secret: testSecret})
		time.Sleep(time.Second)
		wantTold(t, a, "2 up")
		a.stop()
		b.stop()
	})
}

// keyring is an arbitrator's memory of secrets.
type keyring map[id.Cluster]Secret

func (k keyring) Secret(c id.Cluster) (Secret, bool) {
	s, ok := k[c]
	return s, ok
}

// The arbitrator is told the secret once, and believes nobody else afterwards.
func TestIntroduction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet()
		ring := keyring{}
		var from []Remote
		w := n.join(t, 9, Identity{}, func(c *Config) {
			c.Keys = ring
			c.OnFrame = func(r Remote, _ Class, _ []Message) { from = append(from, r) }
		})
		ping := []Message{{Kind: KindPing}}
		a := n.join(t, 1, Identity{Cluster: testCluster, Host: 1, Secret: testSecret}, nil)
		p := Peer{UUID: uuidOf(9), Addrs: []string{w.addr}, Arbitrator: true, Enrolled: true}
		a.SetPeers([]Peer{p})
		time.Sleep(2 * time.Second)
		wantTold(t, a) // it claims not to know us, but it did once: not told
		p.Enrolled = false
		a.SetPeers([]Peer{p})
		time.Sleep(2 * time.Second)
		wantTold(t, a, "9 up")
		a.Send(uuidOf(9), Beats, ping)
		synctest.Wait()
		if len(from) != 1 || !from[0].Introduced || from[0].Secret != testSecret || from[0].Cluster != testCluster || from[0].Addr != a.addr {
			t.Fatalf("the arbitrator heard from %+v", from)
		}
		ring[testCluster] = from[0].Secret
		a.stop()
		time.Sleep(time.Second)
		b := n.join(t, 2, Identity{Cluster: testCluster, Host: 2, Secret: testSecret}, nil)
		thief := n.join(t, 3, Identity{Cluster: testCluster, Host: 1, Secret: Secret{9}}, nil)
		b.SetPeers([]Peer{p})
		thief.SetPeers([]Peer{p})
		time.Sleep(2 * time.Second)
		wantTold(t, b, "9 up")
		wantTold(t, thief)
		b.Send(uuidOf(9), Beats, ping)
		synctest.Wait()
		if len(from) != 2 || from[1].Introduced || from[1].UUID != uuidOf(2) {
			t.Errorf("the arbitrator heard from %+v", from)
		}
		if !w.SendTo(testCluster, uuidOf(2), Beats, []Message{{Kind: KindPong}}) || w.SendTo(testCluster, uuidOf(3), Beats, ping) {
			t.Error("the arbitrator answers the wrong hosts")
		}
		if got := b.received(); len(got) != 1 || got[0].Kind != KindPong {
			t.Errorf("host 2 received %+v", got)
		}
		for _, m := range []*member{w, b, thief} {
			m.stop()
		}
	})
}

func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := linked(t, newFakeNet())
		defer a.stop()
		defer b.stop()
		if err := callErr(a, 2, "echo"); !errors.Is(err, ErrUnreachable) {
			t.Errorf("before there is a connection: %v", err)
		}
		time.Sleep(time.Second)
		for _, size := range []int{0, 1, chunkBytes, chunkBytes + 1, 3 << 20} {
			req := bytes.Repeat([]byte("x"), size)
			got, err := a.Call(t.Context(), uuidOf(2), "echo", req)
			if err != nil || !bytes.Equal(got, req) {
				t.Errorf("echo of %d bytes: %d bytes, %v", size, len(got), err)
			}
		}
		var refusal *CallError
		if err := callErr(b, 1, "refuse"); !errors.As(err, &refusal) || refusal.Code != 0x0334 || refusal.Text != "more dnodes are needed" {
			t.Errorf("refuse: %v", err)
		}
		if err := callErr(a, 2, "nonsense"); !errors.Is(err, ErrNoMethod) {
			t.Errorf("nonsense: %v", err)
		}
		if _, err := a.Call(t.Context(), uuidOf(2), "echo", make([]byte, MaxBody+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("too large: %v", err)
		}
		a.told()
		b.told()
		// The caller gives up: the handler's context ends.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Call(ctx, uuidOf(2), "wait", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait: %v", err)
		}
		wantTold(t, b, "handler: context canceled")
	})
}

// A connection that breaks fails the calls on it, on both sides.
func TestBrokenCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := linked(t, newFakeNet())
		time.Sleep(time.Second)
		b.told()
		broken := make(chan error)
		go func() { broken <- callErr(a, 2, "wait") }()
		synctest.Wait()
		a.SetPeers(nil)
		if err := <-broken; !errors.Is(err, ErrBroken) {
			t.Errorf("call on a broken connection: %v", err)
		}
		if got := b.told(); !slices.Contains(got, "handler: "+ErrBroken.Error()) {
			t.Errorf("host 2 was told %q", got)
		}
		a.stop()
		b.stop()
	})
}

// Too many calls at once are refused, not queued without end.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := linked(t, newFakeNet())
		time.Sleep(time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		for range maxRunning {
			go func() { _, _ = a.Call(ctx, uuidOf(2), "wait", nil) }()
		}
		synctest.Wait()
		if err := callErr(a, 2, "echo"); !errors.Is(err, ErrBusy) {
			t.Errorf("call %d: %v", maxRunning+1, err)
		}
		cancel()
		synctest.Wait()
		if _, err := a.Call(t.Context(), uuidOf(2), "echo", nil); err != nil {
			t.Errorf("after they ended: %v", err)
		}
		a.stop()
		b.stop()
	})
}

// A guest may make the calls that are open to guests, and nothing else.
func TestGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet()
		a := n.join(t, 1, Identity{Cluster: testCluster, Secret: testSecret}, nil)
		g := n.join(t, 2, Identity{}, nil)
		got, err := g.CallAddr(t.Context(), a.addr, "hello", []byte("world"))
		if err != nil || string(got) != "true world" {
			t.Errorf("hello: %q, %v", got, err)
		}
		// Also to somebody who has no cluster, from somebody who has.
		if got, err := a.CallAddr(t.Context(), g.addr, "hello", nil); err != nil || string(got) != "true " {
			t.Errorf("hello to a guest: %q, %v", got, err)
		}
		if _, err := g.CallAddr(t.Context(), a.addr, "echo", nil); !errors.Is(err, ErrNoMethod) {
			t.Errorf("echo: %v", err)
		}
		if _, err := g.CallAddr(t.Context(), "nowhere:1", "hello", nil); !errors.Is(err, ErrUnreachable) {
			t.Errorf("nowhere: %v", err)
		}
		if _, err := a.CallAddr(t.Context(), a.addr, "hello", nil); !errors.Is(err, ErrSelf) {
			t.Errorf("its own address: %v, want ErrSelf", err)
		}
		if _, err := g.CallAddr(t.Context(), a.addr, "hello", make([]byte, maxGuestBody+1)); err == nil {
			t.Error("a large request of a guest was taken")
		}
		a.stop()
		g.stop()
	})
}

// The queue of a connection is bounded; what does not fit is dropped, newest first.
func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet()
		hold := make(chan struct{})
		a, b := n.join(t, 1, Identity{Cluster: testCluster, Secret: testSecret}, nil),
			n.join(t, 2, Identity{Cluster: testCluster, Secret: testSecret}, func(c *Config) {
				c.OnFrame = func(Remote, Class, []Message) { <-hold }
			})
		a.SetPeers([]Peer{{UUID: uuidOf(2), Addrs: []string{b.addr}}})
		time.Sleep(time.Second)
		batch := make([]Message, 1000)
		for i := range batch {
			batch[i] = beat(7)[0]
		}
		sent := 0
		for a.Send(uuidOf(2), Beats, batch) {
			sent++
			synctest.Wait()
			if sent > 1000 {
				t.Fatal("the queue has no end")
			}
		}
		if got := sent * estimate(batch); got < queueBeats/2 || got > 2*queueBeats {
			t.Errorf("%d bytes were queued, the bound is %d", got, queueBeats)
		}
		close(hold)
		a.stop()
		b.stop()
	})
}

// Two that are held by a slow third: beats pass while bulk is stuck.
func TestBeatsBeforeBulk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet()
		hold := make(chan struct{})
		heard := 0
		a, b := n.join(t, 1, Identity{Cluster: testCluster, Secret: testSecret}, nil),
			n.join(t, 2, Identity{Cluster: testCluster, Secret: testSecret}, func(c *Config) {
				c.OnFrame = func(_ Remote, class Class, _ []Message) {
					if class == Bulk {
						<-hold
						return
					}
					heard++
				}
			})
		a.SetPeers([]Peer{{UUID: uuidOf(2), Addrs: []string{b.addr}}})
		time.Sleep(time.Second)
		for range 5 {
			a.Send(uuidOf(2), Bulk, beat(1))
		}
		a.Send(uuidOf(2), Beats, beat(2))
		synctest.Wait()
		if heard != 1 {
			t.Errorf("%d beats came through", heard)
		}
		close(hold)
		a.stop()
		b.stop()
	})
}

func TestStatesHaveNames(t *testing.T) {
	if got := fmt.Sprint(LinkDown, LinkUp, LinkRefused, testSecret); got != "down up refused (secret)" {
		t.Error(got)
	}
}

// A hint makes the dialler try at once, whatever its back-off, and is worth
// nothing about a directory that is no peer.
func TestHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet()
		a, b := linked(t, n)
		time.Sleep(time.Second)
		for range 5 { // by chance the next attempt is due once in a hundred times
			b.stop()
			time.Sleep(time.Minute)
			a.told()
			b = n.join(t, 2, Identity{Cluster: testCluster, Host: 2, Secret: testSecret}, nil)
			a.Hint(uuidOf(2))
			a.Hint(uuidOf(9))
			time.Sleep(10 * time.Millisecond)
			wantTold(t, a, "2 up")
		}
		b.stop()
		a.stop()
	})
}

// A peer that is at none of its addresses, for a reason of its own at each, is
// logged once for each and not at every attempt.
func TestComplaintsAreNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet()
		self := Identity{Cluster: testCluster, Secret: testSecret}
		a, other := n.join(t, 1, self, nil), n.join(t, 3, self, nil)
		a.SetPeers([]Peer{{UUID: uuidOf(2), Addrs: []string{"nowhere:1", other.addr, a.addr}}})
		time.Sleep(10 * time.Minute)
		other.stop()
		a.stop()
		if len(a.lines) != 3 {
			t.Errorf("%d lines about three addresses:\n%s", len(a.lines), a.lines)
		}
	})
}
