package hlc

import (
	"math"
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	tests := []struct {
		name  string
		last  Stamp
		wall  int64
		floor Stamp
		want  Stamp
	}{
		{"wall ahead of all", 100, 500, 200, 500},
		{"wall stands still", 500, 500, 0, 501},
		{"wall jumped back", 500, 20, 0, 501},
		{"log written under a faster clock", 100, 500, 900, 901},
		{"floor equals wall", 100, 500, 500, 501},
		{"wall before 1970", 0, -7, 0, 1},
		{"first stamp is never zero", 0, 0, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Clock{last: tt.last}
			if got := c.Next(tt.wall, tt.floor); got != tt.want {
				t.Errorf("Next(%d, %d) after %d: got %d, want %d", tt.wall, tt.floor, tt.last, got, tt.want)
			}
			if c.Last() != tt.want {
				t.Errorf("Last: got %d, want %d", c.Last(), tt.want)
			}
		})
	}
}

func TestNextAtTheEndOfTime(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a stamp after the largest: want a panic, not a stamp that goes back")
		}
	}()
	new(Clock).Next(0, math.MaxUint64)
}

func TestStampIsItsInstant(t *testing.T) {
	for _, at := range []time.Time{
		time.Unix(0, 1),
		time.Date(2024, 5, 1, 8, 0, 0, 123456789, time.UTC),
		time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got := At(at).Time(); !got.Equal(at) {
			t.Errorf("At(%v).Time(): got %v", at, got)
		}
	}
	if got := At(time.Unix(-5, 0)); got != 0 {
		t.Errorf("before 1970: got %d, want 0", got)
	}
	const want = "2024-05-01T08:00:00.120000000Z"
	if got := At(time.Date(2024, 5, 1, 8, 0, 0, 120e6, time.UTC)).String(); got != want {
		t.Errorf("String: got %s, want %s", got, want)
	}
}

func TestAhead(t *testing.T) {
	const wall = int64(1_700_000_000_000_000_000)
	tests := []struct {
		s    Stamp
		wall int64
		want time.Duration
	}{
		{Stamp(wall) + Stamp(time.Hour), wall, time.Hour},
		{Stamp(wall) - Stamp(time.Hour), wall, -time.Hour},
		{Stamp(wall), wall, 0},
		{math.MaxUint64, 0, math.MaxInt64},
		{7, -9, 7},
	}
	for _, tt := range tests {
		if got := tt.s.Ahead(tt.wall); got != tt.want {
			t.Errorf("Stamp(%d).Ahead(%d): got %v, want %v", tt.s, tt.wall, got, tt.want)
		}
	}
}

// FuzzNext: whatever the wall clock shows, stamps rise and stay above the floor.
func FuzzNext(f *testing.F) {
	f.Add(int64(5), uint64(9), int64(3), uint64(2))
	f.Add(int64(-1), uint64(0), int64(math.MinInt64), uint64(0))
	f.Fuzz(func(t *testing.T, wall1 int64, floor1 uint64, wall2 int64, floor2 uint64) {
		if max(floor1, floor2) > math.MaxUint64-2 {
			return // the end of time
		}
		var c Clock
		a := c.Next(wall1, Stamp(floor1))
		b := c.Next(wall2, Stamp(floor2))
		if a <= Stamp(floor1) || b <= Stamp(floor2) || b <= a {
			t.Errorf("stamps %d, %d over floors %d, %d", a, b, floor1, floor2)
		}
	})
}
