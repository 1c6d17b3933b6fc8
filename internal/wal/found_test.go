package wal_test

import (
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
)

// What was durable is found by the next start, however the last one ended, and
// nothing that this start writes counts as found.
func TestFoundIsNeverBelowWhatWasDurable(t *testing.T) {
	for seed := range uint64(20) {
		d := waltest.NewDisk(seed)
		told := uint64(0)
		for start := range 12 {
			l := open(t, d, wal.Options{SegmentBytes: 8 << 10})
			if l.Found() < told || start == 0 && l.Found() != 0 || l.Sequence() <= l.Found() {
				t.Fatalf("seed %d, start %d: found %d after %d was durable, and stands at %d", seed, start, l.Found(), told, l.Sequence())
			}
			for i := range 10 {
				put(t, l, wal.Op{Group: 1, Meta: make([]byte, 100*i)})
				maintain(t, l)
			}
			told = l.Sequence()
			if err := l.Append([]wal.Op{{Group: 2, Meta: []byte("not synced")}}); err != nil {
				t.Fatal(err)
			}
			switch start % 3 {
			case 0:
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				told = max(told, l.Sequence())
			case 1:
				if err := l.Flush(); err != nil {
					t.Fatal(err)
				}
				d.Kill()
			default:
				if err := l.Flush(); err != nil {
					t.Fatal(err)
				}
				d.PowerOff()
			}
		}
	}
}

// Batches that hold nothing move Sequence only.
func TestChangedStandsStillInAnIdleLog(t *testing.T) {
	l := open(t, waltest.NewDisk(1), wal.Options{})
	put(t, l, wal.Op{Group: 1, Meta: []byte("x")})
	changed := l.Changed()
	if changed != l.Sequence() {
		t.Errorf("changed by %d, durable up to %d", changed, l.Sequence())
	}
	put(t, l)
	put(t, l)
	if l.Changed() != changed || l.Sequence() != changed+2 {
		t.Errorf("two empty batches after %d: changed by %d, durable up to %d", changed, l.Changed(), l.Sequence())
	}
	put(t, l, wal.Op{Group: 1, Meta: []byte("y")})
	if l.Changed() != changed+3 || l.Sequence() != changed+3 {
		t.Errorf("a third one holds something: changed by %d, durable up to %d", l.Changed(), l.Sequence())
	}
}
