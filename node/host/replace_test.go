package host

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// wipe restarts a host with nothing: another directory on another disk.
func (h *house) wipe(seed uint64) {
	if h.alive() {
		h.kill()
	}
	h.dir, h.disk = h.town.t.TempDir(), waltest.NewDisk(seed)
	h.move()
}

// settled reports whether nobody joins or leaves a group, as a host knows it.
func settled(h *house) bool {
	return !slices.ContainsFunc(h.View().Groups, func(g mnode.Group) bool {
		return g.State != mnode.Formed || slices.ContainsFunc(g.Members, func(m mnode.Member) bool { return m.Joining || m.Leaving })
	})
}

// dnodes lists the data members of a group, as a host knows it.
func dnodes(h *house, g id.Group) []id.Host {
	var list []id.Host
	rec, _ := h.View().Group(g)
	for _, m := range rec.Data() {
		list = append(list, m.Dnode)
	}
	slices.Sort(list)
	return list
}

// An emptied host gets its number back, and every replica under a new id.
func TestRestoredHost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		if err := a.CreateDatabase(t.Context(), "demo", twoReplicas(1)); err != nil {
			t.Fatal(err)
		}
		db, _ := a.View().Database("demo")
		g := db.Groups[0]
		write(t, a, g, "one")
		refused := &mnode.Error{Code: mnode.CodeConflict}
		if err := a.RestoreDnode(t.Context(), 2); !errors.Is(err, refused) {
			t.Errorf("restore of a host that is there: got %v, want 0x%04X", err, refused.Code)
		}
		was := b.Self()
		b.wipe(77)
		w.until("a says what to type", func() bool {
			d := a.Overview().Dnodes[1]
			return d.Status == "offline" && d.Reason == "new directory: RESTORE DNODE 2"
		})
		if err := a.DropDnode(t.Context(), 2); !errors.Is(err, &mnode.Error{Code: mnode.CodeOutOfDnodes}) || !strings.Contains(err.Error(), "RESTORE DNODE 2") {
			t.Errorf("drop of the only other host: got %v, want 0x0334 and RESTORE", err)
		}
		write(t, a, g, "two")
		if err := a.RestoreDnode(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		w.until("every replica is there again", func() bool {
			return b.Dnode() == 2 && b.Self() != was && settled(a) && votes(a, g) == 3 && votes(b, id.Mnode) == 3
		})
		w.until("with everything", func() bool { return strings.Join(rows(b, g), " ") == "one two" })
		rec, _ := a.View().Group(g)
		if m, _ := rec.On(b.Self()); m.Replica != 4 {
			t.Errorf("its replica has id %d, want 4, never used before", m.Replica)
		}
		a.kill()
		write(t, b, g, "three")
		w.until("ready alone", func() bool { return b.Overview().Groups[0].Onlines == 1 })
	})
}

// The restored host, the survivor and the arbitrator may die at any time: what
// is unfinished is taken up again.
func TestRestoreGoesOnAfterDeaths(t *testing.T) {
	for n := range 10 {
		bubble(t, func(t *testing.T) {
			w, a, b := pair(t)
			defer w.end()
			if err := a.CreateDatabase(t.Context(), "demo", twoReplicas(2)); err != nil {
				t.Fatal(err)
			}
			db, _ := a.View().Database("demo")
			write(t, a, db.Groups[0], "one")
			b.wipe(77)
			w.until("a is alone", func() bool { return a.Overview().Dnodes[1].Status == "offline" })
			if err := a.RestoreDnode(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(n) * 60 * time.Millisecond)
			switch n % 3 {
			case 0:
				a.kill()
				a.move()
			case 1:
				b.kill()
				b.move()
			default:
				w.mu.Lock()
				w.arb.up = false
				w.mu.Unlock()
				time.Sleep(2 * time.Second)
				w.mu.Lock()
				w.arb.up = true
				w.mu.Unlock()
			}
			w.until("every replica is there again", func() bool {
				return b.Dnode() == 2 && settled(a) && votes(a, db.Groups[1]) == 3 && strings.Join(rows(b, db.Groups[0]), " ") == "one"
			})
		})
	}
}

// An old directory that turns up after all has no place any more.
func TestReplacedDirectoryStaysOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		dir, disk := b.dir, b.disk
		b.wipe(77)
		if err := a.RestoreDnode(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		w.until("restored", func() bool { return b.Dnode() == 2 && settled(a) && votes(a, id.Mnode) == 3 })
		now := b.Self()
		b.kill()
		b.dir, b.disk = dir, disk
		b.move()
		time.Sleep(10 * time.Second)
		if d, _ := a.View().Dnode(2); d.UUID != now {
			t.Errorf("dnode 2 is %v, want %v", d.UUID, now)
		}
		if o := a.Overview(); o.Dnodes[1].Status != "offline" {
			t.Errorf("the old directory counts as %+v", o.Dnodes[1])
		}
	})
}

// Two to three and back, one to two and back, whoever leads; nothing is lost.
func TestAlterReplica(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		c := w.build(addrC, 3)
		if _, err := b.CreateDnode(t.Context(), addrC); err != nil {
			t.Fatal(err)
		}
		c.move()
		w.until("metadata on all three", func() bool { return votes(c, id.Mnode) == 3 && settled(a) && c.Dnode() == 3 })
		if err := c.CreateDatabase(t.Context(), "demo", twoReplicas(3)); err != nil {
			t.Fatal(err)
		}
		db, _ := a.View().Database("demo")
		written := ""
		for i, n := range []int{3, 2, 1, 2, 3, 1} {
			for _, g := range db.Groups {
				write(t, a, g, string(rune('a'+i)))
			}
			written = strings.TrimSpace(written + " " + string(rune('a'+i)))
			if err := c.AlterReplica(t.Context(), "demo", n); err != nil {
				t.Fatal(err)
			}
			w.until("every group has as many", func() bool {
				ok := settled(a) && settled(b) && settled(c)
				for _, g := range db.Groups {
					rec, _ := a.View().Group(g)
					_, witness := rec.Witness()
					ok = ok && len(dnodes(a, g)) == n && witness == (n == 2)
				}
				return ok
			})
			for _, g := range db.Groups {
				w.until("every replica has everything", func() bool {
					have := 0
					for _, h := range []*house{a, b, c} {
						if strings.Join(rows(h, g), " ") == written {
							have++
						} else if _, holds := h.record.replica(g); holds {
							return false
						}
					}
					return have == n
				})
			}
			if db, _ := b.View().Database("demo"); db.Options.Replica != n {
				t.Errorf("shown: REPLICA %d, want %d", db.Options.Replica, n)
			}
		}
		held := map[id.Host]int{}
		for _, g := range db.Groups {
			held[dnodes(a, g)[0]]++
		}
		if len(held) != 3 {
			t.Errorf("three single replicas are on %v, want one on each host", held)
		}
	})
}

// A dnode that is dropped gives everything away first.
func TestDropMovesReplicas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		c := w.build(addrC, 3)
		if _, err := b.CreateDnode(t.Context(), addrC); err != nil {
			t.Fatal(err)
		}
		c.move()
		w.until("metadata on all three", func() bool { return votes(c, id.Mnode) == 3 && settled(a) })
		one := twoReplicas(3)
		one.Replica = 1
		for name, o := range map[string]mnode.Options{"two": twoReplicas(2), "one": one} {
			if err := a.CreateDatabase(t.Context(), name, o); err != nil {
				t.Fatal(err)
			}
			db, _ := a.View().Database(name)
			for _, g := range db.Groups {
				write(t, a, g, name)
			}
		}
		master := a.Overview().Master
		if err := a.DropDnode(t.Context(), master); !errors.Is(err, &mnode.Error{Code: mnode.CodeMnodeMaster}) {
			t.Errorf("drop of the mnode master: got %v, want 0x0333", err)
		}
		gone := id.Host(2)
		if master == 2 {
			gone = 3
		}
		if err := a.DropDnode(t.Context(), gone); err != nil {
			t.Fatal(err)
		}
		w.until("it is out", func() bool { d, _ := a.View().Dnode(gone); return d.Dropped && settled(a) })
		for _, g := range a.View().Vgroups("") {
			if slices.Contains(dnodes(a, g.ID), gone) {
				t.Errorf("group %d is still on dnode %d", g.ID, gone)
			}
			write(t, a, g.ID, "after")
		}
	})
}

// ALTER CLUSTER ARBITRATOR is refused unless one answers; ” removes it.
func TestArbitratorIsSet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		if err := b.SetArbitrator(t.Context(), "nobody:6042"); err == nil || !strings.Contains(err.Error(), "no arbitrator answers at nobody:6042") {
			t.Errorf("got %v, want that nobody answers there", err)
		}
		if got := a.View().Arbitrator.EndPoint; got != addrW {
			t.Fatalf("arbitrator is %q, want %q", got, addrW)
		}
		if err := b.SetArbitrator(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		w.until("none is left", func() bool { return votes(a, id.Mnode) == 2 && settled(a) && len(a.View().Former) == 0 })
		if err := b.SetArbitrator(t.Context(), addrW); err != nil {
			t.Fatal(err)
		}
		w.until("it votes again", func() bool { return votes(a, id.Mnode) == 3 && settled(a) })
	})
}

// With exactly two hosts a long absence removes nobody, and says so; with three
// it does (A27).
func TestLongAbsence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		for _, h := range []*house{a, b} {
			h.kill()
			h.edit = func(c *Config) { c.OfflineThreshold = 20 * time.Second }
			h.move()
		}
		w.until("well", func() bool { return a.Overview().Alive == 1 })
		b.kill()
		w.until("it is said", func() bool { return a.Overview().Dnodes[1].RemovalBlocked != "" })
		time.Sleep(time.Minute)
		if d, _ := a.View().Dnode(2); d.Dropped || d.Dropping || !strings.HasPrefix(a.Overview().Dnodes[1].Reason, "REMOVAL_BLOCKED") {
			t.Errorf("dnode 2 is %+v, %+v", d, a.Overview().Dnodes[1])
		}
		b.move()
		w.until("forgotten", func() bool { d, _ := a.View().Dnode(2); return d.OfflineSince.IsZero() })

		c := w.build(addrC, 3)
		c.edit = a.edit
		if _, err := b.CreateDnode(t.Context(), addrC); err != nil {
			t.Fatal(err)
		}
		c.move()
		w.until("metadata on all three", func() bool { return votes(c, id.Mnode) == 3 && settled(a) })
		if err := a.CreateDatabase(t.Context(), "demo", twoReplicas(3)); err != nil {
			t.Fatal(err)
		}
		c.kill()
		w.until("it is removed, and its replicas are elsewhere", func() bool {
			d, _ := a.View().Dnode(3)
			return d.Dropped && settled(a)
		})
		for _, g := range a.View().Vgroups("demo") {
			if got := dnodes(a, g.ID); !slices.Equal(got, []id.Host{1, 2}) {
				t.Errorf("group %d is on %v, want 1 and 2", g.ID, got)
			}
		}
		c.move()
		time.Sleep(10 * time.Second)
		if o := a.Overview(); len(o.Dnodes) != 2 {
			t.Errorf("it came back by itself: %+v", o.Dnodes)
		}
	})
}
