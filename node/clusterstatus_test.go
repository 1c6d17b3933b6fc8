package node

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/client"
	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/alarm"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
	"github.com/tarbitrator/tarbitrator/node/host"
)

// The second host is away: one screen has everything that follows from it.
func TestDescribe(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	members := []mnode.Member{{Replica: 1, Dnode: 1}, {Replica: 2, Dnode: 2}, {Replica: 3, Witness: true}}
	async := func(g id.Group, database string) host.GroupRow {
		return host.GroupRow{Group: g, Database: database, Status: "ready", Mode: consensus.ModeAsync, Feed: "open", Members: []host.MemberRow{
			{Dnode: 1, Role: consensus.RoleMaster}, {Dnode: 2},
		}}
	}
	alone := host.GroupRow{Group: 4, Database: "plant", Status: "ready", Mode: consensus.ModeSync, Members: []host.MemberRow{{Dnode: 1, Role: consensus.RoleMaster}}}
	o := host.Overview{
		Self: 1, Alive: 2, Metadata: async(id.Mnode, ""), Groups: []host.GroupRow{async(3, "plant"), alone},
		View: &mnode.View{Cluster: mnode.Cluster{ID: 7}, Groups: []mnode.Group{
			{ID: id.Mnode, Members: members}, {ID: 3, Members: members}, {ID: 4, Members: members[:1]},
		}},
		Dnodes: []host.DnodeRow{
			{ID: 1, EndPoint: "a:6030", Status: "ready"}, {ID: 2, EndPoint: "b:6030", Status: "offline", Reason: "status msg timeout", Seen: time.Minute},
		},
		Tasks: []mnode.Task{
			{Group: 3, What: "add replica", Waiting: "dnode 2 has 7 of 100 entries", Since: at}, {Group: id.Mnode, What: "change members", Since: at},
		},
		Arbitrator: &host.DnodeRow{EndPoint: "w:6042", Status: "ready", Reason: "-"},
	}
	look := outlook{mode: consensus.ModeAsync, since: at.Add(-time.Minute), alarms: []alarm.Alarm{
		{Finding: alarm.Finding{Code: alarm.Async, Object: "database plant", What: "some are away", Next: "bring them back"}, Level: alarm.Warning, Since: at},
	}}
	status := describe(o, look, client.Status{EndPoint: "a:6030", At: at, Started: at})
	status.Failovers = failovers([]mnode.Failover{{
		At: at, From: 2, To: 1, Cause: consensus.CauseKilled, Detection: 120 * time.Millisecond, Vote: 10 * time.Millisecond,
	}})
	got, err := json.MarshalIndent(status, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
 "dnode": 1,
 "end_point": "a:6030",
 "version": "",
 "at": "2026-05-01T12:00:00Z",
 "started": "2026-05-01T12:00:00Z",
 "cluster": "7",
 "service": "partly",
 "mode": "async",
 "mode_since": "2026-05-01T11:59:00Z",
 "machines": [
  {
   "name": "dnode 1",
   "end_point": "a:6030",
   "state": "ready",
   "leads": 2,
   "groups": 2,
   "stops": [
    "metadata",
    "database plant"
   ],
   "seen_seconds": 0
  },
  {
   "name": "dnode 2",
   "end_point": "b:6030",
   "state": "offline",
   "reason": "status msg timeout",
   "leads": 0,
   "groups": 1,
   "seen_seconds": 60
  },
  {
   "name": "arbitrator",
   "end_point": "w:6042",
   "state": "ready",
   "leads": 0,
   "groups": 0,
   "stops": [
    "metadata",
    "database plant"
   ],
   "seen_seconds": 0
  }
 ],
 "databases": [
  {
   "name": "",
   "replicas": 2,
   "vgroups": 1,
   "led": 1,
   "masters": [
    "dnode 1"
   ],
   "mode": "async",
   "feed": "open"
  },
  {
   "name": "plant",
   "replicas": 2,
   "vgroups": 2,
   "led": 2,
   "masters": [
    "dnode 1"
   ],
   "mode": "async",
   "feed": "open"
  }
 ],
 "alarms": [
  {
   "code": "ASYNC",
   "level": "warning",
   "object": "database plant",
   "since": "2026-05-01T12:00:00Z",
   "what": "some are away",
   "next": "bring them back"
  }
 ],
 "tasks": [
  {
   "object": "vgroup 3",
   "what": "add replica",
   "waiting": "dnode 2 has 7 of 100 entries",
   "since": "2026-05-01T12:00:00Z"
  },
  {
   "object": "metadata",
   "what": "change members",
   "since": "2026-05-01T12:00:00Z"
  }
 ],
 "failovers": [
  {
   "at": "2026-05-01T12:00:00Z",
   "from": "dnode 2",
   "to": "dnode 1",
   "cause": "killed",
   "info": "the process of dnode 2 ended without a word",
   "ms": 130
  }
 ]
}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
