package wal_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/test/powercut"
)

var cycles = flag.Int("cycles", 6, "how often the power is cut")

// TestMain turns the test binary into the process whose power is cut.
func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		fmt.Fprintln(os.Stderr, runVictim(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// The victim's environment.
const (
	victimDir  = "WAL_POWERCUT_DIR"
	victimSeed = "WAL_POWERCUT_SEED"
)

var powercutOptions = wal.Options{SegmentBytes: 256 << 10, CacheBytes: 64 << 10}

const (
	powercutGroups = 5
	powercutOps    = 20_000 // more than the victim lives to write
)

// TestPowerCut cuts the power of a real file system under a real process that
// writes as fast as it can, in all three ways. What the process has reported as
// durable must be there afterwards, and of the rest a prefix.
func TestPowerCut(t *testing.T) {
	volume := powercut.NewVolume(t, 64)
	start := model{}
	total := uint64(0)
	for cycle := range *cycles {
		how := powercut.All[cycle%len(powercut.All)]
		reported := cutVictim(t, volume, uint64(cycle), how)
		volume.Restore()
		l := openDir(t, volume.Dir())
		got := read(t, l)
		at := findState(start, uint64(cycle), reported, got.digest())
		if at < 0 {
			t.Fatalf("cycle %d (%v): %d ops were reported durable, but the log holds another state", cycle, how, reported)
		}
		total += reported
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		start = got
	}
	t.Logf("%d power cuts, %d ops reported durable, all there", *cycles, total)
}

// findState returns how many of the victim's ops, at least from, lead from
// start to a state with that digest, or -1.
func findState(start model, seed, from, digest uint64) int {
	r := rand.New(rand.NewPCG(seed, 2))
	m := start
	for n := uint64(0); n <= powercutOps; n++ {
		if n >= from && m.digest() == digest {
			return int(n)
		}
		m.apply(randomOp(r, m, powercutGroups))
	}
	return -1
}

func openDir(t testing.TB, dir string) *wal.Log {
	t.Helper()
	fs, err := wal.DirFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, fs, powercutOptions)
}

// cutVictim lets a victim write for some time, cuts its power and returns how
// many ops it has reported.
func cutVictim(t *testing.T, volume *powercut.Volume, seed uint64, how powercut.How) uint64 {
	t.Helper()
	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), victimDir+"="+volume.Dir(), fmt.Sprintf("%s=%d", victimSeed, seed))
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	var reported atomic.Uint64
	var reader sync.WaitGroup
	enough := make(chan struct{})
	after := 1 + rand.New(rand.NewPCG(seed, 3)).Uint64N(3000)
	reader.Go(func() {
		var once sync.Once
		defer once.Do(func() { close(enough) })
		for b, in := make([]byte, 8), bufio.NewReader(out); ; {
			if _, err := io.ReadFull(in, b); err != nil {
				return
			}
			reported.Store(binary.LittleEndian.Uint64(b))
			if reported.Load() >= after {
				once.Do(func() { close(enough) })
			}
		}
	})
	select {
	case <-enough:
	case <-time.After(20 * time.Second):
	}
	volume.Cut(how)
	victim.Process.Kill()
	reader.Wait()
	victim.Wait()
	if reported.Load() == 0 {
		t.Fatalf("the victim with seed %d has reported nothing", seed)
	}
	return reported.Load()
}

// runVictim writes until its power is gone, and reports on standard output.
func runVictim(dir string) error {
	seed, err := strconv.ParseUint(os.Getenv(victimSeed), 10, 64)
	if err != nil {
		return err
	}
	fs, err := wal.DirFS(dir)
	if err != nil {
		return err
	}
	l, err := wal.Open(fs, powercutOptions)
	if err != nil {
		return err
	}
	room := make(chan struct{}, 1)
	var durable atomic.Uint64
	w := wal.NewWriter(l, wal.WriterConfig{Done: func(seq uint64) {
		os.Stdout.Write(binary.LittleEndian.AppendUint64(nil, seq))
		durable.Store(seq)
		select {
		case room <- struct{}{}:
		default:
		}
	}})
	stopped := make(chan error, 1)
	go func() { stopped <- w.Run(context.Background()) }()

	r := rand.New(rand.NewPCG(seed, 2))
	m := victimModel(l)
	for seq := uint64(1); seq <= powercutOps; seq++ {
		op := randomOp(r, m, powercutGroups)
		m.apply(op)
		w.Append(seq, []wal.Op{op})
		for seq-durable.Load() > 50 {
			select {
			case <-room:
			case err := <-stopped:
				return err
			}
		}
	}
	return errors.Join(errors.New("the power was not cut in time"), <-stopped)
}

// victimModel is read without a test.
func victimModel(l *wal.Log) model {
	m := make(model)
	for _, s := range l.Groups() {
		g := &modelGroup{state: s}
		if s.Start != s.Last {
			list, err := l.Entries(s.Group, s.Start.Index+1, s.Last.Index+1, 1<<40)
			if err != nil {
				panic(err)
			}
			g.entries = slices.Clone(list)
		}
		m[s.Group] = g
	}
	return m
}
