package vnode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// TestRun lets everything work at once: writers, readers, checkpoints, digests
// and the tidy worker, and then closes.
func TestRun(t *testing.T) {
	l := &testLog{}
	v := openTest(t, testConfig(t.TempDir()), l)
	l.v = v
	var running sync.WaitGroup
	running.Go(func() {
		if err := v.Run(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("run ended with %v", err)
		}
	})
	v.LeaderChanged(1, id.UUID{1}, true)
	write(t, v, CreateStable{Name: "st", Columns: tableColumns(sensorColumns...), Tags: []sql.Column{{Name: "x", Type: sql.TypeInt}}})
	const writers, each = 8, 300
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			in := TableRows{Table: fmt.Sprint("d", w), Using: &Using{Stable: "st", Tags: []sql.Value{{}}}}
			for i := range each {
				in.Rows = numbers(float64(i), float64(i), float64(w))
				if _, err := v.Write(t.Context(), Statement{ID: StatementID{1, uint64(w*each + i + 1)}, Op: Insert{Tables: []TableRows{in}}}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			_, err1 := v.Digest(t.Context())
			_, err2 := v.Checkpoint(t.Context())
			groups, err3 := v.Aggregate(t.Context(), AggregateRequest{Table: "st", Columns: []string{"n"}, Group: func(t *Table) string { return t.Name }})
			if err := errors.Join(err1, err2, err3); err != nil {
				t.Error(err)
				return
			}
			for _, g := range groups {
				w := g.Windows[0]
				if w.Columns[0].Sum().Int != w.Rows*w.Columns[0].Last().Int || w.Columns[0].Count != w.Rows {
					t.Errorf("group %s: got %+v", g.Key, w)
				}
			}
		}
	})
	writing.Wait()
	close(done)
	reading.Wait()
	if d := mustDigest(t, v); d.Rows != writers*each {
		t.Errorf("got %d rows, want %d", d.Rows, writers*each)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	running.Wait()
	if _, err := v.Write(t.Context(), Statement{Op: Note{Key: "k"}}); err == nil {
		t.Error("a closed replica takes a statement")
	}
	if err := v.Scan(t.Context(), ScanRequest{Table: "st"}, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("scan of a closed replica: got %v", err)
	}
	if blocks := countKeys(t, openTest(t, v.cfg, nil), keyBlock); blocks >= writers*each/2 {
		t.Errorf("%d blocks for %d rows: nothing was merged", blocks, writers*each)
	}
}
