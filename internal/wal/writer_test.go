package wal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
)

// durable counts what a Writer has reported.
type durable struct {
	mu   sync.Mutex
	cond *sync.Cond
	seq  uint64
}

func newDurable() *durable {
	d := &durable{}
	d.cond = sync.NewCond(&d.mu)
	return d
}

func (d *durable) done(seq uint64) {
	d.mu.Lock()
	d.seq = seq
	d.mu.Unlock()
	d.cond.Broadcast()
}

func (d *durable) wait(seq uint64) {
	d.mu.Lock()
	for d.seq < seq {
		d.cond.Wait()
	}
	d.mu.Unlock()
}

// startWriter runs a Writer until stop is called, which returns Run's error.
func startWriter(l *wal.Log, cfg wal.WriterConfig) (w *wal.Writer, stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	w = wal.NewWriter(l, cfg)
	result := make(chan error, 1)
	go func() { result <- w.Run(ctx) }()
	return w, func() error {
		cancel()
		return <-result
	}
}

// TestWriter appends from one goroutine while others read, on a real
// directory and on one in memory, and opens the log again.
func TestWriter(t *testing.T) {
	dir, err := wal.DirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, fs := range map[string]wal.FS{"directory": dir, "memory": waltest.NewDisk(1)} {
		t.Run(name, func(t *testing.T) {
			opt := wal.Options{SegmentBytes: 64 << 10, CacheBytes: 1}
			l, err := wal.Open(fs, opt)
			if err != nil {
				t.Fatal(err)
			}
			d := newDurable()
			w, stop := startWriter(l, wal.WriterConfig{Done: d.done})
			const n, groups = 2000, 3
			var readers sync.WaitGroup
			for g := range id.Group(groups) {
				readers.Go(func() { readBehind(t, l, g+1, n) })
			}
			for i := id.Index(1); i <= n; i++ {
				var ops []wal.Op
				for g := range id.Group(groups) {
					ops = append(ops, wal.Op{Group: g + 1, Entries: []wal.Entry{{Index: i, Term: 1, Data: fmt.Appendf(nil, "%d/%d", g+1, i)}}})
				}
				w.Append(uint64(i), ops)
				if i%100 == 0 {
					d.wait(uint64(i))
				}
			}
			readers.Wait()
			d.wait(n)
			if err := stop(); err != nil {
				t.Fatalf("run: %v", err)
			}
			want := read(t, l).digest()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if l, err = wal.Open(fs, opt); err != nil {
				t.Fatal(err)
			}
			if read(t, l).digest() != want {
				t.Error("the log holds something else after it was opened again")
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// readBehind reads the entries of a group as soon as they are there.
func readBehind(t *testing.T, l *wal.Log, g id.Group, n id.Index) {
	for at := id.Index(1); at <= n; {
		list, err := l.Entries(g, at, at+1, 1)
		if err != nil {
			continue // not there yet
		}
		if want := fmt.Sprintf("%d/%d", g, at); string(list[0].Data) != want {
			t.Errorf("entry %d of group %d: got %q, want %q", at, g, list[0].Data, want)
			return
		}
		at++
	}
}

// TestWriterFull fills the disk under a Writer in fake time. It is told once
// that the disk is full and once that it no longer is, and nothing is lost.
func TestWriterFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const segmentBytes = 8 << 10
		disk := waltest.NewDisk(1)
		l := open(t, disk, wal.Options{SegmentBytes: segmentBytes})
		var full []bool
		d := newDurable()
		w, stop := startWriter(l, wal.WriterConfig{Done: d.done, Full: func(f bool) { full = append(full, f) }})
		synctest.Wait() // segments are made
		disk.SetCapacity(disk.Used() + 100)
		seq := uint64(0)
		put := func(op wal.Op) {
			seq++
			w.Append(seq, []wal.Op{op})
			synctest.Wait()
		}
		next := id.Index(1)
		for d.seq == seq { // until an append waits for room
			put(wal.Op{Group: 1, Entries: run(next, 10, 1, 100)})
			next += 10
			if seq > 100 {
				t.Fatal("the disk is never full")
			}
		}
		put(wal.Op{Group: 2, Mark: 5}) // waits behind it
		if !slices.Equal(full, []bool{true}) {
			t.Errorf("told %v, want [true]", full)
		}
		disk.SetCapacity(0)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if d.seq != seq {
			t.Errorf("with space again, %d appends of %d are durable", d.seq, seq)
		}
		if !slices.Equal(full, []bool{true, false}) {
			t.Errorf("told %v, want [true false]", full)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if got := state(t, l, 1).Last.Index; got != next-1 || state(t, l, 2).Mark != 5 {
			t.Errorf("last entry is %d, want %d", got, next-1)
		}
	})
}

// TestWriterPoison checks that Run ends with the error after a failed sync, in
// either of its goroutines, and that nothing is reported durable.
func TestWriterPoison(t *testing.T) {
	for _, during := range []string{"batch", "maintenance"} {
		t.Run(during, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := waltest.NewDisk(1)
				l := open(t, disk, wal.Options{SegmentBytes: 8 << 10})
				d := newDurable()
				if during == "maintenance" {
					disk.FailSyncs(1) // of the first spare
				}
				w, stop := startWriter(l, wal.WriterConfig{Done: d.done})
				synctest.Wait()
				if during == "batch" {
					disk.FailSyncs(1)
				}
				w.Append(1, []wal.Op{{Group: 1, Mark: 1}})
				synctest.Wait()
				if d.seq != 0 {
					t.Error("reported durable after a failed sync")
				}
				if err := stop(); !errors.Is(err, syscall.EIO) {
					t.Errorf("run: got %v", err)
				}
			})
		})
	}
}

// TestWriterProbe checks that an append without ops is answered.
func TestWriterProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, waltest.NewDisk(1), wal.Options{SegmentBytes: 8 << 10})
		d := newDurable()
		w, stop := startWriter(l, wal.WriterConfig{Done: d.done})
		before := l.Sequence()
		w.Append(1, nil)
		synctest.Wait()
		if d.seq != 1 || l.Sequence() == before {
			t.Errorf("done up to %d, sequence %d after %d", d.seq, l.Sequence(), before)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}
