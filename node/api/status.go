package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/tarbitrator/tarbitrator/client"
)

// Vnode is one replica of this host, as GET /api/v1/vnodes shows it.
type Vnode struct {
	Group    uint32 `json:"vgroup"`
	Database string `json:"database"`
	Role     string `json:"role"`
	Mode     string `json:"mode,omitempty"`
	Feed     string `json:"feed,omitempty"`
	Term     uint64 `json:"term"`
	Commit   uint64 `json:"commit"`
	Applied  uint64 `json:"applied"`
	Tables   int    `json:"tables"`
	Rows     uint64 `json:"rows"`
	Digest   string `json:"digest,omitempty"`
	Fault    string `json:"fault,omitempty"`
}

// Vnodes lists the replicas of this host. It asks nobody else.
type Vnodes interface {
	// Vnodes lists them by group; with digest every row is read.
	Vnodes(ctx context.Context, digest bool) ([]Vnode, error)
}

// Overall knows the cluster as this host does. It asks nobody else.
type Overall interface {
	// Cluster never waits.
	Cluster() client.Status
}

// letIn answers a request whose sender it does not know.
func letIn(w http.ResponseWriter, r *http.Request, keeper *Keeper) bool {
	_, err := keeper.Authenticate(r.Context(), r.Header.Get("Authorization"))
	switch {
	case err == nil:
		return true
	case errors.Is(err, ErrOverloaded):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		http.Error(w, err.Error(), http.StatusUnauthorized)
	}
	return false
}

// statusPath is answered at once by a host that serves nothing yet, too: with
// the reason.
const statusPath = "/api/v1/status"

// Status hangs the paths on a server that are answered by this host alone:
// /-/ping, /metrics, /api/v1/vnodes and /api/v1/status.
func Status(server *Server, keeper *Keeper, metrics *Metrics, vnodes Vnodes, overall Overall, dnode func() uint32) {
	server.Handle("/-/ping", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
	}))
	server.Handle("/metrics", metrics)
	server.Handle(statusPath, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !letIn(w, r, keeper) {
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		json.NewEncoder(w).Encode(overall.Cluster()) //nolint:errcheck // the client has gone
	}))
	// Digests read everything, so one at a time.
	busy := make(chan struct{}, 1)
	server.Handle("/api/v1/vnodes", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !letIn(w, r, keeper) {
			return
		}
		digest := r.URL.Query().Get("digest") != "false"
		if digest {
			select {
			case busy <- struct{}{}:
				defer func() { <-busy }()
			case <-r.Context().Done():
				return
			}
		}
		list, err := vnodes.Vnodes(r.Context(), digest)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		json.NewEncoder(w).Encode(map[string]any{"dnode": dnode(), "vnodes": list}) //nolint:errcheck // the client has gone
	}))
}
