package wal_test

import (
	"math"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
)

// TestSpare checks that what may go leaves as many bytes as asked for, and not
// many more: after entries were replaced, carried, cut and read again.
func TestSpare(t *testing.T) {
	const entryBytes, near = 500, 32 << 10
	disk := waltest.NewDisk(1)
	opt := wal.Options{SegmentBytes: 64 << 10}
	l := open(t, disk, opt)
	check := func(when string, start, last id.Index) {
		t.Helper()
		for keep := 0; keep < int(last-start)*entryBytes; keep += 7000 {
			spare := l.Spare(1, uint64(keep))
			left := (int(last) - int(max(spare, start))) * entryBytes
			if spare != 0 && (spare <= start || spare > last) {
				t.Fatalf("%s: entries up to %d of %d to %d are spare", when, spare, start+1, last)
			}
			if left < keep-keep/5 || left > keep+near {
				t.Errorf("%s: %d bytes are left, want %d", when, left, keep)
			}
		}
		if got := l.Spare(1, uint64(2*last*entryBytes)); got != 0 {
			t.Errorf("%s: %d is spare though nothing may go", when, got)
		}
	}
	for at := id.Index(1); at <= 2000; at += 10 {
		put(t, l, wal.Op{Group: 1, Entries: run(at, 10, 1, entryBytes)}, wal.Op{Group: 2, Entries: run(at, 10, 1, 100)})
		maintain(t, l)
	}
	check("written", 0, 2000)
	put(t, l, wal.Op{Group: 1, Entries: run(1501, 10, 2, entryBytes)})
	check("replaced", 0, 1510)
	put(t, l, wal.Op{Group: 1, Cut: 333})
	check("cut", 333, 1510)
	for at := id.Index(2001); at <= 4000; at += 10 { // carries what is left in nearly empty segments
		put(t, l, wal.Op{Group: 2, Entries: run(at, 10, 1, 400), Cut: at - 5})
		maintain(t, l)
	}
	check("carried", 333, 1510)
	disk.PowerOff()
	l = open(t, disk, opt)
	check("opened again", 333, 1510)
	put(t, l, wal.Op{Group: 1, Cut: l.Spare(1, 0)})
	if s := state(t, l, 1); s.Start != s.Last {
		t.Errorf("the log still holds %d to %d", s.Start.Index+1, s.Last.Index)
	}
	put(t, l, wal.Op{Group: 1, Start: &wal.Position{Index: 9000, Term: 3}})
	for at := id.Index(9001); at <= 9100; at += 10 {
		put(t, l, wal.Op{Group: 1, Entries: run(at, 10, 3, entryBytes)})
	}
	check("begun anew", 9000, 9100)
	if l.Spare(1, math.MaxUint64) != 0 || l.Spare(7, 0) != 0 {
		t.Error("something is spare where all is to stay, or in a group that is not there")
	}
}
