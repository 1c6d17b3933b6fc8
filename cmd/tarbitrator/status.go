package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tarbitrator/tarbitrator/arbitrator"
)

// status prints what the arbitrator whose HTTP address is addr serves.
func status(ctx context.Context, w io.Writer, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/status", nil)
	if err != nil {
		return usageError("http %q: %w", addr, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return cli.Exit(fmt.Errorf("no arbitrator answers at %s: %w", addr, err), exitUnreachable)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return cli.Exit(fmt.Errorf("the arbitrator at %s answers %s", addr, resp.Status), exitFailed)
	}
	var st arbitrator.Status
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(&st); err != nil {
		return cli.Exit(fmt.Errorf("what answers at %s is not an arbitrator: %w", addr, err), exitFailed)
	}
	printStatus(w, st, time.Now())
	return nil
}

func printStatus(w io.Writer, st arbitrator.Status, now time.Time) {
	fmt.Fprintf(w, "arbitrator  %s\n", st.Identity)
	fmt.Fprintf(w, "listens on  %s, for %v\n", st.Address, now.Sub(st.Started).Round(time.Second))
	fmt.Fprintf(w, "disk        %s, generation %d\n", st.Disk, st.Generation)
	fmt.Fprintf(w, "serves      %d clusters, %d replicas (%d retired, %d tainted)\n",
		st.Counts.Clusters, st.Counts.Replicas, st.Counts.Retired, st.Counts.Tainted)
	if len(st.Clusters) == 0 {
		fmt.Fprintf(w, "\nNo cluster has enrolled yet: set 'arbitrator HOST:PORT' in the hosts' configuration.\n")
	}
	for _, c := range st.Clusters {
		heard := "not heard since this arbitrator started"
		if c.Heard != nil {
			heard = fmt.Sprintf("heard %v ago", now.Sub(*c.Heard).Round(time.Second))
		}
		fmt.Fprintf(w, "\ncluster %d: %d replicas, %s\n", c.Cluster, c.Replicas, heard)
		if c.Tainted > 0 {
			fmt.Fprintf(w, "  %d tainted: they vote no more until the cluster replaces them\n", c.Tainted)
		}
		for _, h := range c.Hosts {
			state := "connected"
			switch {
			case h.OldCopy:
				state = fmt.Sprintf("OLD COPY: RESTORE DNODE %d", h.Host)
			case !h.Connected:
				state = "NOT CONNECTED"
			}
			fmt.Fprintf(w, "  dnode %-4d %-32s %s\n", h.Host, h.EndPoint, state)
		}
	}
}
