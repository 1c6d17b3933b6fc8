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

// BenchmarkAppend is the whole way: each of n producers appends an entry of
// its own group and waits until it is durable.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{100, 20_000} {
		for _, n := range []int{1, 64, 1024} {
			b.Run(fmt.Sprintf("bytes=%d/producers=%d", size, n), func(b *testing.B) { benchmarkAppend(b, size, n) })
		}
	}
}

func benchmarkAppend(b *testing.B, size, producers int) {
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
	p := newProducers(producers)
	w, stop := startWriter(l, wal.WriterConfig{Done: p.done})
	p.writer = w
	before := l.Sequence()
	data := make([]byte, size)
	each := b.N/producers + 1
	b.ResetTimer()
	var all sync.WaitGroup
	for i := range producers {
		all.Go(func() { p.produce(i, each, data) })
	}
	all.Wait()
	b.StopTimer()
	seconds := b.Elapsed().Seconds()
	b.ReportMetric(float64(each*producers)/seconds, "records/s")
	b.ReportMetric(float64(l.Sequence()-before)/seconds, "syncs/s")
	report(b, slices.Concat(p.took...))
	if err := stop(); err != nil {
		b.Fatal(err)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

// producers share a Writer as the loop of a host does: one order of numbers.
type producers struct {
	writer *wal.Writer
	took   [][]time.Duration
	ready  []chan struct{}

	mu      sync.Mutex
	seq     uint64
	waiting []uint64 // number that each waits for; 0: none
}

func newProducers(n int) *producers {
	p := &producers{took: make([][]time.Duration, n), waiting: make([]uint64, n)}
	for range n {
		p.ready = append(p.ready, make(chan struct{}, 1))
	}
	return p
}

func (p *producers) done(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, s := range p.waiting {
		if s != 0 && s <= seq {
			p.waiting[i] = 0
			p.ready[i] <- struct{}{}
		}
	}
}

func (p *producers) produce(i, n int, data []byte) {
	op := wal.Op{Group: id.Group(i + 1), Entries: []wal.Entry{{Term: 1, Data: data}}}
	ops := []wal.Op{op}
	for index := id.Index(1); index <= id.Index(n); index++ {
		ops[0].Entries[0].Index = index
		ops[0].Cut = 0
		if index%1000 == 0 {
			ops[0].Cut = index - 100
		}
		start := time.Now()
		p.mu.Lock()
		p.seq++
		p.waiting[i] = p.seq
		p.writer.Append(p.seq, ops)
		p.mu.Unlock()
		<-p.ready[i]
		p.took[i] = append(p.took[i], time.Since(start))
	}
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
