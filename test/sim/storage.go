package main

import (
	"errors"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
)

// realLog is what the simulation uses of wal.Log: the real code, over a disk
// that knows process death and power loss.
type realLog interface {
	consensus.LogReader
	Append([]wal.Op) error
	Flush() error
	Sync() error
	Maintain() (bool, error)
	Full() bool
	Sequence() uint64
	Found() uint64
	Changed() uint64
	Close() error
}

// storage is a host's disk with its log, and the shadow that says what must be
// on it. It syncs one batch at a time, as wal.Writer does.
type storage struct {
	h    *host
	disk *waltest.Disk
	log  realLog

	written  shadows // all that was appended
	durable  shadows // all that was synced
	unsynced []step  // the difference, oldest first
	flushed  int     // so many of them were handed to the kernel

	appended uint64 // Seq of the last Write that was appended
	syncing  bool
	sequence uint64 // of the log when it was last looked at

	slow      time.Duration     // added to every sync
	hungUntil time.Duration     // no sync ends before
	waiting   []consensus.Write // found no room in the log, in order
	full      bool              // last thing told to the machine
	stuck     bool              // the last batch met a full disk
}

// logOptions make a small log, so that a run sees segments end and come again
// and entries come from the disk.
var logOptions = wal.Options{SegmentBytes: 64 << 10, CacheBytes: 64 << 10, ID: 1}

func (s *storage) init(h *host) {
	s.h = h
	s.disk = waltest.NewDisk(h.w.rng.Uint64())
	s.durable = shadows{}
}

// open recovers the log and checks what it found. Whatever it reports counts as
// durable from here on: that is the promise of wal.Open.
func (s *storage) open() bool {
	w := s.h.w
	log, err := wal.Open(s.disk, logOptions)
	if !s.ok("open the log", err) {
		return false
	}
	got, err := read(log)
	if err == nil {
		err = checkRecovered(s.durable, s.unsynced, got)
	}
	if err != nil {
		w.fail("disk", "%s: recovery: %v", s.h.name, err)
	}
	if seq := log.Sequence(); seq < s.sequence {
		w.fail("disk", "%s: the log's sequence went from %d to %d", s.h.name, s.sequence, seq)
	}
	s.log, s.durable, s.written, s.unsynced, s.flushed = log, got, copyOf(got), nil, 0
	s.appended, s.syncing, s.sequence = 0, false, log.Sequence()
	s.waiting, s.full, s.stuck = nil, false, false
	return true
}

func copyOf(all shadows) shadows {
	c := shadows{}
	for g, s := range all {
		d := *s
		d.entries = append([]entry(nil), s.entries...)
		c[g] = &d
	}
	return c
}

// holds reports whether the log has a record of the group.
func (s *storage) holds(g id.Group) bool { return s.written[g] != nil }

// write appends, and sees to it that a sync comes.
func (s *storage) write(e consensus.Write) {
	s.waiting = append(s.waiting, e)
	s.admit()
	if !s.syncing {
		s.syncing = true
		s.h.later(s.h.w.between(time.Microsecond, 10*time.Microsecond), s.sync)
	}
}

// admit appends what waits, as far as there is room.
func (s *storage) admit() {
	w := s.h.w
	for len(s.waiting) > 0 {
		e := s.waiting[0]
		if e.Seq != s.appended+1 {
			w.fail("face", "%s: Write %d after %d", s.h.name, e.Seq, s.appended)
		}
		err := s.log.Append(e.Ops)
		if errors.Is(err, wal.ErrFull) {
			return
		}
		s.must("append", err)
		s.waiting, s.appended = s.waiting[1:], e.Seq
		for i := range e.Ops {
			w.checkOp(s.h, s.written[e.Ops[i].Group], &e.Ops[i])
			old := len(s.unsynced)
			s.unsynced = appendSteps(s.unsynced, &e.Ops[i])
			s.written.apply(s.unsynced[old:])
		}
	}
}

// sync hands everything to the kernel and waits for the disk. When within that
// time it becomes durable is the disk's business.
func (s *storage) sync() {
	w := s.h.w
	if s.h.paused { // the goroutine is frozen too
		s.h.later(time.Millisecond, s.sync)
		return
	}
	s.admit()
	target := s.appended
	err := s.log.Flush()
	if s.stuck = errors.Is(err, wal.ErrFull); s.stuck {
		s.again()
		return
	}
	if !s.ok("flush", err) {
		return
	}
	s.flushed = len(s.unsynced)
	early := w.chance(0.5) && s.hungUntil <= w.now
	if early && !s.synced() {
		return
	}
	took := s.slow + w.between(60*time.Microsecond, 300*time.Microsecond)
	if w.chance(0.002) {
		took += w.between(0, 20*time.Millisecond)
	}
	s.finish(took, target, early)
}

// again tries a full disk once more in a second, as wal.Writer does.
func (s *storage) again() {
	if s.watchSpace(); !s.h.up {
		return
	}
	s.h.later(time.Second, func() {
		_, err := s.log.Maintain()
		if s.ok("maintain", err) {
			s.sync()
		}
	})
}

func (s *storage) finish(wait time.Duration, target uint64, early bool) {
	s.h.later(wait, func() {
		w := s.h.w
		if more := s.hungUntil - w.now; more > 0 {
			s.finish(min(more, 50*time.Millisecond), target, early)
			return
		}
		if !early && !s.synced() {
			return
		}
		s.syncing = false
		s.h.post(consensus.Written{Seq: target})
		if s.watchSpace(); !s.h.up {
			return
		}
		switch {
		case len(s.waiting) > 0:
			s.syncing = true
			s.again()
			return
		case s.appended > target:
			s.syncing = true
			s.h.later(w.between(time.Microsecond, 10*time.Microsecond), s.sync)
			return
		}
		if w.chance(0.3) {
			_, err := s.log.Maintain()
			s.ok("maintain", err)
		}
	})
}

// synced makes everything durable that was flushed.
func (s *storage) synced() bool {
	if !s.ok("sync", s.log.Sync()) {
		return false
	}
	s.durable.apply(s.unsynced[:s.flushed])
	s.sequence = s.log.Sequence()
	for _, g := range s.h.w.groups {
		if slices.ContainsFunc(s.unsynced[:s.flushed], func(st step) bool { return st.group == g.id }) {
			g.checkBehind(s.h)
		}
	}
	s.unsynced, s.flushed = slices.Delete(s.unsynced, 0, s.flushed), 0
	return true
}

// ok reports whether the disk did what it was asked. It does not when it is
// where the process was to die.
func (s *storage) ok(act string, err error) bool {
	if errors.Is(err, waltest.ErrDead) {
		s.h.die(s.h.w.chance(0.5))
		return false
	}
	s.must(act, err)
	return true
}

func (s *storage) must(act string, err error) {
	if err != nil {
		s.h.w.fail("disk", "%s: %s: %v", s.h.name, act, err)
	}
}

// watchSpace tells the machine when the log has room, and when not. A full log
// is maintained until nothing is left to be done, as wal.Writer does.
func (s *storage) watchSpace() {
	for did := s.full; did; {
		var err error
		if did, err = s.log.Maintain(); !s.ok("maintain", err) {
			return
		}
	}
	if full := s.stuck || s.log.Full(); full != s.full {
		s.full = full
		s.h.post(consensus.DiskSpace{Full: full})
	}
}

// die is what a death does to the disk.
func (s *storage) die(process bool) {
	if process {
		s.disk.Kill()
	} else {
		s.disk.PowerOff()
	}
	s.log = nil
	s.syncing = false
}

// hang lets no sync end before d from now.
func (h *host) hang(d time.Duration) {
	h.w.tracef("%s: disk hangs for %v", h.name, d)
	h.store.hungUntil = max(h.store.hungUntil, h.w.now+d)
}

// forget takes one group out of a dead host's log, as a careless operator might.
func (s *storage) forget(g id.Group) {
	s.must("open", s.surgery(func(log realLog) error {
		return log.Append([]wal.Op{{Group: g, Drop: true}})
	}))
	delete(s.durable, g)
}

// surgery changes a dead host's log.
func (s *storage) surgery(do func(realLog) error) error {
	log, err := wal.Open(s.disk, logOptions)
	if err != nil {
		return err
	}
	if s.durable, err = read(log); err != nil {
		return err
	}
	s.unsynced = nil
	if err := do(log); err != nil {
		return err
	}
	if err := log.Flush(); err != nil {
		return err
	}
	if err := log.Sync(); err != nil {
		return err
	}
	return log.Close()
}

// replace puts a copy of a disk in place of a dead host's.
func (s *storage) replace(disk *waltest.Disk) {
	log, err := wal.Open(disk.Clone(1), logOptions) // opening writes
	s.must("open the copy", err)
	s.durable, err = read(log)
	s.must("read the copy", err)
	s.disk, s.sequence, s.unsynced = disk, 0, nil
}
