package arbitrator

import (
	"fmt"

	"github.com/tarbitrator/tarbitrator/internal/alarm"
)

// Findings says what is wrong with an arbitrator and with the clusters' way to
// it, and what to do about each. It is a pure function of the Status; how safe
// data is, only the hosts know.
func (st Status) Findings() []alarm.Finding {
	var out []alarm.Finding
	add := func(code alarm.Code, object, what, next string) {
		out = append(out, alarm.Finding{Code: code, Object: object, What: what, Next: next})
	}
	switch st.Disk {
	case "ok":
	case "full":
		add(alarm.DiskFull, "arbitrator", "its disk is full: it answers nothing that it can't sync",
			"free space for the data directory; it heals by itself, and clusters in sync do not need it meanwhile")
	default:
		add(alarm.DiskHung, "arbitrator", "its disk does not answer: it is "+st.Disk,
			"look at dmesg and at the storage behind it; clusters in sync do not need it meanwhile")
	}
	for _, c := range st.Clusters {
		if c.Replicas == 0 {
			continue // it has left for another arbitrator: its hosts owe this one nothing
		}
		if c.Tainted > 0 {
			add(alarm.Tainted, fmt.Sprintf("cluster %d", c.Cluster), fmt.Sprintf("%d of its records have forgotten what they acknowledged and vote no more", c.Tainted),
				"keep both data hosts of that cluster up: they enrol new ones by themselves")
		}
		for _, h := range c.Hosts {
			object := fmt.Sprintf("dnode %d of cluster %d", h.Host, c.Cluster)
			switch {
			case h.OldCopy:
				add(alarm.OldCopy, object, "the directory at "+h.EndPoint+" is an old copy of itself and is not listened to",
					"stop that host and put its true directory back; if there is none, empty it, start it and RESTORE DNODE on another host")
			case !h.Connected:
				add(alarm.HostOffline, object, h.EndPoint+" is not connected to this arbitrator",
					"look at tnode status of that cluster: the host is down, or cut off from here")
			}
		}
	}
	return out
}
