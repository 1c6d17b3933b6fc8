package wal_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
)

func open(t testing.TB, fs wal.FS, opt wal.Options) *wal.Log {
	t.Helper()
	l, err := wal.Open(fs, opt)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return l
}

// put appends ops and makes them durable.
func put(t testing.TB, l *wal.Log, ops ...wal.Op) {
	t.Helper()
	if err := l.Append(ops); err != nil {
		t.Fatalf("append: %v", err)
	}
	flushSync(t, l)
}

func flushSync(t testing.TB, l *wal.Log) {
	t.Helper()
	if err := l.Flush(); err != nil {
		t.Fatalf("flush: %v", err)
	}
	if err := l.Sync(); err != nil {
		t.Fatalf("sync: %v", err)
	}
}

// maintain lets the log do everything that there is to do.
func maintain(t testing.TB, l *wal.Log) {
	t.Helper()
	for range 1000 {
		did, err := l.Maintain()
		if err != nil {
			t.Fatalf("maintain: %v", err)
		}
		if !did {
			return
		}
	}
	t.Fatal("maintain finds no end")
}

// run makes n entries from first on, each of size bytes.
func run(first id.Index, n int, term id.Term, size int) []wal.Entry {
	var list []wal.Entry
	for i := range id.Index(n) {
		list = append(list, wal.Entry{Index: first + i, Term: term, Data: slices.Repeat([]byte{byte(first + i)}, size)})
	}
	return list
}

func state(t testing.TB, l *wal.Log, g id.Group) wal.GroupState {
	t.Helper()
	for _, s := range l.Groups() {
		if s.Group == g {
			return s
		}
	}
	t.Fatalf("group %d is not in the log", g)
	return wal.GroupState{}
}

// TestOps checks what each op does, before and after the log is opened again.
func TestOps(t *testing.T) {
	hard := wal.HardState{Term: 7, Vote: 2, Commit: 5}
	tests := []struct {
		name        string
		ops         []wal.Op
		start, last wal.Position
		check       func(wal.GroupState) bool
	}{
		{"entries", []wal.Op{{Group: 1, Entries: run(1, 5, 1, 10)}}, wal.Position{}, wal.Position{Index: 5, Term: 1}, nil},
		{"two terms", []wal.Op{{Group: 1, Entries: append(run(1, 5, 1, 10), run(6, 2, 3, 10)...)}}, wal.Position{}, wal.Position{Index: 7, Term: 3}, nil},
		{"many in one op", []wal.Op{{Group: 1, Entries: run(1, 300, 1, 1000)}}, wal.Position{}, wal.Position{Index: 300, Term: 1}, nil},
		{"replace the end", []wal.Op{{Group: 1, Entries: run(1, 5, 1, 10)}, {Group: 1, Entries: run(3, 1, 2, 10)}}, wal.Position{}, wal.Position{Index: 3, Term: 2}, nil},
		{"replace all", []wal.Op{{Group: 1, Entries: run(1, 5, 1, 10)}, {Group: 1, Entries: run(1, 2, 1, 20)}}, wal.Position{}, wal.Position{Index: 2, Term: 1}, nil},
		{"cut", []wal.Op{{Group: 1, Entries: run(1, 5, 1, 10), Cut: 3}}, wal.Position{Index: 3, Term: 1}, wal.Position{Index: 5, Term: 1}, nil},
		{"cut all", []wal.Op{{Group: 1, Entries: run(1, 5, 1, 10)}, {Group: 1, Cut: 5}}, wal.Position{Index: 5, Term: 1}, wal.Position{Index: 5, Term: 1}, nil},
		{"cut below the start", []wal.Op{{Group: 1, Start: &wal.Position{Index: 9, Term: 2}, Cut: 4}}, wal.Position{Index: 9, Term: 2}, wal.Position{Index: 9, Term: 2}, nil},
		{"start", []wal.Op{{Group: 1, Entries: run(1, 5, 1, 10)}, {Group: 1, Start: &wal.Position{Index: 100, Term: 4}, Entries: run(101, 2, 4, 10)}}, wal.Position{Index: 100, Term: 4}, wal.Position{Index: 102, Term: 4}, nil},
		{"start anew below", []wal.Op{{Group: 1, Start: &wal.Position{Index: 100, Term: 4}}, {Group: 1, Start: &wal.Position{Index: 2, Term: 1}}}, wal.Position{Index: 2, Term: 1}, wal.Position{Index: 2, Term: 1}, nil},
		{"hard, mark, meta", []wal.Op{{Group: 1, Hard: &hard, Mark: 4, Meta: []byte("m"), Entries: run(1, 5, 7, 1)}}, wal.Position{}, wal.Position{Index: 5, Term: 7},
			func(s wal.GroupState) bool { return s.Hard == hard && s.Mark == 4 && string(s.Meta) == "m" }},
		{"drop and begin again", []wal.Op{{Group: 1, Hard: &hard, Entries: run(1, 5, 1, 10)}, {Group: 1, Drop: true, Mark: 3}}, wal.Position{}, wal.Position{},
			func(s wal.GroupState) bool { return s.Hard == wal.HardState{} && s.Mark == 3 }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			disk := waltest.NewDisk(1)
			opt := wal.Options{SegmentBytes: 16 << 10}
			l := open(t, disk, opt)
			want := model{}
			for _, op := range test.ops {
				if err := l.Append([]wal.Op{op}); err != nil {
					t.Fatal(err)
				}
				want.apply(op)
			}
			for _, when := range []string{"at once", "after it was opened again"} {
				s := state(t, l, 1)
				if s.Start != test.start || s.Last != test.last {
					t.Errorf("%s: log of %v to %v, want %v to %v", when, s.Start, s.Last, test.start, test.last)
				}
				if test.check != nil && !test.check(s) {
					t.Errorf("%s: state %+v", when, s)
				}
				if read(t, l).digest() != want.digest() {
					t.Errorf("%s: the entries are not those that were appended", when)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				l = open(t, disk, opt)
			}
		})
	}
}

func TestDrop(t *testing.T) {
	disk := waltest.NewDisk(1)
	l := open(t, disk, wal.Options{SegmentBytes: 8 << 10})
	put(t, l, wal.Op{Group: 1, Entries: run(1, 5, 1, 10)}, wal.Op{Group: 2, Mark: 1})
	put(t, l, wal.Op{Group: 1, Drop: true}, wal.Op{Group: 3, Drop: true})
	for range 2 {
		if got := l.Groups(); len(got) != 1 || got[0].Group != 2 {
			t.Errorf("got groups %v, want only group 2", got)
		}
		if _, err := l.Entries(1, 1, 2, 1); !errors.Is(err, wal.ErrNoGroup) {
			t.Errorf("entries of a dropped group: got %v, want %v", err, wal.ErrNoGroup)
		}
		disk.Kill()
		l = open(t, disk, wal.Options{SegmentBytes: 8 << 10})
	}
}

func TestEntriesBounds(t *testing.T) {
	l := open(t, waltest.NewDisk(1), wal.Options{SegmentBytes: 16 << 10})
	put(t, l, wal.Op{Group: 1, Entries: run(1, 10, 1, 100), Cut: 3})
	tests := []struct {
		lo, hi id.Index
		max    uint64
		want   int
		err    error
	}{
		{4, 11, math.MaxUint64, 7, nil},
		{4, 11, 0, 1, nil},
		{4, 11, 100, 1, nil},
		{4, 11, 299, 2, nil},
		{4, 11, 300, 3, nil},
		{5, 7, 1000, 2, nil},
		{3, 5, 1000, 0, wal.ErrCut},
		{4, 12, 1000, 0, wal.ErrBeyond},
		{7, 7, 1000, 0, nil},
	}
	for _, test := range tests {
		got, err := l.Entries(1, test.lo, test.hi, test.max)
		if len(got) != test.want || !errors.Is(err, test.err) {
			t.Errorf("entries %d to %d in %d bytes: got %d, %v; want %d, %v", test.lo, test.hi-1, test.max, len(got), err, test.want, test.err)
		}
	}
	for index, want := range map[id.Index]error{2: wal.ErrCut, 3: nil, 10: nil, 11: wal.ErrBeyond} {
		if _, err := l.Term(1, index); !errors.Is(err, want) {
			t.Errorf("term of entry %d: got %v, want %v", index, err, want)
		}
	}
}

// TestBrokenPromise checks that an op that would make a hole never gets in.
func TestBrokenPromise(t *testing.T) {
	for name, op := range map[string]wal.Op{
		"no group":           {Mark: 1},
		"gap before entries": {Group: 1, Entries: run(7, 1, 1, 1)},
		"gap within entries": {Group: 1, Entries: []wal.Entry{{Index: 6, Term: 1}, {Index: 8, Term: 1}}},
		"entries below cut":  {Group: 1, Entries: run(2, 1, 1, 1)},
		"cut behind the end": {Group: 1, Cut: 6},
		"large meta":         {Group: 1, Meta: make([]byte, wal.MaxMeta+1)},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, waltest.NewDisk(1), wal.Options{SegmentBytes: 8 << 10})
			put(t, l, wal.Op{Group: 1, Entries: run(1, 5, 1, 1), Cut: 2})
			before := read(t, l).digest()
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
				if read(t, l).digest() != before {
					t.Error("it has changed the log")
				}
			}()
			l.Append([]wal.Op{op})
		})
	}
}

// TestPoison checks that after a failed sync nothing is ever promised again,
// and that the next process makes what it reads durable on other sectors.
func TestPoison(t *testing.T) {
	disk := waltest.NewDisk(1)
	opt := wal.Options{SegmentBytes: 8 << 10}
	l := open(t, disk, opt)
	put(t, l, wal.Op{Group: 1, Entries: run(1, 5, 1, 10)})
	if err := l.Append([]wal.Op{{Group: 1, Entries: run(6, 5, 1, 10)}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	disk.FailSyncs(1)
	sequence := l.Sequence()
	if err := l.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("failed sync: got %v", err)
	}
	_, readErr := l.Entries(1, 1, 2, 1)
	_, maintainErr := l.Maintain()
	for name, err := range map[string]error{
		"append": l.Append(nil), "flush": l.Flush(), "sync": l.Sync(), "entries": readErr, "maintain": maintainErr,
	} {
		if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "must stop") {
			t.Errorf("%s after a failed sync: got %v", name, err)
		}
	}
	if got := l.Sequence(); got != sequence {
		t.Errorf("sequence went from %d to %d without a sync", sequence, got)
	}
	disk.Kill()
	l = open(t, disk, opt) // sees entries 6 to 10 in the page cache only
	last := state(t, l, 1).Last
	disk.PowerOff()
	l = open(t, disk, opt)
	if got := state(t, l, 1).Last; got != last {
		t.Errorf("the log was opened with last entry %d, and after a power cut it is %d", last.Index, got.Index)
	}
}

func TestLock(t *testing.T) {
	fs, err := wal.DirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, fs, wal.Options{SegmentBytes: 8 << 10})
	if _, err := wal.Open(fs, wal.Options{}); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("second open: got %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, fs, wal.Options{SegmentBytes: 8 << 10}).Close(); err != nil {
		t.Fatal(err)
	}
}

// TestProbe checks that a batch without ops is written and synced.
func TestProbe(t *testing.T) {
	disk := waltest.NewDisk(1)
	l := open(t, disk, wal.Options{SegmentBytes: 8 << 10})
	for range 500 { // more than fit in a segment
		before, operations := l.Sequence(), disk.Operations()
		put(t, l)
		if l.Sequence() != before+1 || disk.Operations() < operations+2 {
			t.Fatalf("after an empty batch: sequence %d to %d, %d operations", before, l.Sequence(), disk.Operations()-operations)
		}
		maintain(t, l)
	}
	operations := disk.Operations()
	flushSync(t, l)
	if got := disk.Operations(); got != operations {
		t.Errorf("a flush and sync of nothing did %d operations", got-operations)
	}
}
