package node

import (
	"log/slog"
	"slices"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/alarm"
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

// A disk is nearly full before it is full, and a full one is not called both.
func TestSpaceFindings(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		free, size uint64
		was, want  bool
	}{
		{free: 600 * mb, size: 10_000 * mb, want: false},
		{free: 499 * mb, size: 10_000 * mb, want: true},
		{free: 600 * mb, size: 10_000 * mb, was: true, want: true},
		{free: 626 * mb, size: 10_000 * mb, was: true, want: false},
		{free: 383 * mb, size: 1_000 * mb, want: true}, // four times 96 MiB
	} {
		if got := nearlyLow(c.free, c.size, 0, c.was); got != c.want {
			t.Errorf("%d of %d MiB free, nearly low before: %v: got %v", c.free/mb, c.size/mb, c.was, got)
		}
	}
	s := &space{dir: "/data", tell: func(bool) {}, log: slog.New(slog.DiscardHandler)}
	code := func() (code alarm.Code) {
		for _, f := range s.findings("dnode 1") {
			code += f.Code
		}
		return code
	}
	for _, step := range []struct {
		change func()
		want   alarm.Code
	}{
		{func() {}, ""},
		{func() { s.mu.nearly = true }, alarm.DiskNearlyFull},
		{func() { s.mu.diskLow = true }, alarm.DiskFull},
		{func() { s.mu.diskLow, s.mu.nearly = false, false }, ""},
		{func() { s.mu.logFull = true }, alarm.DiskFull},
	} {
		s.note(step.change)
		if got := code(); got != step.want {
			t.Errorf("got %q, want %q", got, step.want)
		}
	}
}
