package host

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/alarm"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// healthy is a pair with an arbitrator as its first host sees it, when all is
// well. Each call makes a new one, so that a test may break it.
func healthy() *Overview {
	members := []mnode.Member{{Replica: 1, Dnode: 1}, {Replica: 2, Dnode: 2}, {Replica: 3, Witness: true}}
	roles := func() []MemberRow {
		return []MemberRow{{Dnode: 1, Role: consensus.RoleMaster}, {Dnode: 2, Role: consensus.RoleSlave}}
	}
	return &Overview{
		Self: 1, Master: 1, Alive: 1,
		View: &mnode.View{
			Arbitrator: mnode.Arbitrator{EndPoint: "w:6042"},
			Users:      []mnode.User{{Name: "root"}},
			Groups: []mnode.Group{
				{ID: id.Mnode, State: mnode.Formed, Members: members}, {ID: 2, Database: "plant", State: mnode.Formed, Members: members},
			},
		},
		Dnodes:     []DnodeRow{{ID: 1, EndPoint: "a:6030", Status: "ready"}, {ID: 2, EndPoint: "b:6030", Status: "ready"}},
		Arbitrator: &DnodeRow{EndPoint: "w:6042", Status: "ready", Role: "arb"},
		Metadata:   GroupRow{Group: id.Mnode, Status: "ready", Onlines: 2, Members: roles(), Mode: consensus.ModeSync, Feed: "shut"},
		Groups:     []GroupRow{{Group: 2, Database: "plant", Status: "ready", Onlines: 2, Members: roles(), Mode: consensus.ModeSync, Feed: "shut"}},
	}
}

func (o *Overview) groups(change func(*GroupRow)) {
	change(&o.Metadata)
	for i := range o.Groups {
		change(&o.Groups[i])
	}
}

// otherDies is what the first host sees once the second one has died.
func (o *Overview) otherDies() {
	o.Dnodes[1].Status, o.Dnodes[1].Reason = "offline", "status msg timeout"
	o.groups(func(g *GroupRow) {
		g.Members[1].Role, g.Mode, g.Feed, g.Onlines = consensus.RoleOffline, consensus.ModeAsync, "open", 1
	})
}

// noMaster is what happens when this host alone is left.
func (o *Overview) noMaster() {
	o.groups(func(g *GroupRow) {
		g.Members[0].Role, g.Mode, g.Feed, g.Onlines = consensus.RoleUnsynced, consensus.ModeUnknown, "", 0
	})
	o.Master = 0
}

func TestFindings(t *testing.T) {
	for _, c := range []struct {
		name  string
		story func(*Overview)
		want  string // code and object of each, in order
		next  string // part of what to do about the first one
	}{
		{"all is well", func(*Overview) {}, "", ""},
		{"the other host dies", (*Overview).otherDies,
			"HOST_OFFLINE dnode 2, ASYNC metadata, ASYNC database plant", "start tnode there"},
		{"it comes back and catches up", func(o *Overview) {
			o.groups(func(g *GroupRow) { g.Members[1].Role, g.Mode = consensus.RoleUnsynced, consensus.ModeSyncRecover })
		}, "SYNC_RECOVER metadata, SYNC_RECOVER database plant", "wait"},
		{"the arbitrator dies", func(o *Overview) { o.Arbitrator.Status = "offline" },
			"ARBITRATOR_UNREACHABLE arbitrator", "start tarbitrator there"},
		{"the arbitrator's disk hangs", func(o *Overview) { o.Groups[0].Unanswered = muteAfter },
			"ARBITRATOR_UNREACHABLE arbitrator", "tarbitrator status"},
		{"the arbitrator's disk is slow", func(o *Overview) { o.Groups[0].Unanswered = muteAfter - 1 }, "", ""},
		{"an arbitrator that no group has as a member", func(o *Overview) {
			o.Arbitrator.Status = "offline"
			for i := range o.View.Groups {
				o.View.Groups[i].Members = o.View.Groups[i].Members[:1]
			}
		}, "", ""},
		{"both others die", func(o *Overview) { o.otherDies(); o.Arbitrator.Status = "offline"; o.noMaster() },
			"HOST_OFFLINE dnode 2, ARBITRATOR_UNREACHABLE arbitrator, CUT_OFF dnode 1", ""},
		{"the host with the newest data is away", func(o *Overview) { o.otherDies(); o.noMaster() },
			"HOST_OFFLINE dnode 2, NO_MASTER cluster", ""},
		{"one database has no master", func(o *Overview) {
			o.Groups[0].Members[0].Role, o.Groups[0].Mode = consensus.RoleUnsynced, consensus.ModeUnknown
		}, "NO_MASTER database plant", "wait for an election"},
		{"a database that is being created", func(o *Overview) {
			o.Groups[0].Members[0].Role, o.Groups[0].Mode, o.Groups[0].Status = consensus.RoleOffline, consensus.ModeUnknown, "creating"
		}, "", ""},
		{"no arbitrator is configured", func(o *Overview) { o.View.Arbitrator, o.Arbitrator = mnode.Arbitrator{}, nil },
			"NO_ARBITRATOR cluster", "ALTER CLUSTER ARBITRATOR 'HOST:6042'"},
		{"the arbitrator was wiped", func(o *Overview) { o.groups(func(g *GroupRow) { g.Refusal = peer.UnknownGroup }) },
			"WRONG_WITNESS arbitrator", "keep both data hosts up"},
		{"the arbitrator has forgotten", func(o *Overview) { o.Groups[0].Refusal = peer.Tainted },
			"TAINTED arbitrator", "keep both data hosts up"},
		{"the arbitrator is an old copy", func(o *Overview) { o.Arbitrator.Copy, o.Arbitrator.Status = true, "offline" },
			"OLD_COPY arbitrator", "empty its directory"},
		{"the other host is an old copy", func(o *Overview) { o.Dnodes[1].Copy, o.Dnodes[1].Status = true, "offline" },
			"OLD_COPY dnode 2", "put its true directory back"},
		{"the other host has lost its directory", func(o *Overview) {
			o.Dnodes[1].Status, o.Dnodes[1].Reason = "offline", "new directory: RESTORE DNODE 2"
		}, "HOST_OFFLINE dnode 2", "type RESTORE DNODE 2"},
		{"the other host is away for too long", func(o *Overview) {
			o.Dnodes[1].Status, o.Dnodes[1].RemovalBlocked = "offline", "no other host can take its replicas"
		}, "REMOVAL_BLOCKED dnode 2", "RESTORE DNODE 2"},
		{"the other host's settings differ", func(o *Overview) {
			o.Dnodes[1].Status, o.Dnodes[1].Reason = "offline", mnode.Misfit+"timezone"
		}, "SETTINGS_DIFFER dnode 2", "set timezone to the same value"},
		{"its clock is ahead", func(o *Overview) { o.Dnodes[1].Ahead = time.Minute }, "CLOCK_APART dnode 2", "NTP"},
		{"its clock is behind", func(o *Overview) { o.Dnodes[1].Ahead = -time.Minute }, "CLOCK_APART dnode 2", "NTP"},
		{"its clock is nearly right", func(o *Overview) { o.Dnodes[1].Ahead = clocksApart }, "", ""},
		{"a replica has failed", func(o *Overview) { o.Groups[0].Members[1].Fault = "open: bad block" },
			"FAULTY vgroup 2 on dnode 2", "read the log"},
		{"everybody knows the password", func(o *Overview) { o.View.Users[0].Default = true },
			"DEFAULT_PASSWORD user root", "ALTER USER root PASS"},
		{"the other host's disk is full", func(o *Overview) {
			o.Dnodes[1].Found = []alarm.Finding{{Code: alarm.DiskFull, Object: "dnode 2", What: "full", Next: "free space"}}
		}, "DISK_FULL dnode 2", "free space"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := healthy()
			c.story(o)
			found := o.Findings()
			var got []string
			for _, f := range found {
				got = append(got, fmt.Sprintf("%s %s", f.Code, f.Object))
				if f.What == "" || f.Next == "" {
					t.Errorf("%s says %q, next %q", f.Code, f.What, f.Next)
				}
			}
			if g := strings.Join(got, ", "); g != c.want {
				t.Errorf("got %q, want %q", g, c.want)
			}
			if len(found) > 0 && !strings.Contains(found[0].Next, c.next) {
				t.Errorf("next is %q, want %q in it", found[0].Next, c.next)
			}
		})
	}
}

// What a group without a master waits for is named, and nothing else.
func TestWhoIsWaitedFor(t *testing.T) {
	o := healthy()
	o.otherDies()
	o.noMaster()
	i := slices.IndexFunc(o.Findings(), func(f alarm.Finding) bool { return f.Code == alarm.NoMaster })
	if f := o.Findings()[i]; f.Next != "bring back dnode 2 (b:6030)" {
		t.Errorf("got %q", f.Next)
	}
}

func TestLosses(t *testing.T) {
	for _, c := range []struct {
		name  string
		story func(*Overview)
		mode  consensus.Mode
		want  string // who is there, and what the loss of it stops
	}{
		{"all is well", func(*Overview) {}, consensus.ModeSync, "dnode 1: [], dnode 2: [], arbitrator: []"},
		{"the other host is away", (*Overview).otherDies, consensus.ModeAsync,
			"dnode 1: [metadata database plant], arbitrator: [metadata database plant]"},
		{"the arbitrator is away", func(o *Overview) { o.Arbitrator.Status = "offline" }, consensus.ModeSync,
			"dnode 1: [metadata database plant], dnode 2: [metadata database plant]"},
		{"the arbitrator gives no answers", func(o *Overview) { o.Groups[0].Unanswered = muteAfter }, consensus.ModeSync,
			"dnode 1: [metadata database plant], dnode 2: [metadata database plant]"},
		{"the other host catches up", func(o *Overview) {
			o.groups(func(g *GroupRow) { g.Members[1].Role, g.Mode = consensus.RoleUnsynced, consensus.ModeSyncRecover })
		}, consensus.ModeSyncRecover, "dnode 1: [metadata database plant], dnode 2: [], arbitrator: []"},
		{"the arbitrator refuses a group", func(o *Overview) { o.Groups[0].Refusal = peer.Tainted }, consensus.ModeSync,
			"dnode 1: [database plant], dnode 2: [database plant], arbitrator: []"},
		{"a database has one copy", func(o *Overview) {
			o.Groups[0].Members, o.View.Groups[1].Members = o.Groups[0].Members[:1], o.View.Groups[1].Members[:1]
		}, consensus.ModeSync, "dnode 1: [database plant], dnode 2: [], arbitrator: []"},
		{"a third replica is being made", func(o *Overview) {
			o.Dnodes = append(o.Dnodes, DnodeRow{ID: 3, Status: "ready"})
			o.Groups[0].Members = append(o.Groups[0].Members, MemberRow{Dnode: 3, Role: consensus.RoleUnsynced})
			o.View.Groups[1].Members = append(o.View.Groups[1].Members, mnode.Member{Replica: 4, Dnode: 3, Joining: true})
		}, consensus.ModeSync, "dnode 1: [], dnode 2: [], dnode 3: [], arbitrator: []"},
		{"three replicas, one lags", func(o *Overview) {
			o.Dnodes = append(o.Dnodes, DnodeRow{ID: 3, Status: "ready"})
			o.Groups[0].Members = append(o.Groups[0].Members, MemberRow{Dnode: 3, Role: consensus.RoleUnsynced})
			o.Groups[0].Mode = consensus.ModeSyncRecover
			o.View.Groups[1].Members = []mnode.Member{{Replica: 1, Dnode: 1}, {Replica: 2, Dnode: 2}, {Replica: 4, Dnode: 3}}
		}, consensus.ModeSyncRecover, "dnode 1: [], dnode 2: [], dnode 3: [], arbitrator: []"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := healthy()
			c.story(o)
			var got []string
			for _, l := range o.Losses() {
				got = append(got, fmt.Sprintf("%s: %v", l.Name(), l.Stops))
			}
			if g := strings.Join(got, ", "); g != c.want {
				t.Errorf("got  %s\nwant %s", g, c.want)
			}
			if o.Mode() != c.mode {
				t.Errorf("mode %v, want %v", o.Mode(), c.mode)
			}
		})
	}
}

// What one host finds wrong with itself the other shows, and clocks that agree
// are seen to agree, however old the report is that tells of one.
func TestWhatReportsTell(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		b.kill()
		full := alarm.Finding{Code: alarm.DiskFull, Object: "dnode 2", What: "its disk is full", Next: "free space"}
		var isFull atomic.Bool
		b.edit = func(c *Config) {
			c.Found = func() []alarm.Finding {
				if isFull.Load() {
					return []alarm.Finding{full}
				}
				return nil
			}
		}
		b.move()
		shown := func() bool { return slices.Contains(a.Overview().Findings(), full) }
		w.until("b is back", func() bool {
			o := a.Overview()
			return o.Dnodes[1].Status == "ready" && o.Mode() == consensus.ModeSync
		})
		if shown() {
			t.Error("a shows what b has not found")
		}
		isFull.Store(true)
		w.until("a shows that b's disk is full", shown)
		isFull.Store(false)
		w.until("a shows it no more", func() bool { return !shown() })
		for range 20 {
			time.Sleep(100 * time.Millisecond)
			for _, h := range []*house{a, b} {
				for _, d := range h.Overview().Dnodes {
					if max(d.Ahead, -d.Ahead) > 20*time.Millisecond {
						t.Errorf("dnode %d's clock is said to be %v ahead, and is the same one", d.ID, d.Ahead)
					}
				}
			}
		}
	})
}
