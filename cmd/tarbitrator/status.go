package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tarbitrator/tarbitrator/arbitrator"
	"github.com/tarbitrator/tarbitrator/internal/alarm"
	"github.com/tarbitrator/tarbitrator/internal/cli/screen"
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
	_, err = io.WriteString(w, statusScreen(st, time.Now(), screen.PaintFor(w)))
	return err
}

// shownClusters bounds the list; those that something is wrong with come first.
const shownClusters = 20

// statusScreen draws the status on one screen. It is a pure function.
func statusScreen(st arbitrator.Status, now time.Time, paint screen.Paint) string {
	p := &screen.Page{Paint: paint}
	disk := paint.Good(st.Disk)
	if st.Disk != "ok" {
		disk = paint.Bad(st.Disk)
	}
	p.Printf("arbitrator  %s, up for %s\n", st.Address, screen.Span(now.Sub(st.Started)))
	p.Printf("directory   %s\n", st.Identity)
	p.Printf("disk        %s\n", disk)
	p.Printf("clusters    %d, with %d records (%d retired, %d tainted)\n",
		st.Counts.Clusters, st.Counts.Replicas, st.Counts.Retired, st.Counts.Tainted)
	if len(st.Clusters) == 0 {
		p.Printf("\nNo cluster has enrolled yet: set 'arbitrator HOST:PORT' in the hosts'\nconfiguration.\n")
	}
	slices.SortStableFunc(st.Clusters, func(a, b arbitrator.ClusterStatus) int { return wrong(b) - wrong(a) })
	for _, c := range st.Clusters[:min(len(st.Clusters), shownClusters)] {
		printCluster(p, c, now)
	}
	if more := len(st.Clusters) - shownClusters; more > 0 {
		p.Printf("\nand %d more clusters, see /status\n", more)
	}
	printFindings(p, st.Findings())
	return p.String()
}

// wrong counts what is wrong with a cluster.
func wrong(c arbitrator.ClusterStatus) int {
	return len(arbitrator.Status{Disk: "ok", Clusters: []arbitrator.ClusterStatus{c}}.Findings())
}

func printCluster(p *screen.Page, c arbitrator.ClusterStatus, now time.Time) {
	heard := "not heard since this arbitrator started"
	if c.Heard != nil {
		heard = fmt.Sprintf("heard %s ago", screen.Span(now.Sub(*c.Heard)))
	}
	if c.Replicas == 0 {
		p.Printf("\ncluster %d: has left for another arbitrator (%d retired replicas)\n", c.Cluster, c.Retired)
		return
	}
	p.Printf("\ncluster %d: %d replicas, %s", c.Cluster, c.Replicas, heard)
	rows := [][]string{}
	for _, h := range c.Hosts {
		state := "connected"
		switch {
		case h.OldCopy:
			state = "old copy"
		case !h.Connected:
			state = "not connected"
		}
		rows = append(rows, []string{fmt.Sprintf("  dnode %d", h.Host), h.EndPoint, state})
	}
	if len(rows) > 0 {
		p.Table(rows)
	} else {
		p.Printf("\n")
	}
}

// shownFindings bounds what to do at once: when more than these are wrong the
// cause is nearer than any of them.
const shownFindings = 8

func printFindings(p *screen.Page, found []alarm.Finding) {
	if len(found) == 0 {
		p.Printf("\nalarms      %s\n", p.Paint.Good("none"))
		return
	}
	p.Printf("\nalarms      %d\n", len(found))
	for _, f := range found[:min(len(found), shownFindings)] {
		p.Printf("\n%s %s\n", p.Paint.Bad(string(f.Code)), f.Object)
		p.Wrapped("  ", f.What)
		p.Wrapped("  next: ", f.Next)
	}
	if more := len(found) - shownFindings; more > 0 {
		p.Printf("\nand %d more\n", more)
	}
}
