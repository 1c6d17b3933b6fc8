package wal_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
)

// durable counts what a Writer has reported.
type durable struct {
	mu   sync.Mutex
	cond *sync.Cond
	seq  uint64
	full []bool
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
