// Command votebench compares stores for the arbitrator's votes: bbolt, and the
// log of package wal with one slot per record, beside a bare write and sync as
// the floor. docs/decisions/0004-vote-store.md quotes it.
//
//	cd tools/votebench && go run . [-dir DIR] [-for 2s]
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"go.etcd.io/bbolt"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

const (
	recordBytes = 30
	records     = 16000 // 1,000 clusters of 16 groups
)

// store changes n records, from first on, and makes them durable.
type store struct {
	name  string
	write func(first, n int)
	close func()
}

func main() {
	dir := flag.String("dir", ".", "where to write")
	length := flag.Duration("for", 2*time.Second, "length of each run")
	flag.Parse()
	fmt.Printf("%-7s %8s %10s %10s %12s %12s %12s\n", "", "records", "p50 us", "p99 us", "CPU us/batch", "records/s", "KiB on disk")
	for _, open := range []func(dir string) store{bare, bolt, log2} {
		for _, n := range []int{1, 16, 256} {
			tmp, err := os.MkdirTemp(*dir, "votebench")
			must(err)
			s := open(tmp)
			for first := 0; first < records; first += 1000 {
				s.write(first, 1000)
			}
			run(s, n, *length, tmp)
			s.close()
			must(os.RemoveAll(tmp))
		}
	}
}

func run(s store, n int, length time.Duration, dir string) {
	var took []time.Duration
	used, end := cpuTime(), time.Now().Add(length)
	for i := 0; time.Now().Before(end); i++ {
		at := time.Now()
		s.write(i*7919%(records-n), n)
		took = append(took, time.Since(at))
	}
	used = cpuTime() - used
	slices.Sort(took)
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	fmt.Printf("%-7s %8d %10.0f %10.0f %12.1f %12.0f %12d\n", s.name, n, us(took[len(took)/2]), us(took[len(took)*99/100]),
		us(used)/float64(len(took)), float64(n*len(took))/length.Seconds(), size(dir)>>10)
}

func size(dir string) (total int64) {
	files, err := os.ReadDir(dir)
	must(err)
	for _, f := range files {
		info, err := f.Info()
		must(err)
		total += info.Size()
	}
	return total
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &r))
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func record(i int) []byte {
	b := make([]byte, recordBytes)
	binary.LittleEndian.PutUint64(b, uint64(i))
	return b
}

// bare overwrites a file of zeros in turn: what any store needs at least.
func bare(dir string) store {
	const bytes = 16 << 20
	f, err := os.OpenFile(filepath.Join(dir, "bare"), os.O_RDWR|os.O_CREATE, 0o600)
	must(err)
	_, err = f.WriteAt(make([]byte, bytes), 0)
	must(err)
	must(f.Sync())
	off := int64(0)
	return store{"bare", func(_, n int) {
		buf := make([]byte, n*recordBytes)
		if off+int64(len(buf)) > bytes {
			off = 0
		}
		_, err := f.WriteAt(buf, off)
		must(err)
		off += int64(len(buf))
		must(syscall.Fdatasync(int(f.Fd())))
	}, func() { f.Close() }}
}

func bolt(dir string) store {
	db, err := bbolt.Open(filepath.Join(dir, "votes.db"), 0o600, nil)
	must(err)
	bucket := []byte("votes")
	return store{"bbolt", func(first, n int) {
		must(db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(bucket)
			if err != nil {
				return err
			}
			for i := first; i < first+n; i++ {
				if err := b.Put(record(i)[:8], record(i)); err != nil {
					return err
				}
			}
			return nil
		}))
	}, func() { must(db.Close()) }}
}

func log2(dir string) store {
	fs, err := wal.DirFS(dir)
	must(err)
	l, err := wal.Open(fs, wal.Options{SegmentBytes: 4 << 20, CacheBytes: 4 << 10})
	must(err)
	return store{"wal", func(first, n int) {
		ops := make([]wal.Op, n)
		for i := range ops {
			ops[i] = wal.Op{Group: id.Group(first + i + 1), Meta: record(first + i)}
		}
		must(l.Append(ops))
		must(l.Flush())
		must(l.Sync())
		for did := true; did; { // a Writer does this beside
			did, err = l.Maintain()
			must(err)
		}
	}, func() { must(l.Close()) }}
}
