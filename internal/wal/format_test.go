package wal_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
)

var update = flag.Bool("update", false, "write the golden files again")

// golden makes a log with a record of every kind: entries in an older segment,
// entries that were carried, and a change with all parts.
func golden(t testing.TB) *waltest.Disk {
	disk := waltest.NewDisk(1)
	opt := wal.Options{SegmentBytes: 4 << 10, ID: 0x1122334455667788}
	l := open(t, disk, opt)
	put(t, l,
		wal.Op{Group: 1, Start: &wal.Position{Index: 1, Term: 1}, Meta: []byte("mnode"), Entries: run(2, 2, 1, 500)},
		wal.Op{Group: 7, Hard: &wal.HardState{Term: 3, Vote: 2, Commit: 1}})
	put(t, l)
	if err := l.Append([]wal.Op{{Group: 7, Entries: append(run(1, 1, 2, 3), run(2, 1, 3, 4)...)}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(); err != nil { // and no sync: these are carried
		t.Fatal(err)
	}
	disk.Kill()
	l = open(t, disk, opt)
	put(t, l, wal.Op{
		Group: 7, Drop: true, Start: &wal.Position{Index: 8, Term: 3}, Hard: &wal.HardState{Term: 4, Vote: 1, Commit: 9},
		Meta: []byte("shard"), Entries: run(9, 3, 4, 5), Mark: 9, Cut: 10,
	})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return disk
}

// TestGolden compares what the log writes with what version 1 has always
// written, and reads that.
func TestGolden(t *testing.T) {
	disk := golden(t)
	files, err := disk.List()
	if err != nil {
		t.Fatal(err)
	}
	old := waltest.NewDisk(2)
	for _, f := range files {
		path := filepath.Join("testdata", f.Name)
		if *update {
			if err := os.WriteFile(path, disk.Content(f.Name), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(disk.Content(f.Name), want) {
			t.Errorf("%s: the log is written in another way than before; that needs a new version", f.Name)
		}
		load(t, old, f.Name, want)
	}
	l := open(t, old, wal.Options{SegmentBytes: 4 << 10})
	if got, want := read(t, l).digest(), read(t, open(t, disk, wal.Options{SegmentBytes: 4 << 10})).digest(); got != want {
		t.Errorf("the golden files are read as %v", l.Groups())
	}
	if got := state(t, l, 7); got.Start.Index != 10 || got.Last.Index != 11 || string(got.Meta) != "shard" {
		t.Errorf("group 7: got %+v", got)
	}
}

func load(t testing.TB, disk *waltest.Disk, name string, content []byte) {
	t.Helper()
	f, err := disk.Create(name)
	if err == nil && len(content) > 0 {
		_, err = f.WriteAt(content, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzOpen changes the newest of the golden segments at will, with right
// checksums or wrong ones. Open refuses, or everything that the log then shows
// can be read, also after it was opened once more.
func FuzzOpen(f *testing.F) {
	disk := golden(f)
	files, err := disk.List()
	if err != nil {
		f.Fatal(err)
	}
	first, newest := files[0].Name, files[len(files)-1].Name
	f.Add(disk.Content(newest), true)
	f.Add(disk.Content(newest)[:1000], false)
	f.Fuzz(func(t *testing.T, segment []byte, reseal bool) {
		if reseal {
			wal.Reseal(segment)
		}
		d := waltest.NewDisk(1)
		load(t, d, first, disk.Content(first))
		load(t, d, newest, segment)
		opt := wal.Options{SegmentBytes: 4 << 10}
		l, err := wal.Open(d, opt)
		if err != nil {
			return
		}
		sum := readSome(t, l).digest()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if readSome(t, open(t, d, opt)).digest() != sum {
			t.Error("the log shows something else when it is opened again")
		}
	})
}

// readSome is read for logs whose terms and lengths may be anything.
func readSome(t testing.TB, l *wal.Log) model {
	m := make(model)
	for _, s := range l.Groups() {
		g := &modelGroup{state: s}
		if s.Start != s.Last {
			list, err := l.Entries(s.Group, s.Start.Index+1, s.Last.Index+1, 1<<20)
			if err != nil {
				t.Fatalf("group %d of %v to %v: %v", s.Group, s.Start, s.Last, err)
			}
			g.entries = list
		}
		m[s.Group] = g
		if _, err := l.Term(s.Group, max(s.Last.Index, id.Index(0))); err != nil {
			t.Fatalf("term of the last entry of group %d: %v", s.Group, err)
		}
	}
	return m
}
