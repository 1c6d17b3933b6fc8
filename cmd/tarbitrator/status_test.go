package main

import (
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/arbitrator"
	"github.com/tarbitrator/tarbitrator/internal/cli/screen"
)

// What is wrong comes first, and with what to do.
func TestStatusScreen(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	heard := now.Add(-2 * time.Second)
	st := arbitrator.Status{
		Identity: "792740a396f798609f23d243ad59b146", Address: "w.example.com:6042", Started: now.Add(-76 * time.Hour), Disk: "ok",
		Counts: arbitrator.Counts{Clusters: 2, Replicas: 5, Tainted: 1},
		Clusters: []arbitrator.ClusterStatus{
			{Cluster: 5, Replicas: 3, Heard: &heard, Hosts: []arbitrator.HostStatus{
				{Host: 1, EndPoint: "a.example.com:6030", Connected: true}, {Host: 2, EndPoint: "b.example.com:6030", Connected: true},
			}},
			{Cluster: 6, Replicas: 2, Tainted: 1, Hosts: []arbitrator.HostStatus{
				{Host: 1, EndPoint: "c.example.com:6030", Connected: true}, {Host: 2, EndPoint: "d.example.com:6030"},
			}},
			{Cluster: 7, Retired: 3, Hosts: []arbitrator.HostStatus{{Host: 1, EndPoint: "e.example.com:6030"}}},
		},
	}
	const want = `arbitrator  w.example.com:6042, up for 3 d 4 h
directory   792740a396f798609f23d243ad59b146
disk        ok
clusters    2, with 5 records (0 retired, 1 tainted)

cluster 6: 2 replicas, not heard since this arbitrator started
  dnode 1  c.example.com:6030  connected
  dnode 2  d.example.com:6030  not connected

cluster 5: 3 replicas, heard 2 s ago
  dnode 1  a.example.com:6030  connected
  dnode 2  b.example.com:6030  connected

cluster 7: has left for another arbitrator (3 retired replicas)

alarms      2

TAINTED cluster 6
  1 of its records have forgotten what they acknowledged and vote no more
  next: keep both data hosts of that cluster up: they enrol new ones by
        themselves

HOST_OFFLINE dnode 2 of cluster 6
  d.example.com:6030 is not connected to this arbitrator
  next: look at tnode status of that cluster: the host is down, or cut off from
        here
`
	if got := statusScreen(st, now, screen.Paint{}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
