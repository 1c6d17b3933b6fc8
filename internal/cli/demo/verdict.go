package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tarbitrator/tarbitrator/client"
)

// errLost ends the demo with exit code 1.
var errLost = errors.New("the cluster did not keep what it acknowledged")

// verdict compares what was acknowledged with what is stored: through the
// cluster, row by row, and in each host's own replicas.
func (s *story) verdict(ctx context.Context) error {
	acked, counted, err := s.load.counts()
	if err != nil {
		return fmt.Errorf("a write was given up: %w", err)
	}
	lost := int64(0)
	for w, n := range acked {
		missing, err := s.missing(ctx, w, n)
		if err != nil {
			return err
		}
		lost += missing
	}
	total := counted + s.machine.acked.Load()
	s.say("rows acknowledged    %d counted, %d of this machine's metrics", counted, s.machine.acked.Load())

	var own [2][]client.Vnode
	err = await(ctx, "both hosts have applied the same entries", catchUpWithin, func(ctx context.Context) (bool, error) {
		for i, h := range s.rig.hosts {
			if own[i], err = s.client.Vnodes(ctx, h.http); err != nil {
				return false, err
			}
		}
		return sameApplied(own[0], own[1]), nil
	})
	if err != nil {
		return err
	}
	equal := true
	var rows [2]uint64
	for i := range own {
		for g, v := range own[i] {
			rows[i] += v.Rows
			equal = equal && v.Digest == own[1-i][g].Digest
		}
	}
	for i, h := range s.rig.hosts {
		s.say("rows in %s       %d in its own replicas", h.name, rows[i])
	}
	for g, v := range own[0] {
		s.say("group %-3d            applied %d: digest %.16s… on A, %.16s… on B", v.Group, v.Applied, v.Digest, own[1][g].Digest)
	}
	s.say("lost                 %d", lost)
	if lost > 0 || !equal || rows[0] < uint64(total) || rows[1] < uint64(total) {
		s.say("VERDICT              FAILED: lost %d, digests equal: %v", lost, equal)
		return errLost
	}
	s.say("VERDICT              every acknowledged row is on both hosts, and both hosts hold the same")
	return nil
}

func sameApplied(a, b []client.Vnode) bool {
	if len(a) != len(b) || len(a) == 0 {
		return false
	}
	for i := range a {
		if a[i].Group != b[i].Group || a[i].Applied != b[i].Applied {
			return false
		}
	}
	return true
}

// missing counts the rows of one writer's table that were acknowledged and are
// not there, or hold another value.
func (s *story) missing(ctx context.Context, w int, acked int64) (int64, error) {
	found := make([]bool, acked)
	const page = 20_000
	for from := int64(0); from < acked; from += page {
		rows, err := s.client.Query(ctx, fmt.Sprintf("SELECT ts, n FROM "+tableName+" WHERE ts >= %d AND ts < %d", w, s.load.base+from, s.load.base+min(from+page, acked)))
		if err != nil {
			return 0, fmt.Errorf("read back: %w", err)
		}
		for i := range rows.Data {
			at, err := time.Parse(time.RFC3339Nano, rows.Text(i, 0))
			n, ok := rows.Int(i, 1)
			if err != nil || !ok {
				return 0, fmt.Errorf("row reads %v", rows.Data[i])
			}
			if row := at.UnixMilli() - s.load.base; row == n && row >= 0 && row < acked {
				found[row] = true
			}
		}
	}
	missing := int64(0)
	for _, ok := range found {
		if !ok {
			missing++
		}
	}
	return missing, nil
}
