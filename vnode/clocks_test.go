package vnode

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// pairLog is the log of two replicas, which both apply an entry at once.
type pairLog struct {
	mu      sync.Mutex
	both    []*Vnode
	entries []consensus.Entry
}

func (l *pairLog) Propose(_ context.Context, _ id.Group, data []byte) (result any, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := consensus.Entry{Index: id.Index(len(l.entries) + 1), Term: 1, Data: data}
	l.entries = append(l.entries, e)
	for _, v := range l.both {
		results, err := v.Apply([]consensus.Entry{e})
		if err != nil {
			return nil, err
		}
		result = results[0]
	}
	return result, nil
}

func (l *pairLog) Read(context.Context, id.Group) error { return nil }

// TestClocksApart: the clocks of two hosts are hours apart, and step back. What
// was written later replaces what was written before, whoever leads.
func TestClocksApart(t *testing.T) {
	l := &pairLog{}
	clocks := []time.Time{testNow.Add(time.Hour), testNow.Add(-time.Hour)}
	for i := range clocks {
		v, err := Open(testConfig(t.TempDir()), 0, l, func() time.Time { return clocks[i] }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		})
		l.both = append(l.both, v)
		lead(t, v)
	}
	term := id.Term(1)
	// through lets one host lead, which writes the same row with another value.
	through := func(leader int, value float64) {
		t.Helper()
		term++
		for i, v := range l.both {
			v.LeaderChanged(term, id.UUID{byte(leader + 1)}, i == leader)
		}
		write(t, l.both[leader], Insert{Tables: []TableRows{{Table: "x", Rows: numbers(0, value, value)}}})
		for _, v := range l.both {
			wantLines(t, scanText(t, v, ScanRequest{Table: "x"}), fmt.Sprintf("x 0 %v %v", value, value))
		}
	}
	write(t, l.both[0], CreateTable{Name: "x", Columns: tableColumns(sensorColumns...)})
	through(0, 1)                         // an hour ahead
	through(1, 2)                         // an hour behind
	clocks[0] = testNow.AddDate(-1, 0, 0) // set back
	through(0, 3)
	clocks[1] = testNow.AddDate(0, 0, 1) // and forward
	through(1, 4)
	clocks[1] = testNow
	through(1, 5)
	through(0, 6)
	a, err := l.both[0].Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.both[1].Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Errorf("digests differ: %+v and %+v", a, b)
	}
}
