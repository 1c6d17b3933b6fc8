package host

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
	"github.com/tarbitrator/tarbitrator/mnode"
)

func TestHostsFoundAndJoinACluster(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTown(t)
		defer w.end()
		a, b := w.build(addrA, 1), w.build(addrB, 2)
		b.move() // nobody is there to let it in yet
		a.move()
		w.until("cluster born", func() bool { return a.View().Cluster.ID != 0 })
		time.Sleep(5*time.Second + 300*time.Millisecond) // the master has just ticked
		if got := b.Dnode(); got != 0 {
			t.Fatalf("b is dnode %d before CREATE DNODE", got)
		}
		if n, err := a.CreateDnode(t.Context(), addrB); err != nil || n != 2 {
			t.Fatalf("create dnode: got %d, %v, want 2", n, err)
		}
		if took := w.until("b is in", func() bool { return b.Dnode() == 2 }); took > time.Second {
			t.Errorf("b was let in after %v, want at most 1s", took)
		}
		took := w.until("both vote for the metadata, and the arbitrator", func() bool { return votes(b, id.Mnode) == 3 })
		if took > 600*time.Millisecond {
			t.Errorf("the metadata was on both and the arbitrator %v after b was in, want well under 1s", took)
		}
		w.until("record says so", func() bool {
			g, _ := b.View().Group(id.Mnode)
			return len(g.Members) == 3 && !g.Members[1].Joining && !g.Members[2].Joining
		})
		o := b.Overview()
		if len(o.Mnodes) != 2 || o.Arbitrator == nil {
			t.Errorf("b shows mnodes %+v, arbitrator %+v", o.Mnodes, o.Arbitrator)
		}
		w.until("b shows everybody as ready", func() bool {
			o := b.Overview()
			return o.Dnodes[0].Status == "ready" && o.Dnodes[1].Status == "ready" && o.Arbitrator.Status == "ready" &&
				o.Mnodes[0].Role == "master" && o.Mnodes[1].Role == "slave" && o.Alive == 1
		})
	})
}

func TestDatabaseLivesAndDies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		if err := b.CreateDatabase(t.Context(), "demo", twoReplicas(2)); err != nil {
			t.Fatal(err)
		}
		if err := a.CreateDatabase(t.Context(), "demo", twoReplicas(2)); !errors.Is(err, &mnode.Error{Code: mnode.CodeDatabaseExists}) {
			t.Errorf("created twice: got %v", err)
		}
		db, ok := b.View().Database("demo")
		if !ok || !db.Ready {
			t.Fatalf("b's own view has %+v", db)
		}
		for _, g := range db.Groups {
			for _, h := range []*house{a, b} {
				if _, ok := h.Shard(g); !ok {
					t.Errorf("%s has no replica of %d", h.addr, g)
				}
			}
		}
		write(t, b, db.Groups[0], "one")
		write(t, a, db.Groups[0], "two")
		w.until("both have it", func() bool {
			return strings.Join(rows(a, db.Groups[0]), " ") == "one two" && strings.Join(rows(b, db.Groups[0]), " ") == "one two"
		})
		if err := b.DropDatabase(t.Context(), "demo"); err != nil {
			t.Fatal(err)
		}
		w.until("nothing is left", func() bool {
			return len(a.View().Groups) == 1 && len(a.record.replicas()) == 1 && len(b.record.replicas()) == 1
		})
		for _, h := range []*house{a, b} {
			if left, _ := os.ReadDir(h.dir + "/vnode"); len(left) > 0 {
				t.Errorf("%s still has %v", h.addr, left)
			}
		}
	})
}

// A script types CREATE DNODE and CREATE DATABASE in one breath.
func TestDatabaseWaitsForANewDnode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTown(t)
		defer w.end()
		a, b := w.build(addrA, 1), w.build(addrB, 2)
		a.move()
		w.until("cluster born", func() bool { return a.View().Cluster.ID != 0 })
		outOfDnodes := &mnode.Error{Code: mnode.CodeOutOfDnodes}
		start := time.Now()
		if err := a.CreateDatabase(t.Context(), "demo", twoReplicas(2)); !errors.Is(err, outOfDnodes) || time.Since(start) > time.Second {
			t.Fatalf("with nobody to wait for: got %v after %v", err, time.Since(start))
		}
		if _, err := a.CreateDnode(t.Context(), addrB); err != nil {
			t.Fatal(err)
		}
		err := a.CreateDatabase(t.Context(), "demo", twoReplicas(2))
		if !errors.Is(err, outOfDnodes) || !strings.Contains(err.Error(), "dnode 2 (b:6030)") {
			t.Fatalf("while b is not there: got %v, want that dnode 2 has not reported", err)
		}
		b.move()
		if err := a.CreateDatabase(t.Context(), "demo", twoReplicas(2)); err != nil {
			t.Fatalf("as soon as b has been started: %v", err)
		}
	})
}

// A database that can't be made yet says what it waits for.
func TestUnfinishedDatabaseSaysWhy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, _ := pair(t)
		defer w.end()
		w.mu.Lock()
		w.arb.up = false
		w.mu.Unlock()
		err := a.CreateDatabase(t.Context(), "demo", twoReplicas(1))
		if !errors.Is(err, &mnode.Error{Code: mnode.CodeCreating}) || !strings.Contains(err.Error(), "the arbitrator "+addrW) {
			t.Errorf("without the arbitrator: got %v, want that it is waited for", err)
		}
	})
}

// registerToy offers a write to a toy shard on every host, as node/query does.
func registerToy(h *house) {
	h.Host.Handle("toy.write", func(ctx context.Context, _ id.UUID, g id.Group, body []byte) ([]byte, error) {
		answer, err := h.groups.Propose(ctx, g, body)
		if err != nil {
			return nil, err
		}
		return []byte(answer.(string)), nil
	})
}

func write(t *testing.T, h *house, g id.Group, text string) {
	t.Helper()
	for _, x := range h.town.all {
		registerToy(x)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := h.Forward(ctx, g, "toy.write", []byte(text)); err != nil {
		t.Fatalf("write %q at %s: %v", text, h.addr, err)
	}
}

func rows(h *house, g id.Group) []string {
	s, ok := h.Shard(g)
	if !ok {
		return nil
	}
	return s.(*toy).list()
}

func TestServiceGoesOnWhenTheMasterDies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		if err := a.CreateDatabase(t.Context(), "demo", twoReplicas(1)); err != nil {
			t.Fatal(err)
		}
		db, _ := a.View().Database("demo")
		write(t, a, db.Groups[0], "before")
		a.kill()
		write(t, b, db.Groups[0], "after")
		if _, err := b.CreateDnode(t.Context(), addrC); err != nil {
			t.Fatal(err)
		}
		w.until("b shows that a is gone", func() bool {
			o := b.Overview()
			return o.Dnodes[0].Status == "offline" && o.Master == 2 && o.Mnodes[0].Role == "offline" && o.Alive == 2
		})
		a.move()
		w.until("a has what it missed", func() bool {
			_, ok := a.View().DnodeAt(addrC)
			return ok && strings.Join(rows(a, db.Groups[0]), " ") == "before after"
		})
		w.until("all is well", func() bool {
			o := a.Overview()
			return o.Dnodes[0].Status == "ready" && o.Dnodes[1].Status == "ready" && len(o.Groups) == 1 && o.Groups[0].Onlines == 2
		})
	})
}

func TestWithoutAMasterThereIsStillAnAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		a.kill()
		w.mu.Lock()
		w.arb.up = false
		w.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var none *NoMasterError
		if _, err := b.CreateDnode(ctx, addrC); !errors.As(err, &none) || !none.CutOff {
			t.Errorf("got %v, want that b is cut off", err)
		}
		w.until("b says what it knows", func() bool {
			o := b.Overview()
			return o.Alive == 0 && o.Master == 0 && o.Dnodes[0].Status == "offline" && o.Dnodes[1].Status == "ready"
		})
	})
}

func TestDatabaseIsFinishedByAnotherMaster(t *testing.T) {
	for n := range 12 {
		bubble(t, func(t *testing.T) {
			w, a, b := pair(t)
			defer w.end()
			done := make(chan error, 1)
			go func() { done <- b.CreateDatabase(context.Background(), "demo", twoReplicas(3)) }()
			time.Sleep(time.Duration(n) * 700 * time.Microsecond)
			a.kill()
			w.until("b leads", func() bool { return b.Overview().Master == 2 })
			a.move()
			if err := <-done; err != nil {
				t.Errorf("killed after %d steps: %v", n, err)
			}
			w.until("everybody has it", func() bool {
				o := a.Overview()
				ok := len(o.Groups) == 3
				for _, g := range o.Groups {
					ok = ok && g.Onlines == 2
				}
				return ok
			})
		})
	}
}

// A replica whose log is lost is not made again: it would vote as if it knew
// nothing (R40).
func TestLostReplicaIsNotMadeAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		if err := a.CreateDatabase(t.Context(), "demo", twoReplicas(1)); err != nil {
			t.Fatal(err)
		}
		b.kill()
		b.disk = waltest.NewDisk(99)
		b.move()
		w.until("b says so", func() bool {
			for _, g := range a.Overview().Groups {
				if len(g.Members) == 2 && strings.Contains(g.Members[0].Fault+g.Members[1].Fault, "lost this replica") {
					return true
				}
			}
			return false
		})
		time.Sleep(10 * time.Second)
		if stored, err := b.groups.Stored(); err != nil || len(stored) != 0 {
			t.Errorf("b has made %+v, %v", stored, err)
		}
	})
}

// A first host whose directory is gone never founds a second cluster: it waits
// until somebody has typed RESTORE DNODE, wherever it learned of the first one.
func TestFirstHostAsksBeforeItFounds(t *testing.T) {
	for _, told := range []string{"by secondEp", "by the arbitrator"} {
		bubble(t, func(t *testing.T) {
			w, a, b := pair(t)
			defer w.end()
			cluster := a.View().Cluster.ID
			if told == "by the arbitrator" {
				a.edit = func(c *Config) { c.SecondEP = "" }
			}
			a.wipe(5)
			w.until("it says what to type", func() bool {
				return errors.Is(a.Outside(), &mnode.Error{Code: mnode.CodeNoDnode}) && strings.Contains(a.Outside().Error(), "directory is gone: RESTORE DNODE 1 on b:6030")
			})
			time.Sleep(5 * time.Second)
			if got := a.Dnode(); got != 0 {
				t.Fatalf("%s: wiped first host is dnode %d", told, got)
			}
			if err := b.RestoreDnode(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			took := w.until("it is dnode 1 again", func() bool { return a.Dnode() == 1 })
			if took > time.Second {
				t.Errorf("%s: let in %v after RESTORE DNODE, want within 1s", told, took)
			}
			w.until("its replica votes again", func() bool { return votes(b, id.Mnode) == 3 && votes(a, id.Mnode) == 3 && settled(b) })
			if got := a.View().Cluster.ID; got != cluster {
				t.Errorf("%s: cluster %d, want %d", told, got, cluster)
			}
		})
	}
}

// With the arbitrator alone a wiped first host waits for the others, unless
// somebody gives the old cluster up.
func TestNewClusterInSpiteOfTheArbitrator(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		cluster := a.View().Cluster.ID
		b.kill()
		a.wipe(6)
		time.Sleep(5 * time.Second)
		if a.Dnode() != 0 {
			t.Fatal("a second cluster was founded")
		}
		a.edit = func(c *Config) { c.NewCluster = true }
		a.wipe(7)
		w.until("another cluster", func() bool { id := a.View().Cluster.ID; return id != 0 && id != cluster })
	})
}

// firstEp and fqdn that spell the same host differently are a typical first
// mistake: the host would wait for itself.
func TestFirstHostUnderAnotherName(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTown(t)
		defer w.end()
		a := w.build(addrA, 1)
		a.alias, a.first = "alpha:6030", "alpha:6030"
		a.move()
		<-a.ended
		if a.err == nil || !strings.Contains(a.err.Error(), "alpha:6030 is this host") || !strings.Contains(a.err.Error(), addrA) {
			t.Errorf("got %v, want both names of this host", a.err)
		}
	})
}

func TestSilentArbitratorDelaysABirth(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTown(t)
		defer w.end()
		w.arb.up = false
		a := w.build(addrA, 1)
		a.move()
		time.Sleep(30 * time.Second)
		if a.Dnode() != 0 {
			t.Fatal("born without the arbitrator's word")
		}
		w.mu.Lock()
		w.arb.up = true
		w.mu.Unlock()
		w.until("cluster born", func() bool { return a.View().Cluster.ID != 0 })
	})
}

func TestWipedArbitratorIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		if err := a.CreateDatabase(t.Context(), "demo", twoReplicas(1)); err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		w.buildTower(id.UUID{0xef})
		w.mu.Unlock()
		w.until("every group has the new one", func() bool {
			for _, g := range b.View().Groups {
				m, ok := g.Witness()
				if !ok || m.UUID != (id.UUID{0xef}) || m.Joining || len(g.Members) != 3 {
					return false
				}
			}
			return votes(a, 2) == 3
		})
		db, _ := a.View().Database("demo")
		a.kill()
		write(t, b, db.Groups[0], "still")
	})
}

func TestDifferentSettingsAreShown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		b.kill()
		b.edit = func(c *Config) { c.Settings = map[string]string{"arbitrator": "elsewhere:6042"} }
		b.move()
		w.until("reason is shown", func() bool {
			d := a.Overview().Dnodes[1]
			return d.Status == "offline" && d.Reason == "cfg parameters inconsistent: arbitrator"
		})
	})
}

func TestRepliesKeepTheirMeaning(t *testing.T) {
	leader := id.UUID{1}
	for _, err := range []error{
		&consensus.NotLeaderError{Group: 3, Leader: leader}, consensus.ErrLost, consensus.ErrUnknownOutcome, consensus.ErrBusy,
		&CodedError{Code: 0x2600, Text: "syntax error"}, Again(errors.New("replaying")),
	} {
		_, got := decodeReply(3, encodeReply(nil, err))
		switch want := err.(type) { //nolint:errorlint // the table holds bare values
		case *consensus.NotLeaderError:
			var x *consensus.NotLeaderError
			if !errors.As(got, &x) || *x != *want {
				t.Errorf("got %v, want %v", got, want)
			}
		case *CodedError:
			var x *CodedError
			if !errors.As(got, &x) || *x != *want {
				t.Errorf("got %v, want %v", got, want)
			}
		default:
			if again := errors.Is(err, errAgain) && errors.Is(got, errAgain); !again && !errors.Is(got, err) {
				t.Errorf("got %v, want %v", got, err)
			}
		}
	}
	if body, err := decodeReply(3, encodeReply([]byte("rows"), nil)); err != nil || string(body) != "rows" {
		t.Errorf("got %q, %v, want rows", body, err)
	}
}

// No reply, however damaged, is taken for done unless it says so.
func FuzzDecodeReply(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodeReply([]byte("x"), nil))
	f.Add(encodeReply(nil, &CodedError{Code: 1, Text: "x"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := decodeReply(1, b)
		if (err == nil) != (len(b) > 0 && b[0] == replyDone) {
			t.Fatalf("%x: got %v", b, err)
		}
	})
}

// Whatever decodeRecord accepts names somebody.
func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte(`{"Identity":{"UUID":"0a000000000000000000000000000000"},"Starts":{"Boot":1,"Nonce":7,"Sequence":0}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := decodeRecord(b); err == nil && c.Identity.UUID.IsZero() {
			t.Fatal("a record of nobody")
		}
	})
}

func TestOneProcessPerDirectory(t *testing.T) {
	dir := t.TempDir()
	r, err := OpenRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRecord(dir); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second process: got %v, want that it is in use", err)
	}
	was := r.Identity()
	if err := r.Begin(7); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := OpenRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Begin(6); err == nil || !strings.Contains(err.Error(), "old copy") {
		t.Errorf("a log that is older than the record: %v", err)
	}
	if err := again.Begin(8); err != nil {
		t.Fatal(err)
	}
	o := again.Offer()
	if got := again.Identity(); got.UUID != was.UUID || o.Boot != 2 || o.Sequence != 8 || len(o.History) != 1 || o.History[0].Nonce != r.Boot() {
		t.Errorf("got %+v, %+v after a restart, want the same directory at start 2", got, o)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir + "/host"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/wal", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRecord(dir); err == nil || !strings.Contains(err.Error(), "put that file back") {
		t.Errorf("data without a record: got %v, want a refusal", err)
	}
}

// A cut between the hosts leaves one of them with everything; the other refuses
// in time, and a statement that it could not place is not run later.
func TestCutBetweenHosts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		if err := a.CreateDatabase(t.Context(), "demo", twoReplicas(1)); err != nil {
			t.Fatal(err)
		}
		db, _ := a.View().Database("demo")
		for _, way := range [][2]string{{addrA, addrB}, {addrB, addrW}} {
			w.mu.Lock()
			w.cut[way] = true
			w.mu.Unlock()
		}
		write(t, a, db.Groups[0], "kept")
		registerToy(b)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var none *NoMasterError
		if _, err := b.Forward(ctx, db.Groups[0], "toy.write", []byte("refused")); !errors.As(err, &none) || !none.CutOff {
			t.Errorf("got %v, want that b is cut off", err)
		} else if errors.Is(err, consensus.ErrUnknownOutcome) {
			t.Errorf("got %v, want that nothing was done", err)
		}
		w.until("b shows a as offline", func() bool {
			o := b.Overview()
			return o.Dnodes[0].Status == "offline" && o.Alive == 0
		})
		w.mu.Lock()
		clear(w.cut)
		w.mu.Unlock()
		w.until("b has what was kept", func() bool { return strings.Join(rows(b, db.Groups[0]), " ") == "kept" })
		time.Sleep(5 * time.Second)
		if got := rows(a, db.Groups[0]); len(got) != 1 {
			t.Errorf("a has %v: a refused statement was run later", got)
		}
	})
}

// A host at another address is the same member: its directory says so.
func TestMemberMoves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		b.kill()
		w.mu.Lock()
		delete(w.all, addrB)
		b.addr = addrC
		w.all[addrC] = b
		w.mu.Unlock()
		b.move()
		w.until("a knows the new address", func() bool {
			d, ok := a.View().DnodeAt(addrC)
			return ok && d.ID == 2 && a.Overview().Dnodes[1].Status == "ready"
		})
	})
}

// A dropped dnode is out, and can't come back with what it has (A28).
func TestDroppedDnodeStaysOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		if err := a.DropDnode(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		w.until("metadata on a alone", func() bool {
			d, _ := a.View().Dnode(2)
			return d.Dropped && votes(a, id.Mnode) == 1
		})
		b.kill()
		b.move()
		time.Sleep(10 * time.Second)
		if o := a.Overview(); len(o.Dnodes) != 1 {
			t.Errorf("a shows %+v", o.Dnodes)
		}
		if _, err := a.CreateDnode(t.Context(), addrB); err != nil {
			t.Fatal(err)
		}
		b.kill()
		b.dir, b.disk = t.TempDir(), waltest.NewDisk(9)
		b.move()
		w.until("b is dnode 3", func() bool { return b.Dnode() == 3 && votes(b, id.Mnode) == 3 })
	})
}

// With three hosts the metadata is on all of them and the arbitrator is out of
// it; a host forwards what it has no replica of.
func TestThreeHosts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		c := w.build(addrC, 3)
		if _, err := b.CreateDnode(t.Context(), addrC); err != nil {
			t.Fatal(err)
		}
		c.move()
		w.until("metadata on all three", func() bool {
			g, _ := c.View().Group(id.Mnode)
			_, witness := g.Witness()
			return len(g.Members) == 3 && !witness && votes(c, id.Mnode) == 3
		})
		three := twoReplicas(1)
		three.Replica = 3
		one := twoReplicas(1)
		one.Replica = 1
		for name, o := range map[string]mnode.Options{"three": three, "two": twoReplicas(1), "one": one} {
			if err := c.CreateDatabase(t.Context(), name, o); err != nil {
				t.Fatalf("create %s: %v", name, err)
			}
		}
		for _, name := range []string{"three", "two", "one"} {
			db, _ := c.View().Database(name)
			g, _ := c.View().Group(db.Groups[0])
			if _, has := g.Witness(); has != (name == "two") {
				t.Errorf("%s: members %+v", name, g.Members)
			}
			for _, h := range []*house{a, b, c} {
				write(t, h, g.ID, name)
			}
		}
		a.kill()
		db, _ := c.View().Database("three")
		write(t, c, db.Groups[0], "after")
		write(t, b, db.Groups[0], "after")
	})
}

// A forwarded call ends as soon as another host is seen to lead (R46), not when
// the frozen one answers.
func TestForwardLeavesAFormerLeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		if err := a.CreateDatabase(t.Context(), "demo", twoReplicas(1)); err != nil {
			t.Fatal(err)
		}
		db, _ := a.View().Database("demo")
		g := db.Groups[0]
		write(t, a, g, "warm")
		leader, other := a, b
		if s, _ := a.groups.Status(g); s.Leader == b.Self() {
			leader, other = b, a
		}
		frozen := make(chan struct{})
		defer close(frozen)
		leader.Host.Handle("toy.write", func(ctx context.Context, _ id.UUID, _ id.Group, _ []byte) ([]byte, error) {
			select { // takes the request and says nothing more
			case <-frozen:
			case <-ctx.Done():
			}
			return nil, ctx.Err()
		})
		done := make(chan error, 1)
		go func() {
			_, err := other.Forward(context.Background(), g, "toy.write", []byte("moved"))
			done <- err
		}()
		time.Sleep(time.Second)
		for _, way := range [][2]string{{addrA, addrB}, {leader.addr, addrW}} {
			w.mu.Lock()
			w.cut[way] = true
			w.mu.Unlock()
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(rows(other, g), " "); got != "warm moved" {
			t.Errorf("the new leader has %q, want warm moved", got)
		}
	})
}
