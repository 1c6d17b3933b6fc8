package wal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Open reads the log in fs, or makes a new one there, and returns it once
// everything in it is durable.
//
// A torn end is cut off, but only where nothing that was acknowledged can
// have been: each batch says up to which batch everything was durable when it
// was written, so a bad record with such a batch behind it, or in an older
// segment, is damage. Open then refuses with a DamageError.
//
// What a killed process has written is in the page cache, and need not be on
// the disk. To sync the same file again proves nothing: after a sync that
// failed, the kernel takes the pages for clean, and says yes. So everything
// that was not known to be durable is copied to a fresh segment and synced
// there before it counts.
func Open(fs FS, opt Options) (*Log, error) {
	opt = opt.withDefaults()
	if opt.SegmentBytes < minSegmentBytes || opt.SegmentBytes%recordAlign != 0 {
		return nil, fmt.Errorf("segments of %d bytes: at least %d, and a multiple of %d", opt.SegmentBytes, minSegmentBytes, recordAlign)
	}
	lock, err := fs.Lock()
	if err != nil {
		return nil, err
	}
	l := &Log{fs: fs, opt: opt, lock: lock, id: opt.ID}
	l.mu.groups = make(map[id.Group]*group)
	r := recovery{Log: l}
	if err := r.run(); err != nil {
		return nil, errors.Join(err, r.closeFiles())
	}
	return l, nil
}

// recovery is a Log that is being opened. Nobody else knows it yet, so it does
// without the lock.
type recovery struct {
	*Log
	rest   []*segment  // not part of the log, by number
	newest *segment    // nil: there is no log yet
	point  *checkpoint // of newest
	sure   int64       // newest is known to be durable up to here
	free   [][]byte    // buffers of scanners that are done
}

// scan returns a scanner of s; done takes it back.
func (r *recovery) scan(s *segment, limit int64) *scanner {
	sc := newScanner(s, limit)
	if n := len(r.free); n > 0 {
		sc.buf, r.free = r.free[n-1][:0], r.free[:n-1]
	}
	return sc
}

func (r *recovery) done(sc *scanner) { r.free = append(r.free, sc.buf) }

func (r *recovery) run() error {
	segments, err := r.openSegments()
	if err != nil {
		return err
	}
	if err := r.findNewest(segments); err != nil {
		return err
	}
	seq := uint64(1)
	if r.newest != nil {
		if err := r.loadGroups(); err != nil {
			return err
		}
		if seq, err = r.replay(); err != nil {
			return err
		}
		r.found = seq - 2
	}
	r.mu.tail.filled, r.mu.tail.changed = r.found, r.found
	if err := r.collectSpares(); err != nil {
		return err
	}
	if err := r.goOn(seq); err != nil {
		return err
	}
	return r.confirm()
}

// openSegments opens every segment, by number, and removes what a crash has
// left half made.
func (r *recovery) openSegments() ([]*segment, error) {
	files, err := r.fs.List()
	if err != nil {
		return nil, fmt.Errorf("list the log directory: %w", err)
	}
	for _, f := range files {
		if f.Name == makingName {
			if err := r.fs.Remove(f.Name); err != nil {
				return nil, fmt.Errorf("remove an unfinished segment: %w", err)
			}
		}
		number, ok := parseName(f.Name)
		if !ok {
			if strings.HasSuffix(f.Name, SegmentSuffix) {
				return nil, fmt.Errorf("%s is not called like a segment: move it away if it does not belong to the log", r.fs.Path(f.Name))
			}
			continue
		}
		file, err := r.fs.Open(f.Name)
		if err != nil {
			return nil, fmt.Errorf("open segment: %w", err)
		}
		r.rest = append(r.rest, &segment{number: number, file: file, size: f.Size})
	}
	var own []*segment
	for i, s := range r.rest {
		logID, number, err := r.readHeader(s)
		if err != nil {
			return nil, err
		}
		if i > 0 && logID != r.id {
			return nil, fmt.Errorf("segments %s and %s belong to different logs: move the one that was put here by mistake away",
				r.fs.Path(r.rest[0].name()), r.fs.Path(s.name()))
		}
		r.id = logID
		s.salt = newSalt(logID, s.number)
		r.mu.pool.next = max(r.mu.pool.next, s.number+1)
		if number == s.number {
			own = append(own, s) // else: was about to be used again
		}
	}
	return own, nil
}

func (r *recovery) readHeader(s *segment) (logID, number uint64, err error) {
	b := make([]byte, headerBytes)
	if _, err := s.file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, fmt.Errorf("read the header of segment %s: %w", r.fs.Path(s.name()), err)
	}
	logID, number, err = parseHeader(b)
	if errors.Is(err, errHeader) {
		return 0, 0, &DamageError{Path: r.fs.Path(s.name()), Reason: err.Error()}
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read segment %s: %w", r.fs.Path(s.name()), err)
	}
	return logID, number, nil
}

// findNewest finds the last segment with a whole checkpoint. One behind it was
// begun and not synced, or never begun.
func (r *recovery) findNewest(segments []*segment) error {
	for i := len(segments) - 1; i >= 0; i-- {
		s := segments[i]
		sc := r.scan(s, s.size)
		point, err := readCheckpoint(sc)
		switch {
		case err == nil:
			r.newest, r.point = s, point
			r.removeRest(s)
		case sc.err == nil:
			err = r.checkBegun(sc, segments[:i], err)
		}
		r.done(sc)
		if err != nil || r.newest != nil {
			return err
		}
	}
	return nil
}

// checkBegun tells a segment that was never used, or begun and not synced, from
// one with a damaged checkpoint. sc has stopped in it for a reason; below are
// the segments before it.
func (r *recovery) checkBegun(sc *scanner, below []*segment, reason error) error {
	if n := len(below); n > 0 {
		// Only the first without a checkpoint can have been in use.
		before := r.scan(below[n-1], below[n-1].size)
		_, err := readCheckpoint(before)
		r.done(before)
		if err != nil && before.err == nil {
			return nil
		}
	}
	at := sc.off
	_, found := sc.findCommit(func(m commitMark) bool { return m.durable >= m.first })
	if sc.err != nil {
		return sc.err
	}
	if found {
		return &DamageError{Path: r.fs.Path(sc.seg.name()), Offset: at, Reason: reason.Error()}
	}
	return nil
}

func (r *recovery) removeRest(s *segment) {
	r.rest = slices.DeleteFunc(r.rest, func(other *segment) bool { return other == s })
}

// loadGroups builds the groups as the checkpoint says, with the entries in
// older segments.
func (r *recovery) loadGroups() error {
	locals := map[uint64]*localIndex{r.newest.number: &r.point.carried}
	segments := map[uint64]*segment{r.newest.number: r.newest}
	for _, want := range r.point.segments {
		s, local, err := r.loadOlder(want)
		if err != nil {
			return err
		}
		locals[want.number], segments[want.number] = local, s
		r.mu.older = append(r.mu.older, s)
		r.removeRest(s)
	}
	for i := range r.point.groups {
		c := &r.point.groups[i]
		g := &group{
			id: c.state.Group, hard: c.state.Hard, start: c.state.Start, last: c.state.Last,
			mark: c.state.Mark, meta: c.state.Meta,
		}
		for _, want := range c.runs {
			local := locals[want.segment]
			if local == nil {
				return r.misses(g.id, want)
			}
			extents, ok := local.of(g.id).between(want.lo, want.hi)
			if !ok {
				return r.misses(g.id, want)
			}
			s := segments[want.segment]
			for j := range extents {
				g.index.charge(s, int64(extents[j].bytes))
			}
			g.index.runs = append(g.index.runs, run{seg: s, extents: extents})
		}
		g.index.sealed = true
		r.mu.groups[g.id] = g
	}
	return nil
}

func (r *recovery) misses(g id.Group, want runRange) error {
	return &DamageError{
		Path:   r.fs.Path(segmentName(want.segment)),
		Reason: fmt.Sprintf("entries %d to %d of group %d are missing, says %s", want.lo, want.hi, g, r.newest.name()),
	}
}

// loadOlder reads a whole segment that is older than the newest. Every byte of
// it was durable before the newest was begun.
func (r *recovery) loadOlder(want segmentEnd) (*segment, *localIndex, error) {
	path := r.fs.Path(segmentName(want.number))
	i := slices.IndexFunc(r.rest, func(s *segment) bool { return s.number == want.number })
	if i < 0 {
		return nil, nil, &DamageError{Path: path, Reason: "the file is missing, says " + r.newest.name()}
	}
	s := r.rest[i]
	if want.end > s.size {
		return nil, nil, &DamageError{Path: path, Offset: s.size, Reason: fmt.Sprintf("the file ends here, not at %d", want.end)}
	}
	local := &localIndex{}
	sc := r.scan(s, want.end)
	defer r.done(sc)
	for sc.off < want.end {
		rec, p, err := sc.next()
		if err == nil {
			err = local.note(rec, p)
		}
		if sc.err != nil {
			return nil, nil, sc.err
		}
		if err != nil {
			return nil, nil, &DamageError{Path: path, Offset: sc.off, Reason: err.Error()}
		}
	}
	s.end = want.end
	return s, local, nil
}

// replay applies what follows the checkpoint of the newest segment and returns
// the number of the next batch. It notes how far the segment is known to be
// durable.
func (r *recovery) replay() (uint64, error) {
	s := r.newest
	sc := r.scan(s, s.size)
	defer r.done(sc)
	sc.off, sc.base = r.point.end, r.point.end
	seq := r.point.ready.first
	var ends []int64 // of the batches, from ready.first on
	var durable uint64
	for {
		rec, p, err := sc.next()
		if err == nil {
			err = r.replayRecord(rec, p)
		}
		if sc.err != nil {
			return 0, sc.err
		}
		if err != nil {
			s.end = sc.off
			if p.bytes > 0 { // it has the right sum, so it was written so
				return 0, &DamageError{Path: r.fs.Path(s.name()), Offset: p.off, Reason: err.Error()}
			}
			if err := r.checkTorn(sc, seq, err); err != nil {
				return 0, err
			}
			break
		}
		if rec.kind == kindCommit {
			m, err := parseCommit(rec.body)
			if err != nil || m.seq != seq || m.durable >= seq {
				return 0, &DamageError{Path: r.fs.Path(s.name()), Offset: p.off, Reason: fmt.Sprintf("batch %d follows batch %d", m.seq, seq-1)}
			}
			ends = append(ends, sc.off)
			durable = max(durable, m.durable)
			seq++
		}
	}
	if first := r.point.ready.first; durable >= first {
		r.sure = ends[durable-first]
	}
	r.mu.tail.durable = durable
	return seq + 1, nil // seq may have been begun
}

// replayRecord applies one record.
func (r *recovery) replayRecord(rec record, p place) error {
	switch rec.kind {
	case kindCommit:
		return nil
	case kindChange, kindCarried:
	default:
		return fmt.Errorf("record of kind %d after the checkpoint", rec.kind)
	}
	c, err := parseChange(rec)
	if err != nil {
		return err
	}
	g := r.groupForLocked(rec.group, &c)
	if rec.kind == kindCarried {
		e := &c.entries
		if g == nil || c.flags != hasEntries || e.first <= g.start.Index || e.last() > g.last.Index {
			return fmt.Errorf("entries %d to %d of group %d were carried, but are not in the log", e.first, e.last(), rec.group)
		}
		g.index.carry(p.seg, e, p.off, p.bytes)
		return nil
	}
	if g == nil {
		return nil
	}
	if err := g.check(&c); err != nil {
		return err
	}
	r.applyLocked(g, &c, p)
	return nil
}

// checkTorn tells a torn end from damage: a batch behind it that was written
// when the bad one was durable proves damage.
func (r *recovery) checkTorn(sc *scanner, bad uint64, reason error) error {
	at := sc.off
	proof, found := sc.findCommit(func(m commitMark) bool { return m.durable >= bad })
	if sc.err != nil {
		return sc.err
	}
	if !found {
		return nil
	}
	return &DamageError{
		Path: r.fs.Path(r.newest.name()), Offset: at,
		Reason: fmt.Sprintf("%s, and the record at %d proves that it was durable", reason, proof),
	}
}

// collectSpares gives the segments that have never been part of the log new
// numbers: what the last use has left in it then never parses, even if that was
// the use that a crash has cut short. Older segments that nobody needs must
// wait if it is not certain that the newest one, which says so, is durable.
func (r *recovery) collectSpares() error {
	r.mu.pool.next = max(r.mu.pool.next, 1)
	if r.id == 0 {
		var b [8]byte
		rand.Read(b[:])
		r.id = binary.LittleEndian.Uint64(b[:])
	}
	rest := r.rest
	r.rest = nil
	for i, s := range rest {
		if r.newest != nil && s.number < r.newest.number && r.sure == 0 {
			r.mu.pool.retiring = append(r.mu.pool.retiring, s)
			continue
		}
		if !r.reusable(s) || len(r.mu.pool.spares) > r.opt.Reserve+1 {
			r.mu.pool.dead = append(r.mu.pool.dead, s)
			continue
		}
		if err := r.recycle(s); err != nil {
			r.rest = rest[i:] // to be closed
			return err
		}
	}
	for len(r.mu.pool.spares) == 0 {
		did, err := r.makeSpare()
		if err != nil {
			return err
		}
		if !did {
			return fmt.Errorf("open the log: %w: free at least %d bytes", ErrFull, r.opt.SegmentBytes)
		}
	}
	return nil
}

// goOn starts a fresh segment with everything that is not known to be durable.
func (r *recovery) goOn(seq uint64) error {
	next := r.mu.pool.spares[0]
	r.mu.pool.spares = r.mu.pool.spares[1:]
	r.mu.tail.seq = seq
	old := r.newest
	r.startLocked(next)
	r.mu.pool.retireSeq = seq
	if old != nil {
		after := r.sure
		if old.live <= r.opt.SegmentBytes/nearlyEmpty {
			after = 0
		}
		if err := r.carry(old, r.extentsInLocked(old, after), true); err != nil {
			return err
		}
		old.end = max(r.sure, headerBytes)
		r.retireLocked(old)
		r.newest = nil
	}
	r.checkpointLocked()
	return nil
}

// confirm makes the fresh segment durable, and then says so in it, so that
// damage to its start can never pass for a torn end.
func (l *Log) confirm() error {
	for range 2 {
		if err := l.Append(nil); err != nil {
			return err
		}
		if err := l.Flush(); err != nil {
			return err
		}
		if err := l.Sync(); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) closeFiles() error {
	var errs []error
	for _, s := range r.rest {
		errs = append(errs, s.file.Close())
	}
	if r.newest != nil {
		errs = append(errs, r.newest.file.Close())
	}
	return errors.Join(append(errs, r.Log.closeFiles())...)
}
