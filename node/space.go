package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tarbitrator/tarbitrator/internal/alarm"
)

// Room on the disk that is kept for what a host writes although it takes no
// more rows: a segment of the log, and for every replica the rest of a memtable
// and its table. The stores map their files into memory: to write to a page for
// which the disk has no room kills the process, so it must not come to that.
const (
	roomOfLog     = 64 << 20
	roomOfReplica = 32 << 20
	// roomEvery is how often the disk is asked: another program that fills it
	// at 1 GB/s gets through a fraction of the room in that time.
	roomEvery = 25 * time.Millisecond
)

// Less room than this is worth a word before it is too little: a part of the
// whole disk, or a multiple of what must stay free.
const (
	nearlyPart  = 20 // a twentieth: 5 %
	nearlyTimes = 4
)

// space tells the groups when to refuse writes: when the log says that it is
// full, and when the disk is nearly so.
type space struct {
	dir      string
	replicas func() int
	tell     func(full bool)
	log      *slog.Logger

	mu struct {
		sync.Mutex
		logFull, diskLow bool
		nearly           bool
	}
}

// logFull notes what the log says.
func (s *space) logFull(full bool) { s.note(func() { s.mu.logFull = full }) }

func (s *space) note(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.mu.logFull || s.mu.diskLow
	change()
	if full := s.mu.logFull || s.mu.diskLow; full != was {
		s.tell(full) // never waits
	}
}

// run watches the disk until ctx ends. A disk that can't be asked is taken for
// one with room: the log will say if it is not so.
func (s *space) run(ctx context.Context) error {
	ticker := time.NewTicker(roomEvery)
	defer ticker.Stop()
	low, nearly := false, false
	for {
		var fs unix.Statfs_t
		if err := unix.Statfs(s.dir, &fs); err == nil {
			was, free := low, fs.Bavail*uint64(fs.Bsize)
			low = tooLow(free, s.replicas(), was)
			nearly = nearlyLow(free, fs.Blocks*uint64(fs.Bsize), s.replicas(), nearly)
			s.note(func() { s.mu.diskLow, s.mu.nearly = low, nearly })
			if low != was {
				s.say(low, free)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// wanted is how much room this many replicas need, beside the metadata.
func wanted(replicas int) uint64 { return roomOfLog + roomOfReplica*uint64(replicas+1) }

// tooLow reports whether writes are to be refused. What was too low has to grow
// by a quarter before it is enough, so that a disk at the edge does not flap.
func tooLow(free uint64, replicas int, was bool) bool {
	if was {
		return free < wanted(replicas)*5/4
	}
	return free < wanted(replicas)
}

// nearlyLow reports whether an operator should hear of it, with the same slack.
func nearlyLow(free, size uint64, replicas int, was bool) bool {
	least := max(size/nearlyPart, nearlyTimes*wanted(replicas))
	if was {
		return free < least*5/4
	}
	return free < least
}

// findings is what is wrong with the disk of a host of this name.
func (s *space) findings(host string) []alarm.Finding {
	s.mu.Lock()
	full, nearly := s.mu.logFull || s.mu.diskLow, s.mu.nearly
	s.mu.Unlock()
	const next = "free space there or make the disk larger; it heals by itself"
	switch {
	case full:
		return []alarm.Finding{{Code: alarm.DiskFull, Object: host, What: "the disk of " + s.dir + " is full: this host takes no more rows", Next: next}}
	case nearly:
		return []alarm.Finding{{Code: alarm.DiskNearlyFull, Object: host, What: "the disk of " + s.dir + " is nearly full", Next: next}}
	}
	return nil
}

// roomForCopy says why there is no room for more of a copy of a replica. It ends
// before the disk is so full that this host would take no more rows: the copy's
// store wants as much for itself as the rest of a host.
func (s *space) roomForCopy() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		return nil //nolint:nilerror // see run
	}
	free, want := fs.Bavail*uint64(fs.Bsize), wanted(s.replicas())*2
	if free < want {
		return fmt.Errorf("disk nearly full: %s free in %s, %s wanted: free space there", mib(free), s.dir, mib(want))
	}
	return nil
}

func (s *space) say(low bool, free uint64) {
	if !low {
		s.log.Info("disk has room again: rows are taken", "data_dir", s.dir, "free", mib(free))
		return
	}
	s.log.Error("disk nearly full: this host takes no more rows, free space in the data directory",
		"data_dir", s.dir, "free", mib(free), "wanted", mib(wanted(s.replicas())*5/4))
}

func mib(bytes uint64) string { return fmt.Sprintf("%d MiB", bytes>>20) }
