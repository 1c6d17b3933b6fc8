package wal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// BenchmarkFloor is what the disk can do: write 128 bytes and sync, in a file
// that is full of zeros, with nothing around it.
func BenchmarkFloor(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "floor"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const size = 64 << 20
	if _, err := f.Write(make([]byte, size)); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	record := make([]byte, 128)
	fd := int(f.Fd())
	took := make([]time.Duration, 0, 1<<16)
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		if _, err := f.WriteAt(record, int64(i*len(record)%size)); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(fd); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	report(b, took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "syncs/s")
}

// BenchmarkAppend is the whole way: one loop, as a host has it, keeps n entries
// on their way to the disk, each of another group and in an Append of its own.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{100, 20_000} {
		for _, n := range []int{1, 64, 1024} {
			b.Run(fmt.Sprintf("bytes=%d/in-flight=%d", size, n), func(b *testing.B) { benchmarkAppend(b, size, n) })
		}
	}
}

func benchmarkAppend(b *testing.B, size, inFlight int) {
	fs, err := wal.DirFS(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	l, err := wal.Open(fs, wal.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for did := true; did; {
		if did, err = l.Maintain(); err != nil {
			b.Fatal(err)
		}
	}
	p := newPipeline(inFlight)
	w, stop := startWriter(l, wal.WriterConfig{Done: p.done})
	before := l.Sequence()
	data := make([]byte, size)
	next := make([]id.Index, inFlight)
	b.ResetTimer()
	for seq := uint64(1); seq <= uint64(b.N); seq++ {
		p.begin(seq)
		i := int(seq) % inFlight
		next[i]++
		op := wal.Op{Group: id.Group(i + 1), Entries: []wal.Entry{{Index: next[i], Term: 1, Data: data}}}
		if next[i]%16 == 0 {
			op.Cut = next[i] - 8
		}
		w.Append(seq, []wal.Op{op})
	}
	p.wait(uint64(b.N))
	b.StopTimer()
	seconds := b.Elapsed().Seconds()
	b.ReportMetric(float64(b.N)/seconds, "records/s")
	b.ReportMetric(float64(l.Sequence()-before)/seconds, "syncs/s")
	report(b, p.took)
	if err := stop(); err != nil {
		b.Fatal(err)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

// pipeline bounds how many appends are on their way and takes their times.
type pipeline struct {
	mu      sync.Mutex
	cond    *sync.Cond
	durable uint64
	started []time.Time // by number, modulo the bound
	took    []time.Duration
}

func newPipeline(n int) *pipeline {
	p := &pipeline{started: make([]time.Time, n)}
	p.cond = sync.NewCond(&p.mu)
	return p
}

// begin waits until seq may start.
func (p *pipeline) begin(seq uint64) {
	n := uint64(len(p.started))
	if seq > n {
		p.wait(seq - n)
	}
	p.started[seq%n] = time.Now()
}

func (p *pipeline) wait(seq uint64) {
	p.mu.Lock()
	for p.durable < seq {
		p.cond.Wait()
	}
	p.mu.Unlock()
}

func (p *pipeline) done(seq uint64) {
	now := time.Now()
	p.mu.Lock()
	for s := p.durable + 1; s <= seq; s++ {
		p.took = append(p.took, now.Sub(p.started[s%uint64(len(p.started))]))
	}
	p.durable = seq
	p.mu.Unlock()
	p.cond.Signal()
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
