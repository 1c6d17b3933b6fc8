package client

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Status is a cluster as one of its hosts knows it. That host asks nobody for
// it: it answers also when no master exists.
type Status struct {
	Dnode    uint32    `json:"dnode"` // the host that answers
	EndPoint string    `json:"end_point"`
	Version  string    `json:"version"`
	At       time.Time `json:"at"`      // by its clock
	Started  time.Time `json:"started"` // likewise
	Cluster  string    `json:"cluster"` // the cluster's id
	Service  string    `json:"service"` // full, partly, none
	// Mode is how safe what is acknowledged now is: sync, async, sync-recover;
	// unknown without a master. The host knows it back to its own start.
	Mode      string     `json:"mode"`
	ModeSince time.Time  `json:"mode_since"`
	Machines  []Machine  `json:"machines"`  // data hosts, then the arbitrator
	Databases []Database `json:"databases"` // the metadata first
	Alarms    []Alarm    `json:"alarms"`    // the most urgent first
	Tasks     []Task     `json:"tasks"`     // changes of the cluster that are under way
	Failovers []Failover `json:"failovers"` // the newest of SHOW FAILOVERS, the newest first
}

// Machine is a data host or the arbitrator.
type Machine struct {
	Name     string `json:"name"` // "dnode 1", "arbitrator"
	EndPoint string `json:"end_point"`
	State    string `json:"state"` // ready, offline, dropping
	Reason   string `json:"reason,omitempty"`
	Version  string `json:"version,omitempty"`
	Leads    int    `json:"leads"`  // groups that have their master there
	Groups   int    `json:"groups"` // that have a replica there
	// Stops names what would have no master if this machine failed next; only
	// for machines that are there.
	Stops []string `json:"stops,omitempty"`
	// SeenSeconds is the age of what is said here; negative: never heard of.
	SeenSeconds float64 `json:"seen_seconds"`
}

// Database is a database, or the metadata, over all its groups.
type Database struct {
	Name     string   `json:"name"` // empty for the metadata
	Replicas int      `json:"replicas"`
	Vgroups  int      `json:"vgroups"`
	Led      int      `json:"led"`     // groups that have a master
	Masters  []string `json:"masters"` // machines that lead some of it
	Mode     string   `json:"mode"`    // of the least safe group
	// Feed is what the arbitrator is told of the group that it is told most of:
	// shut, closing, open; empty without a master, or if no group has one.
	Feed string `json:"feed,omitempty"`
}

// Alarm is something wrong that lasts, with what to do about it.
type Alarm struct {
	Code   string    `json:"code"`
	Level  string    `json:"level"` // critical, warning, notice
	Object string    `json:"object"`
	Since  time.Time `json:"since"`
	What   string    `json:"what"`
	Next   string    `json:"next"`
}

// Task is a change that the cluster works on.
type Task struct {
	Object  string    `json:"object"` // "vgroup 3", "dnode 2"
	What    string    `json:"what"`
	Waiting string    `json:"waiting,omitempty"` // for what; empty: for nothing
	Since   time.Time `json:"since,omitzero"`    // zero: it has just begun
}

// Failover is a change of master.
type Failover struct {
	At    time.Time `json:"at"`   // when the new one led, by its clock
	From  string    `json:"from"` // empty: nobody led before, as far as the new one knows
	To    string    `json:"to"`
	Cause string    `json:"cause"`
	Info  string    `json:"info"`
	// Milliseconds from the last word of the former master to the new one.
	Milliseconds int64 `json:"ms"`
}

// Status asks one host. A host that is in no cluster, or is starting, refuses
// with an Error that says so; it is not waited for.
func (c *Client) Status(ctx context.Context, host string) (*Status, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.TryTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/api/v1/status", nil)
	if err != nil {
		return nil, fmt.Errorf("make request to %s: %w", host, err)
	}
	body, code, err := c.do(req)
	if err != nil {
		return nil, err
	}
	switch code {
	case http.StatusOK:
	case http.StatusServiceUnavailable:
		_, err := decode(body, code)
		return nil, err
	case http.StatusUnauthorized:
		return nil, &Error{Code: CodeAuthFailure, Text: strings.TrimSpace(string(body))}
	default:
		return nil, fmt.Errorf("ask %s for its status: HTTP status %d: %s", host, code, body)
	}
	var s Status
	if err := strict(body, &s); err != nil {
		return nil, fmt.Errorf("read the status of %s: %w", host, err)
	}
	return &s, nil
}
