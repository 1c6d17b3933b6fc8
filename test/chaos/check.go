package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tarbitrator/tarbitrator/test/rig"
)

// healWithin is how long a healed cluster may take until it writes, and until
// both hosts hold the same.
const healWithin = 30 * time.Second

// writesAgain waits until every writer has been acknowledged again.
func (w *world) writesAgain(ctx context.Context) error {
	before := make([]int64, len(w.load.writers))
	for i, x := range w.load.writers {
		before[i] = x.acked.Load()
	}
	var stuck string
	err := await(ctx, func() error {
		for i, x := range w.load.writers {
			if x.acked.Load() <= before[i]+1 { // one may have been on its way
				stuck = x.table
				return errors.New("no acknowledgement")
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("healed, but %s takes no rows: %w", stuck, err)
	}
	return nil
}

// await repeats until f succeeds, or says why it did not.
func await(ctx context.Context, f func() error) error {
	end := time.Now().Add(healWithin)
	for {
		err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %v: %w", healWithin, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

type replica struct {
	Group    uint32 `json:"vgroup"`
	Database string `json:"database"`
	Role     string `json:"role"`
	Applied  uint64 `json:"applied"`
	Rows     int64  `json:"rows"`
	Digest   string `json:"digest"`
	Fault    string `json:"fault"`
}

// check waits until both hosts hold exactly what was acknowledged, and the same.
func (w *world) check(ctx context.Context) error {
	var lost error
	err := await(ctx, func() error {
		var a, b map[uint32]replica
		var err error
		if a, err = w.replicas(ctx, rig.A); err != nil {
			return err
		}
		if b, err = w.replicas(ctx, rig.B); err != nil {
			return err
		}
		lost = nil
		return errors.Join(same(a, b), w.complete(a), w.complete(b))
	})
	return errors.Join(lost, err)
}

// same compares two hosts' replicas.
func same(a, b map[uint32]replica) error {
	if len(a) != len(b) {
		return fmt.Errorf("host A holds %d replicas, B %d", len(a), len(b))
	}
	for g, x := range a {
		y, found := b[g]
		switch {
		case !found:
			return fmt.Errorf("vgroup %d is on A only", g)
		case x.Applied != y.Applied:
			return fmt.Errorf("vgroup %d: A has applied %d, B %d", g, x.Applied, y.Applied)
		case x.Digest != y.Digest:
			return fmt.Errorf("vgroup %d: digests differ at index %d: A %d rows, B %d rows", g, x.Applied, x.Rows, y.Rows)
		}
	}
	return nil
}

// complete compares one host's own rows with what was acknowledged.
func (w *world) complete(list map[uint32]replica) error {
	var rows int64
	for g, x := range list {
		if x.Fault != "" {
			return fmt.Errorf("vgroup %d: %s", g, x.Fault)
		}
		switch x.Database {
		case "d":
			rows += x.Rows
		case registerDatabase: // its history tells more than a count
		default:
			return fmt.Errorf("vgroup %d of database %q is still there", g, x.Database)
		}
	}
	if want := w.load.acknowledged(); rows != want {
		return fmt.Errorf("%d rows on a host, %d were acknowledged", rows, want)
	}
	return nil
}

// replicas asks a host for its own replicas.
func (w *world) replicas(ctx context.Context, name string) (map[uint32]replica, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.EndPoint(name)+"/api/v1/vnodes", nil)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth("root", "taosdata")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("vnodes of %s: %s", name, resp.Status)
	}
	var answer struct{ Vnodes []replica }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("vnodes of %s: %w", name, err)
	}
	list := map[uint32]replica{}
	for _, v := range answer.Vnodes {
		list[v.Group] = v
	}
	return list, nil
}
