package mnode

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// TestStories runs the scripts in testdata/stories: what is typed and what
// happens, then what the master does about it.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		var w *world
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "born" {
				w = newWorld(t, !d.HasArg("alone"))
				return w.String()
			}
			return w.run(d)
		})
	})
}

// run carries out one line of a script.
func (w *world) run(d *datadriven.TestData) string {
	w.log.Reset()
	name := func() string { return d.CmdArgs[0].String() }
	var n, dnode int
	d.MaybeScanArgs(w.t, "dnode", &dnode)
	switch d.Cmd {
	case "create-dnode":
		return outcome1(w.commit(CreateDnode{EndPoint: name()}))
	case "drop-dnode":
		d.ScanArgs(w.t, "dnode", &n)
		return outcome1(w.commit(DropDnode{Dnode: id.Host(n)}))
	case "start": // start <end point> dnode=N uuid=xx
		var u string
		d.ScanArgs(w.t, "uuid", &u)
		return outcome1(w.addHost(id.Host(dnode), id.UUID{hexByte(u)}, name()))
	case "dnodes":
		var list strings.Builder
		for _, d := range w.v.Live() {
			fmt.Fprintf(&list, "dnode %d at %s\n", d.ID, d.EndPoint)
		}
		return list.String()
	case "moved": // moved <end point> dnode=N: the host was renumbered
		w.hosts[id.Host(dnode)].endPoint = name()
	case "restore-dnode":
		d.ScanArgs(w.t, "dnode", &n)
		return outcome1(w.commit(RestoreDnode{Dnode: id.Host(n)}))
	case "create-database", "drop-database", "alter-database":
		return w.database(d, name())
	case "start-arbitrator": // start-arbitrator <end point> uuid=xx
		var u string
		d.ScanArgs(w.t, "uuid", &u)
		w.arbs[name()] = &worldArbitrator{uuid: id.UUID{hexByte(u)}, up: true, records: map[Enrolment]bool{}}
	case "alter-cluster-arbitrator": // as Master.setArbitrator, which asks first
		return w.alterArbitrator(d)
	case "configure": // configure [<arbitrator>] [dnode=N]
		return w.configure(d, id.Host(dnode))
	case "wait": // wait <time>
		span, err := time.ParseDuration(name())
		if err != nil {
			w.t.Fatal(err)
		}
		w.now = w.now.Add(span)
	case "down", "up":
		if name() == "arbitrator" {
			w.arb.up = d.Cmd == "up"
		} else if a := w.arbs[name()]; a != nil {
			a.up = d.Cmd == "up"
		} else {
			fmt.Sscanf(name(), "%d", &n)
			w.hosts[id.Host(n)].up = d.Cmd == "up"
		}
	case "wipe-arbitrator":
		w.arb.uuid, w.arb.records = id.UUID{w.arb.uuid[0] + 1}, map[Enrolment]bool{}
	case "new-master":
		w.newMaster()
	case "lead":
		fmt.Sscanf(name(), "%d", &n)
		w.leader = id.Host(n)
		for _, raft := range w.rafts {
			if u := w.hosts[w.leader].uuid; w.leads(raft, u) && raft.leader != u {
				raft.leader, raft.term = u, raft.term+1
			}
		}
	case "settle":
		w.now = w.now.Add(10 * w.facts.Interval) // whoever is silent is known to be
		w.settle(nil)
		return w.log.String() + w.String()
	case "stray": // a member that was taken back comes to vote all the same
		var group, replica int
		d.ScanArgs(w.t, "group", &group)
		d.ScanArgs(w.t, "replica", &replica)
		raft := w.rafts[id.Group(group)]
		stray := consensus.Member{Replica: id.Replica(replica), UUID: id.UUID{0x5a}}
		raft.members = append(raft.members, consensus.MemberStatus{Member: stray, Match: raft.last})
	case "steps": // steps <n>
		fmt.Sscanf(name(), "%d", &n)
		w.rounds(n, nil)
		return w.log.String() + w.String()
	default:
		w.t.Fatalf("unknown command %s", d.Cmd)
	}
	return ""
}

func (w *world) alterArbitrator(d *datadriven.TestData) string {
	set := SetArbitrator{Configured: w.v.Arbitrator.Configured}
	if len(d.CmdArgs) > 0 {
		set.EndPoint = d.CmdArgs[0].String()
		set.UUID = w.arbs[set.EndPoint].uuid
	}
	return outcome1(w.commit(set))
}

func (w *world) configure(d *datadriven.TestData, n id.Host) string {
	to := ""
	if len(d.CmdArgs) > 0 && d.CmdArgs[0].Key != "dnode" {
		to = d.CmdArgs[0].String()
	}
	if n != 0 {
		w.hosts[n].config = to
		return ""
	}
	w.config = to
	for _, h := range w.hosts {
		h.config = ""
	}
	return ""
}

func (w *world) database(d *datadriven.TestData, name string) string {
	if d.Cmd == "drop-database" {
		return outcome1(w.commit(DropDatabase{Name: name}))
	}
	o := DefaultOptions()
	d.MaybeScanArgs(w.t, "replica", &o.Replica)
	if d.Cmd == "alter-database" {
		return outcome1(w.commit(AlterReplica{Name: name, Replica: o.Replica}))
	}
	d.MaybeScanArgs(w.t, "vgroups", &o.Vgroups)
	return outcome1(w.commit(CreateDatabase{Name: name, Options: o}))
}

func outcome1(r Result) string {
	if r.Err != nil {
		return fmt.Sprintf("0x%04X %s", r.Err.Code, r.Err.Text)
	}
	return fmt.Sprintf("%d", r.Number)
}

func hexByte(s string) byte {
	var b byte
	fmt.Sscanf(strings.TrimPrefix(s, "0x"), "%x", &b)
	return b
}
