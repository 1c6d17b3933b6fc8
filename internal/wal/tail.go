package wal

import "fmt"

// slabBytes is the usual capacity of a slab: large enough that few records
// begin a new one, small enough that an idle log holds little memory. Where
// segments are shorter, one of them is enough.
const slabBytes = 256 << 10

// slab is a stretch of a segment in memory. Bytes below len(buf) never change,
// so they can be written and read without the lock.
type slab struct {
	seg     *segment
	off     int64  // place of buf[0]
	buf     []byte // never grows beyond its capacity
	written int    // handed to the file system
	synced  int    // durable
}

// tail is the end of the log: what was appended, up to what is durable, and
// some of what was before.
type tail struct {
	slabs  []*slab // in the order of the log, across segments
	open   bool    // records follow the last commit mark
	wanted bool    // a batch is wanted, even if it holds nothing

	ready   int64    // where the checkpoint of the active segment ends
	seq     uint64   // number of the batch that is being gathered
	first   uint64   // number of the batch that active begins with
	written uint64   // last batch that was handed to the file system
	durable uint64   // last batch that is durable
	filled  uint64   // last batch that holds something
	changed uint64   // the same, of those that are durable
	dirty   *segment // written to after its last sync
}

// placeLocked finds room for a record of size bytes and returns its bytes, of
// which the header is there and the rest is to be appended. It moves to the
// next segment when this one is full.
func (l *Log) placeLocked(size int, entries bool) ([]byte, place) {
	fresh := l.mu.active.end == l.mu.tail.ready // one that does not fit here fits nowhere
	if !fresh && !l.fitsLocked(int64(size)+commitSize) && l.mayRollLocked(entries) {
		l.rollLocked()
	}
	l.mu.tail.open = true
	return l.takeLocked(size)
}

// takeLocked is placeLocked within the active segment.
func (l *Log) takeLocked(size int) ([]byte, place) {
	a, t := l.mu.active, &l.mu.tail
	var s *slab
	if n := len(t.slabs); n > 0 {
		s = t.slabs[n-1]
	}
	if s == nil || s.seg != a || cap(s.buf)-len(s.buf) < size {
		s = &slab{seg: a, off: a.end, buf: make([]byte, 0, max(min(slabBytes, int(l.opt.SegmentBytes)), size))}
		t.slabs = append(t.slabs, s)
	}
	n := len(s.buf)
	s.buf = s.buf[:n+size]
	p := place{seg: a, off: a.end, bytes: int64(size), floor: s.off}
	a.end += int64(size)
	return s.buf[n : n+recordHeader : n+size], p
}

// commitLocked ends the batch that is being gathered.
func (l *Log) commitLocked() {
	t := &l.mu.tail
	b, p := l.takeLocked(commitSize)
	b = appendCommit(b, commitMark{seq: t.seq, durable: t.durable, first: t.first})
	sealRecord(b, p.seg.salt, p.off, kindCommit, 0, 0)
	if t.open {
		t.filled = t.seq
	}
	t.seq++
	t.open, t.wanted = false, false
}

// fitsLocked reports whether size more bytes belong into the active segment. A
// log whose checkpoint alone fills a segment has longer ones.
func (l *Log) fitsLocked(size int64) bool {
	return l.mu.active.end+size <= max(l.opt.SegmentBytes, 2*l.mu.tail.ready)
}

// mayRollLocked reports whether the next segment may be taken. Otherwise the
// active one grows: slower, but nobody waits.
func (l *Log) mayRollLocked(entries bool) bool {
	spares := len(l.mu.pool.spares)
	if entries && !l.mu.pool.noSpace {
		return spares > 1 // one is left for what is not an entry
	}
	return spares > 0 // hasRoomLocked has looked after the reserve
}

// rollLocked ends the batch and the active segment and goes on in the next.
func (l *Log) rollLocked() {
	if l.mu.tail.open {
		l.commitLocked()
	}
	next := l.mu.pool.spares[0]
	l.mu.pool.spares = l.mu.pool.spares[1:]
	l.retireLocked(l.mu.active)
	l.startLocked(next)
	l.checkpointLocked()
}

// retireLocked adds the segment that was active to the older ones, and takes
// those out that nobody needs. They can be used again once that is durable.
func (l *Log) retireLocked(last *segment) {
	p := &l.mu.pool
	candidates := append(l.mu.older, last)
	l.mu.older = nil
	for _, s := range candidates {
		if s.live > 0 {
			l.mu.older = append(l.mu.older, s)
		} else {
			p.retiring = append(p.retiring, s)
		}
	}
	p.retireSeq = l.mu.tail.seq
}

// startLocked makes next the active segment.
func (l *Log) startLocked(next *segment) {
	next.end = headerBytes
	l.mu.active = next
	l.mu.tail.first = l.mu.tail.seq
}

// checkpointLocked writes down everything that older segments say.
func (l *Log) checkpointLocked() {
	a, t := l.mu.active, &l.mu.tail
	list := make([]segmentEnd, 0, len(l.mu.older))
	for _, s := range l.mu.older {
		list = append(list, segmentEnd{number: s.number, end: s.end})
	}
	b, p := l.takeLocked(recordSize(segmentsSize(len(list))))
	sealRecord(appendSegments(b, list), a.salt, p.off, kindSegments, 0, 0)
	groups := l.groupsLocked()
	for _, g := range groups {
		b, p = l.takeLocked(recordSize(groupSize(len(g.index.runs), g.meta)))
		sealRecord(appendGroup(b, g), a.salt, p.off, kindGroup, 0, g.id)
	}
	b, p = l.takeLocked(recordSize(readyBody))
	b = appendReady(b, readyMark{first: t.first, groups: uint64(len(groups))})
	sealRecord(b, a.salt, p.off, kindReady, 0, 0)
	t.open = true
	t.ready = a.end
}

// chunk is what one write hands to the file system.
type chunk struct {
	slab  *slab
	bytes []byte
	off   int64
	end   int // of bytes, in slab.buf
}

// Flush ends the batch and hands everything appended to the file system. When
// the log has moved to another segment, it also syncs the one before: of all
// segments only the newest may have a torn end.
//
// ErrFull means that the disk is full, and Flush may be called again.
func (l *Log) Flush() error {
	l.mu.Lock()
	if err := l.mu.err; err != nil {
		l.mu.Unlock()
		return err
	}
	t := &l.mu.tail
	if t.open || t.wanted {
		if !t.open && !l.fitsLocked(commitSize) && l.mayRollLocked(false) {
			l.rollLocked()
		}
		l.commitLocked()
	}
	var work []chunk
	for _, s := range t.slabs {
		if s.written < len(s.buf) {
			work = append(work, chunk{
				slab: s, bytes: s.buf[s.written:], off: s.off + int64(s.written), end: len(s.buf),
			})
		}
	}
	seq, dirty := t.seq-1, t.dirty
	l.mu.Unlock()

	for _, c := range work {
		if dirty != nil && dirty != c.slab.seg {
			if err := l.syncSegment(dirty); err != nil {
				return err
			}
		}
		dirty = c.slab.seg
		if err := l.writeChunk(c); err != nil {
			return err
		}
	}
	l.mu.Lock()
	t.written = seq
	l.mu.Unlock()
	return nil
}

func (l *Log) writeChunk(c chunk) error {
	seg := c.slab.seg
	if _, err := seg.file.WriteAt(c.bytes, c.off); err != nil {
		if isNoSpace(err) {
			return fmt.Errorf("write %s at %d: %w: %w", l.fs.Path(seg.name()), c.off, ErrFull, err)
		}
		return l.poison(fmt.Errorf("write %s at %d: %w", l.fs.Path(seg.name()), c.off, err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.slab.written = c.end
	seg.size = max(seg.size, c.off+int64(len(c.bytes)))
	l.mu.tail.dirty = seg
	return nil
}

// Sync makes everything that was flushed durable.
func (l *Log) Sync() error {
	l.mu.Lock()
	err, seq, dirty := l.mu.err, l.mu.tail.written, l.mu.tail.dirty
	l.mu.Unlock()
	if err != nil || dirty == nil {
		return err
	}
	if err := l.syncSegment(dirty); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.mu.tail
	t.durable, t.changed = seq, min(seq, t.filled)
	t.trim(l.opt.CacheBytes)
	if p := &l.mu.pool; len(p.retiring) > 0 && p.retireSeq <= t.durable {
		p.dead = append(p.dead, p.retiring...)
		p.retiring = nil
	}
	return nil
}

// syncSegment makes what was written to s durable. If the disk turns out to be
// full, all of it is written again by the next Flush: the file system may have
// dropped what it could not place.
func (l *Log) syncSegment(s *segment) error {
	err := s.file.Sync()
	if err != nil && !isNoSpace(err) {
		return l.poison(fmt.Errorf("sync %s: %w", l.fs.Path(s.name()), err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.mu.tail.slabs {
		switch {
		case b.seg != s:
		case err != nil:
			b.written = b.synced
		default:
			b.synced = b.written
		}
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w: %w", l.fs.Path(s.name()), ErrFull, err)
	}
	l.mu.tail.dirty = nil
	return nil
}

// trim forgets durable slabs, the oldest first, down to keep bytes.
func (t *tail) trim(keep int) {
	held := 0
	for _, s := range t.slabs {
		held += cap(s.buf)
	}
	drop := 0
	for drop < len(t.slabs)-1 && held > keep && t.slabs[drop].synced == len(t.slabs[drop].buf) {
		held -= cap(t.slabs[drop].buf)
		drop++
	}
	if drop > 0 {
		clear(t.slabs[:drop])
		t.slabs = t.slabs[drop:]
	}
}
