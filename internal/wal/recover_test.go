package wal_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
)

// TestTornTail changes every byte of the last batch, which was never synced:
// the log must open with a part of that batch, and with all before it.
func TestTornTail(t *testing.T) {
	disk := waltest.NewDisk(1)
	opt := wal.Options{SegmentBytes: 8 << 10}
	l := open(t, disk, opt)
	put(t, l, wal.Op{Group: 1, Entries: run(1, 5, 1, 20)}, wal.Op{Group: 2, Mark: 9})
	from := l.End()
	if err := l.Append([]wal.Op{{Group: 1, Entries: run(6, 2, 1, 20)}, {Group: 1, Entries: run(8, 2, 1, 20)}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	disk.Kill()
	seen := make(map[id.Index]bool)
	for off := from; off < l.End(); off++ {
		d := disk.Clone(1)
		if err := d.Corrupt(l.ActiveName(), off, 0x55); err != nil {
			t.Fatal(err)
		}
		torn := open(t, d, opt)
		last := state(t, torn, 1).Last.Index
		seen[last] = true
		if got := read(t, torn); last < 5 || got[2].state.Mark != 9 {
			t.Fatalf("with a change at %d, group 1 ends at %d and group 2 is %v", off, last, got[2])
		}
	}
	if !seen[5] || !seen[7] || !seen[9] || len(seen) != 3 {
		t.Errorf("the log ended at %v, want each of 5, 7 and 9, the ends of its records", seen)
	}
}

// TestDamage changes every third byte of every file of a log that was closed.
// Either nothing is lost, or Open says in which file, and where.
func TestDamage(t *testing.T) {
	disk := waltest.NewDisk(1)
	opt := wal.Options{SegmentBytes: 4 << 10}
	l := open(t, disk, opt)
	for i := range id.Index(30) {
		put(t, l, wal.Op{Group: 1, Entries: run(1+10*i, 10, 1, 40)}, wal.Op{Group: 2, Entries: run(1+i, 1, 1, 5), Mark: i})
		maintain(t, l)
	}
	if live, _ := l.Segments(); live < 4 {
		t.Fatalf("%d segments are too few for this test", live)
	}
	want := read(t, l).digest()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	refused := 0
	files, err := disk.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		for off := int64(0); off < f.Size; off += 3 {
			d := disk.Clone(1)
			if err := d.Corrupt(f.Name, off, 0x10); err != nil {
				t.Fatal(err)
			}
			l, err := wal.Open(d, opt)
			var damage *wal.DamageError
			switch {
			case err == nil && read(t, l).digest() != want:
				t.Fatalf("a change of %s at %d went unnoticed", f.Name, off)
			case err == nil:
			case !errors.As(err, &damage) || !strings.Contains(err.Error(), f.Name) || damage.Offset > off:
				t.Fatalf("a change of %s at %d: %v", f.Name, off, err)
			default:
				refused++
			}
		}
	}
	if refused < 1000 {
		t.Errorf("only %d changes were noticed", refused)
	}
}

// TestDamageBehindLastSync changes a batch that was synced, with one behind it
// that was not: the second proves that the first was durable.
func TestDamageBehindLastSync(t *testing.T) {
	disk := waltest.NewDisk(1)
	opt := wal.Options{SegmentBytes: 8 << 10}
	l := open(t, disk, opt)
	off := l.End()
	put(t, l, wal.Op{Group: 1, Entries: run(1, 5, 1, 20)})
	if err := l.Append([]wal.Op{{Group: 1, Entries: run(6, 2, 1, 20)}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	disk.Kill()
	if err := disk.Corrupt(l.ActiveName(), off+20, 1); err != nil {
		t.Fatal(err)
	}
	_, err := wal.Open(disk, opt)
	var damage *wal.DamageError
	if !errors.As(err, &damage) || damage.Offset != off || damage.Path != disk.Path(l.ActiveName()) {
		t.Errorf("got %v, want damage of %s at %d", err, l.ActiveName(), off)
	}
}

// TestMissingSegment takes a needed file away.
func TestMissingSegment(t *testing.T) {
	disk := waltest.NewDisk(1)
	opt := wal.Options{SegmentBytes: 4 << 10}
	l := open(t, disk, opt)
	first := l.ActiveName()
	for i := range id.Index(30) {
		put(t, l, wal.Op{Group: 1, Entries: run(1+10*i, 10, 1, 20)})
		maintain(t, l)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := disk.Remove(first); err != nil {
		t.Fatal(err)
	}
	if _, err := wal.Open(disk, opt); err == nil || !strings.Contains(err.Error(), first) {
		t.Errorf("open without %s: got %v", first, err)
	}
}

// TestForeignSegment puts a segment of another log into the directory.
func TestForeignSegment(t *testing.T) {
	disk, other := waltest.NewDisk(1), waltest.NewDisk(2)
	l := open(t, disk, wal.Options{SegmentBytes: 4 << 10})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, other, wal.Options{SegmentBytes: 4 << 10}).Close(); err != nil {
		t.Fatal(err)
	}
	f, err := disk.Create("00000000000000ff.wal")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(other.Content(l.ActiveName()), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := wal.Open(disk, wal.Options{SegmentBytes: 4 << 10}); err == nil || !strings.Contains(err.Error(), "different logs") {
		t.Errorf("got %v, want a word about different logs", err)
	}
}
