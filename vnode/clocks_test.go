package vnode

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/hlc"
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

// TestAClockThatLeapsRemovesNothing: a host whose clock is a year ahead leads
// for a moment. What is younger than KEEP by the clocks of all others stays, and
// so does what is written after it.
func TestAClockThatLeapsRemovesNothing(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Keep = 10 * 24 * time.Hour
	v, _ := leader(t, cfg)
	now := testNow
	v.now = func() time.Time { return now }
	write(t, v, CreateTable{Name: "x", Columns: tableColumns(sensorColumns...)})
	at := func(t time.Time) float64 { return float64(t.Sub(testNow).Milliseconds()) }
	put := func(ts time.Time) {
		t.Helper()
		write(t, v, Insert{Tables: []TableRows{{Table: "x", Rows: numbers(at(ts), 1, 1)}}})
		if err := v.current.Load().tidy.work(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	put(now.AddDate(0, 0, -8))
	put(now)
	now = testNow.AddDate(1, 0, 0)
	put(now)
	now = testNow.Add(time.Minute)
	put(now)
	want := []string{
		fmt.Sprintf("x %.0f 1 1", at(testNow.AddDate(0, 0, -8))), "x 0 1 1",
		fmt.Sprintf("x %.0f 1 1", at(now)), fmt.Sprintf("x %.0f 1 1", at(testNow.AddDate(1, 0, 0))),
	}
	wantLines(t, scanText(t, v, ScanRequest{Table: "x"}), want...)
	if n := countKeys(t, v, keyBlock); n != 4 {
		t.Errorf("got %d blocks, want 4", n)
	}
}

// TestRowsGrowOldSteadily: pauses are caught up with, leaps are not followed.
func TestRowsGrowOldSteadily(t *testing.T) {
	const start = hlc.Stamp(1_700_000_000_000_000_000)
	var p position
	step := func(pause time.Duration) {
		before := p.stamp
		p.stamp += hlc.Stamp(pause)
		p.age(before)
	}
	behind := func() time.Duration { return time.Duration(p.stamp - p.aged) }
	step(time.Duration(start))
	for range 100 {
		step(time.Minute)
	}
	if behind() != 0 {
		t.Errorf("got %s behind in a log that is written, want none", behind())
	}
	step(62 * time.Hour) // a weekend
	if want := 50 * time.Hour; behind() != want {
		t.Errorf("got %s behind after a weekend, want %s", behind(), want)
	}
	for range 50 {
		step(time.Hour)
	}
	if behind() != 0 {
		t.Errorf("got %s behind two days later, want none", behind())
	}
	aged := p.aged
	step(365 * 24 * time.Hour)
	for range 1000 {
		step(1) // a clock that was set back
	}
	if got := time.Duration(p.aged - aged); got > 2*longestPause+2000 {
		t.Errorf("a leap of a year made rows older by %s", got)
	}
	first := p.append(nil)[:24]
	if old, err := parsePosition(first); err != nil || old.aged != p.stamp {
		t.Errorf("got %+v, %v of a position without the moment, want its stamp %s", old, err, p.stamp)
	}
}
