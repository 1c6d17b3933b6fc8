package arbitrator

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// hungAfter is when a sync that has not returned is called a hung disk (R43).
const hungAfter = 500 * time.Millisecond

// Status is what an operator may want to know. Its JSON form is the answer of
// /status.
type Status struct {
	UUID       id.UUID         `json:"-"`
	Identity   string          `json:"uuid"`
	Address    string          `json:"address"`
	Started    time.Time       `json:"started"`
	Generation uint64          `json:"generation"`
	Disk       string          `json:"disk"` // "ok", "full", or "hung for 3s"
	Counts     Counts          `json:"counts"`
	Clusters   []ClusterStatus `json:"clusters"`
	Sent       uint64          `json:"bytes_sent"`
	Received   uint64          `json:"bytes_received"`
}

// ClusterStatus is one cluster that is served.
type ClusterStatus struct {
	Cluster  id.Cluster   `json:"cluster,string"` // JSON readers lose digits above 2^53
	Replicas int          `json:"replicas"`
	Retired  int          `json:"retired"`
	Tainted  int          `json:"tainted"`
	Heard    *time.Time   `json:"heard,omitempty"` // since the start of this process
	Hosts    []HostStatus `json:"hosts"`
}

// HostStatus is one host of a cluster.
type HostStatus struct {
	Host      id.Host `json:"dnode"`
	UUID      string  `json:"uuid"`
	EndPoint  string  `json:"end_point"`
	Connected bool    `json:"connected"`
	OldCopy   bool    `json:"old_copy,omitempty"` // of its directory is refused in its place
}

// Status asks the loop. It fails when ctx ends first.
func (s *Server) Status(ctx context.Context) (Status, error) {
	answer := make(chan Status, 1)
	select {
	case s.asked <- answer:
		return <-answer, nil
	case <-ctx.Done():
		return Status{}, fmt.Errorf("ask for status: %w", context.Cause(ctx))
	}
}

// status is called by the loop.
func (s *Server) status() Status {
	st := Status{
		UUID: s.store.UUID(), Identity: s.store.UUID().String(), Address: s.addr, Started: s.started,
		Generation: s.machine.Generation(), Disk: s.disk(), Counts: s.machine.Counts(),
		Clusters: []ClusterStatus{},
	}
	connected := make(map[id.UUID]bool)
	for _, l := range s.net.Links() {
		connected[l.Remote.UUID] = l.Classes[0]
		st.Sent += l.Sent
		st.Received += l.Received
	}
	for cluster, hosts := range s.store.Clusters() {
		c := ClusterStatus{Cluster: cluster, Hosts: []HostStatus{}}
		c.Replicas, c.Retired, c.Tainted = s.machine.ClusterCounts(cluster)
		if at, ok := s.seen[cluster]; ok {
			c.Heard = &at
		}
		for host, m := range hosts {
			c.Hosts = append(c.Hosts, HostStatus{host, m.UUID.String(), m.Addr, connected[m.UUID], m.OldCopy})
		}
		slices.SortFunc(c.Hosts, func(a, b HostStatus) int { return cmp.Compare(a.Host, b.Host) })
		st.Clusters = append(st.Clusters, c)
	}
	slices.SortFunc(st.Clusters, func(a, b ClusterStatus) int { return cmp.Compare(a.Cluster, b.Cluster) })
	return st
}

// disk says how the disk is, in words.
func (s *Server) disk() string {
	if s.full.Load() {
		return "full"
	}
	if len(s.pending) > 0 {
		if d := time.Since(s.pending[0].since); d > hungAfter {
			return fmt.Sprintf("hung for %v", d.Round(100*time.Millisecond))
		}
	}
	return "ok"
}

// ---- HTTP ----

// Handler serves /metrics, /healthz and /status.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", s.withStatus(func(w http.ResponseWriter, st Status) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(st) // the reader has gone
	}))
	mux.HandleFunc("GET /healthz", s.withStatus(func(w http.ResponseWriter, st Status) {
		if st.Disk != "ok" {
			http.Error(w, "disk: "+st.Disk, http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	}))
	mux.HandleFunc("GET /metrics", s.withStatus(func(w http.ResponseWriter, st Status) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		writeMetrics(w, st)
	}))
	return mux
}

// withStatus answers a request with the status, or says that the loop does not
// answer.
func (s *Server) withStatus(answer func(http.ResponseWriter, Status)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		st, err := s.Status(ctx)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		answer(w, st)
	}
}

// writeMetrics writes the Prometheus text format. A client library for these
// few lines would be half of the program.
func writeMetrics(w io.Writer, st Status) {
	healthy := 0
	if st.Disk == "ok" {
		healthy = 1
	}
	connected := 0
	for _, c := range st.Clusters {
		for _, h := range c.Hosts {
			if h.Connected {
				connected++
			}
		}
	}
	for _, m := range []struct {
		name, kind, help string
		value            any
	}{
		{"clusters", "gauge", "Clusters with at least one record.", st.Counts.Clusters},
		{"hosts_connected", "gauge", "Hosts of known clusters that are connected.", connected},
		{"replicas", "gauge", "Live vote records.", st.Counts.Replicas},
		{"replicas_retired", "gauge", "Tombstones of replicas that are never enrolled again.", st.Counts.Retired},
		{"replicas_tainted", "gauge", "Records that vote no more; each must be replaced.", st.Counts.Tainted},
		{"disk_ok", "gauge", "1 while the disk takes writes.", healthy},
		{"generation", "counter", "Batches of records written in the life of the directory.", st.Generation},
		{"votes_total", "counter", "Votes and pre-votes considered.", st.Counts.Votes},
		{"votes_leased_total", "counter", "Votes ignored because the leader is well.", st.Counts.Leased},
		{"heartbeats_total", "counter", "Heartbeats answered.", st.Counts.Heartbeats},
		{"feeds_total", "counter", "Feeds worked on.", st.Counts.Feeds},
		{"feeds_superseded_total", "counter", "Feeds dropped for a newer one.", st.Counts.Superseded},
		{"refusals_total", "counter", "Messages refused.", st.Counts.Refusals},
		{"answers_dropped_total", "counter", "Answers dropped while the disk was slow.", st.Counts.Dropped},
		{"sent_bytes", "gauge", "Bytes sent over the links that exist now.", st.Sent},
		{"received_bytes", "gauge", "Bytes received over the links that exist now.", st.Received},
		{"start_time_seconds", "gauge", "When this process started.", st.Started.Unix()},
	} {
		name := "tarbitrator_" + m.name
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n%s %v\n", name, m.help, name, m.kind, name, m.value)
	}
}
