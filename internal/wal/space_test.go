package wal_test

import (
	"errors"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
)

// TestIdleGroups lets one group write a hundred segments while a thousand
// others keep a few entries each.
func TestIdleGroups(t *testing.T) {
	const segmentBytes = 2 << 20
	disk := waltest.NewDisk(1)
	l := open(t, disk, wal.Options{SegmentBytes: segmentBytes})
	const busy, idle = 1, 1000
	written, most := 0, 0
	next := make(map[id.Group]id.Index)
	for at := id.Index(1); written < 100*segmentBytes; at += 100 {
		op := wal.Op{Group: busy, Entries: run(at, 100, 1, 4000)}
		if at > 500 {
			op.Cut = at - 500
		}
		ops := []wal.Op{op}
		for i := range id.Group(3) { // each of the others has a turn now and then
			g := 2 + (3*id.Group(at/100)+i)%idle
			next[g]++
			ops = append(ops, wal.Op{Group: g, Hard: &wal.HardState{Term: 1, Vote: 1}, Entries: run(next[g], 1, 1, 10)})
		}
		put(t, l, ops...)
		maintain(t, l)
		written += 100 * 4000
		live, _ := l.Segments()
		most = max(most, live)
	}
	if most >= 4 {
		t.Errorf("%d segments were kept, want fewer than 4", most)
	}
	if used := disk.Used(); used > 8*segmentBytes {
		t.Errorf("the log takes %d bytes, want at most 8 segments of %d", used, segmentBytes)
	}
	disk.PowerOff()
	l = open(t, disk, wal.Options{SegmentBytes: segmentBytes})
	if len(next) != idle {
		t.Fatalf("only %d groups had a turn", len(next))
	}
	for g, n := range next {
		entries(t, l, g, 1, n+1)
	}
}

// TestShrink checks that a log gives back what a lagging replica has made it
// keep, without much being written.
func TestShrink(t *testing.T) {
	const segmentBytes = 64 << 10
	disk := waltest.NewDisk(1)
	l := open(t, disk, wal.Options{SegmentBytes: segmentBytes})
	put(t, l, wal.Op{Group: 2, Entries: run(1, 3, 1, 10)})
	for at := id.Index(1); at < 2000; at += 10 {
		put(t, l, wal.Op{Group: 1, Entries: run(at, 10, 1, 400)})
		maintain(t, l)
	}
	if live, _ := l.Segments(); live < 10 {
		t.Fatalf("%d segments are too few for this test", live)
	}
	put(t, l, wal.Op{Group: 1, Cut: 2000})
	for range 5 {
		maintain(t, l)
		put(t, l)
	}
	if live, _ := l.Segments(); live > 3 {
		t.Errorf("%d segments are kept of a log with 3 entries", live)
	}
	if used := disk.Used(); used > 7*segmentBytes {
		t.Errorf("the log takes %d bytes, want at most 7 segments of %d", used, segmentBytes)
	}
	entries(t, l, 2, 1, 4)
}

// TestFullDisk fills the disk. Entries are refused before anything has changed,
// everything else goes on for ever, and a cut makes room again.
func TestFullDisk(t *testing.T) {
	const segmentBytes = 16 << 10
	disk := waltest.NewDisk(1)
	disk.SetCapacity(6*segmentBytes + segmentBytes/2)
	opt := wal.Options{SegmentBytes: segmentBytes}
	l := open(t, disk, opt)
	next, warned := id.Index(1), false
	for {
		maintain(t, l)
		before := read(t, l).digest()
		err := l.Append([]wal.Op{{Group: 1, Hard: &wal.HardState{Term: 9}, Entries: run(next, 10, 1, 50)}})
		if errors.Is(err, wal.ErrFull) {
			if read(t, l).digest() != before {
				t.Fatal("a refused append has changed the log")
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		warned = l.Full()
		flushSync(t, l)
		next += 10
	}
	if !warned {
		t.Error("the last append that was taken came without Full")
	}
	if _, spares := l.Segments(); spares != 2 {
		t.Errorf("%d segments in reserve, want 2", spares)
	}
	used := disk.Used()
	for i := range 3000 { // some hundred bytes each: many segments
		put(t, l, wal.Op{Group: 1, Hard: &wal.HardState{Term: id.Term(10 + i)}, Mark: id.Index(i)},
			wal.Op{Group: 2, Meta: make([]byte, 100), Mark: 1})
		maintain(t, l)
	}
	if now := disk.Used(); now > used {
		t.Errorf("files grew from %d to %d bytes on a full disk", used, now)
	}
	if !l.Full() {
		t.Error("not full, though nothing was cut")
	}
	disk.PowerOff()
	l = open(t, disk, opt)
	if got := state(t, l, 1); got.Hard.Term != 3009 || got.Last.Index != next-1 {
		t.Errorf("after a power cut: %+v", got)
	}
	put(t, l, wal.Op{Group: 1, Cut: next - 1})
	for range 3 {
		maintain(t, l)
		put(t, l)
	}
	if l.Full() {
		t.Error("full, though everything was cut")
	}
	for range 30 {
		put(t, l, wal.Op{Group: 1, Entries: run(next, 10, 10, 50), Cut: next - 1})
		maintain(t, l)
		next += 10
	}
}

// roomyDisk tells how much room it has, and has more.
type roomyDisk struct {
	*waltest.Disk
	room uint64
}

func (d *roomyDisk) Room() (uint64, error) { return d.room, nil }

// TestNoSegmentIsBegunWithoutRoom: the log does not fill a disk to the last byte
// to learn that it is full.
func TestNoSegmentIsBegunWithoutRoom(t *testing.T) {
	disk := &roomyDisk{Disk: waltest.NewDisk(1)}
	l, err := wal.Open(disk, wal.Options{SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	used := disk.Used()
	maintain(t, l)
	if now := disk.Used(); now != used || !l.Full() {
		t.Errorf("without room: %d bytes were written, full: %v, want none and true", now-used, l.Full())
	}
	disk.room = 1 << 30
	maintain(t, l)
	if now := disk.Used(); now == used || l.Full() {
		t.Errorf("with room: %d bytes were written, full: %v, want some and false", now-used, l.Full())
	}
}

// TestFullAtWrite lets the disk be full when the log itself grows or syncs: that
// is not a failed disk, and what was appended is written once there is space.
func TestFullAtWrite(t *testing.T) {
	disk := waltest.NewDisk(1)
	opt := wal.Options{SegmentBytes: 4 << 10}
	l := open(t, disk, opt)
	disk.SetCapacity(disk.Used()) // no room to grow, and no spare was made
	large := run(1, 1, 1, 20<<10)
	if err := l.Append([]wal.Op{{Group: 1, Entries: large}}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := l.Flush(); !errors.Is(err, wal.ErrFull) {
			t.Fatalf("flush: got %v, want %v", err, wal.ErrFull)
		}
	}
	entries(t, l, 1, 1, 2)
	disk.SetCapacity(0)
	flushSync(t, l)
	disk.PowerOff()
	entries(t, open(t, disk, opt), 1, 1, 2)
}

// TestNoRoomToOpen checks what an operator reads on a disk that is full from
// the start.
func TestNoRoomToOpen(t *testing.T) {
	disk := waltest.NewDisk(1)
	disk.SetCapacity(10 << 10)
	if _, err := wal.Open(disk, wal.Options{SegmentBytes: 64 << 10}); !errors.Is(err, wal.ErrFull) {
		t.Errorf("got %v, want %v", err, wal.ErrFull)
	}
	if used := disk.Used(); used > 0 {
		t.Errorf("%d bytes are left behind", used)
	}
}

// TestOpenOnFullDisk lets the process die again and again on a full disk, each
// time right after it has opened the log: the reserve must not be used up.
func TestOpenOnFullDisk(t *testing.T) {
	const segmentBytes = 16 << 10
	disk := waltest.NewDisk(1)
	opt := wal.Options{SegmentBytes: segmentBytes}
	l := open(t, disk, opt)
	put(t, l, wal.Op{Group: 1, Entries: run(1, 200, 1, 50)})
	maintain(t, l)
	disk.SetCapacity(disk.Used())
	for range 20 {
		disk.Kill()
		l = open(t, disk, opt)
		put(t, l, wal.Op{Group: 1, Mark: 1})
	}
	entries(t, l, 1, 1, 201)
}
