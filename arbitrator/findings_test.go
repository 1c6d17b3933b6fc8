package arbitrator

import (
	"fmt"
	"strings"
	"testing"
)

func TestFindings(t *testing.T) {
	for _, c := range []struct {
		name  string
		story func(*Status)
		want  string
	}{
		{"all is well", func(*Status) {}, ""},
		{"the disk is full", func(s *Status) { s.Disk = "full" }, "DISK_FULL arbitrator"},
		{"the disk hangs", func(s *Status) { s.Disk = "hung for 3s" }, "DISK_HUNG arbitrator"},
		{"it was rolled back", func(s *Status) { s.Clusters[0].Tainted = 2 }, "TAINTED cluster 5"},
		{"a cluster has left for another arbitrator", func(s *Status) {
			s.Clusters[0].Replicas, s.Clusters[0].Retired = 0, 3
			s.Clusters[0].Hosts[0].Connected, s.Clusters[0].Hosts[1].Connected = false, false
		}, ""},
		{"a host is away", func(s *Status) { s.Clusters[0].Hosts[1].Connected = false }, "HOST_OFFLINE dnode 2 of cluster 5"},
		{"a host is an old copy", func(s *Status) {
			s.Clusters[0].Hosts[1].OldCopy, s.Clusters[0].Hosts[1].Connected = true, false
		}, "OLD_COPY dnode 2 of cluster 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Status{Disk: "ok", Clusters: []ClusterStatus{{Cluster: 5, Replicas: 3, Hosts: []HostStatus{
				{Host: 1, EndPoint: "a:6030", Connected: true}, {Host: 2, EndPoint: "b:6030", Connected: true},
			}}}}
			c.story(&s)
			var got []string
			for _, f := range s.Findings() {
				got = append(got, fmt.Sprintf("%s %s", f.Code, f.Object))
				if f.What == "" || f.Next == "" {
					t.Errorf("%s says %q, next %q", f.Code, f.What, f.Next)
				}
			}
			if g := strings.Join(got, ", "); g != c.want {
				t.Errorf("got %q, want %q", g, c.want)
			}
		})
	}
}
