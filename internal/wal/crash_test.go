package wal_test

import (
	"errors"
	"flag"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
)

var (
	firstSeed = flag.Uint64("wal.seed", 1, "first seed of the crash test")
	seeds     = flag.Uint64("wal.seeds", 300, "how many seeds")
)

// TestCrash lets the process die, or the power fail, at any operation of the
// disk, many times over, also while the log is being opened; syncs fail and the
// disk fills up in between. What was synced must be there, and the rest must be
// a prefix of what was appended.
func TestCrash(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		c := newCrashRun(t, seed)
		for range 6 {
			c.live()
			c.die()
		}
		if t.Failed() {
			t.Fatalf("replay with: go test ./internal/wal -run TestCrash -wal.seed=%d -wal.seeds=1", seed)
		}
	}
}

type crashRun struct {
	t      *testing.T
	r      *rand.Rand
	disk   *waltest.Disk
	opt    wal.Options
	log    *wal.Log
	model  model
	states []uint64 // digests after each op since the last one that was open
	synced int      // states[synced] is durable, and all before
	seq    uint64   // the highest that Sequence has shown
}

func newCrashRun(t *testing.T, seed uint64) *crashRun {
	r := rand.New(rand.NewPCG(seed, 1))
	c := &crashRun{t: t, r: r, disk: waltest.NewDisk(seed), model: model{}}
	c.opt = wal.Options{SegmentBytes: 4096 << r.IntN(3), CacheBytes: 1 + r.IntN(1<<20), ID: seed}
	c.states = []uint64{c.model.digest()}
	c.open()
	return c
}

// open opens the log, perhaps dying in it a few times, and compares it.
func (c *crashRun) open() {
	c.t.Helper()
	for {
		if c.r.IntN(3) == 0 {
			c.disk.DieAfter(1 + c.r.IntN(30))
		}
		l, err := wal.Open(c.disk, c.opt)
		if err == nil {
			c.log = l
			break
		}
		switch {
		case errors.Is(err, wal.ErrFull):
			c.disk.SetCapacity(0)
		case !c.disk.Dead() && !errors.Is(err, syscall.EIO):
			c.t.Fatalf("open: %v", err)
		}
		c.revive()
	}
	c.disk.DieAfter(0)
	got := read(c.t, c.log)
	digest := got.digest()
	at := -1
	for i := c.synced; i < len(c.states); i++ {
		if c.states[i] == digest {
			at = i
		}
	}
	if at < 0 {
		c.t.Fatalf("log holds none of the states %d to %d", c.synced, len(c.states)-1)
	}
	if now := c.log.Sequence(); now <= c.seq {
		c.t.Fatalf("sequence went from %d to %d", c.seq, now)
	}
	c.model, c.states, c.synced = got, []uint64{digest}, 0
	c.seq = c.log.Sequence()
}

func (c *crashRun) revive() {
	c.disk.FailSyncs(0)
	if c.r.IntN(2) == 0 {
		c.disk.Kill()
	} else {
		c.disk.PowerOff()
	}
}

func (c *crashRun) die() {
	c.t.Helper()
	c.revive()
	c.open()
}

// live appends, flushes, syncs and maintains until the process dies.
func (c *crashRun) live() {
	c.t.Helper()
	groups := 1 + c.r.IntN(8)
	c.disk.DieAfter(1 + c.r.IntN(400))
	flushed := 0
	for range 300 {
		var err error
		if c.r.IntN(1000) == 0 {
			c.disk.FailSyncs(1)
		}
		if c.r.IntN(100) == 0 {
			c.disk.SetCapacity(c.disk.Used() + c.r.Int64N(4*c.opt.SegmentBytes))
		}
		switch c.r.IntN(10) {
		default:
			op := randomOp(c.r, c.model, groups)
			if err = c.log.Append([]wal.Op{op}); err == nil {
				c.model.apply(op)
				c.states = append(c.states, c.model.digest())
			}
		case 0, 1:
			if err = c.log.Flush(); err == nil {
				flushed = len(c.states) - 1
			}
		case 2, 3:
			if err = c.log.Sync(); err == nil {
				c.synced = max(c.synced, flushed)
				c.seq = max(c.seq, c.log.Sequence())
			}
		case 4:
			_, err = c.log.Maintain()
		case 5:
			if c.r.IntN(20) == 0 && !c.disk.Dead() {
				if got, want := read(c.t, c.log).digest(), c.model.digest(); got != want {
					if _, err := c.log.Maintain(); !errors.Is(err, waltest.ErrDead) {
						c.t.Fatal("log and model differ")
					}
				}
			}
		}
		if errors.Is(err, wal.ErrFull) {
			if c.r.IntN(30) == 0 {
				c.disk.SetCapacity(0)
			}
			continue
		}
		if errors.Is(err, syscall.EIO) {
			return // poisoned: the process stops
		}
		if err != nil {
			if !errors.Is(err, waltest.ErrDead) {
				c.t.Fatalf("disk alive, but: %v", err)
			}
			return
		}
	}
}
