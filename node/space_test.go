package node

import (
	"log/slog"
	"slices"
	"testing"
)

func TestTooLow(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		free     uint64
		replicas int
		was      bool
		want     bool
	}{
		{free: 95 * mb, want: true},
		{free: 96 * mb, want: false},
		{free: 119 * mb, was: true, want: true},
		{free: 120 * mb, was: true, want: false},
		{free: 120 * mb, replicas: 2, want: true},
		{free: 160 * mb, replicas: 2, want: false},
	} {
		if got := tooLow(c.free, c.replicas, c.was); got != c.want {
			t.Errorf("%d MiB for %d replicas, low before: %v: got %v, want %v", c.free/mb, c.replicas, c.was, got, c.want)
		}
	}
}

// The groups hear of a change once, whoever found it.
func TestSpaceTellsOnce(t *testing.T) {
	var told []bool
	s := &space{tell: func(full bool) { told = append(told, full) }, log: slog.New(slog.DiscardHandler)}
	disk := func(low bool) { s.note(func() { s.mu.diskLow = low }) }
	disk(true)
	s.logFull(true)
	disk(false)
	s.logFull(false)
	s.logFull(true)
	if want := []bool{true, false, true}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}
