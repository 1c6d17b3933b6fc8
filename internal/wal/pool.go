package wal

import (
	"fmt"
	"slices"
)

// pool holds the segments that are not part of the log.
//
//	made ──▶ spares ──▶ active ──▶ older ──▶ retiring ──▶ dead ──▶ spares
//
// A spare is filled with zeros, or with what an earlier use has left, has its
// header and is durable: writing to it changes no metadata, which halves the
// cost of a sync.
type pool struct {
	spares    []*segment // in the order of use
	retiring  []*segment // not needed once batch retireSeq is durable
	retireSeq uint64
	dead      []*segment // needed by nobody but readers with a pin
	next      uint64     // number of the next spare
	noSpace   bool       // the last attempt to make a spare met a full disk
}

// freeableLocked counts the segments that the next move to another segment
// gives free.
func (l *Log) freeableLocked() int {
	n := len(l.mu.pool.retiring) + len(l.mu.pool.dead)
	for _, s := range l.mu.older {
		if s.live == 0 {
			n++
		}
	}
	return n
}

// Full reports whether the caller should stop appending entries: the disk is
// full and only the reserve is left for the time after the active segment. What
// is on its way already still finds room in that segment. Everything else goes
// on.
func (l *Log) Full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.pool.noSpace && len(l.mu.pool.spares)+l.freeableLocked() <= l.opt.Reserve
}

// hasRoomLocked reports whether ops can be appended without touching the
// reserve. While the disk is not full there is always room.
func (l *Log) hasRoomLocked(ops []Op) bool {
	if !l.mu.pool.noSpace {
		return true
	}
	var size int64
	entries := false
	for i := range ops {
		for first, j := true, 0; first || j < len(ops[i].Entries); first = false {
			var c change
			c, j = nextPart(&ops[i], j)
			size += int64(recordSize(c.size()))
			entries = entries || c.flags&hasEntries != 0
		}
	}
	if !entries || l.fitsLocked(size+commitSize) {
		return true
	}
	// The records may leave a gap at the end of every segment.
	perSegment := max(l.opt.SegmentBytes-l.mu.tail.ready-recordTarget, l.opt.SegmentBytes/4)
	rolls := int(size/perSegment) + 1
	spares := len(l.mu.pool.spares)
	return rolls <= spares && spares-rolls+l.freeableLocked() >= l.opt.Reserve
}

// Maintain does one step of what the log needs beside appending: make the next
// segments, use old ones again, remove what is too much, copy the last few
// entries out of nearly empty segments. It reports whether there was something
// to do; call it again until there is not, and then after some batches. It may
// be slow; nothing else waits for it.
//
// A full disk is no error here; see Full.
func (l *Log) Maintain() (did bool, err error) {
	l.mu.Lock()
	err = l.mu.err
	p := &l.mu.pool
	short := len(p.spares) <= l.opt.Reserve
	missing := len(p.spares)+len(p.retiring)+len(p.dead) <= l.opt.Reserve
	dead := p.takeDead()
	l.mu.Unlock()
	switch {
	case err != nil:
		return false, err
	case dead != nil && short && l.reusable(dead):
		return true, l.recycle(dead)
	case dead != nil:
		return true, l.remove(dead)
	case missing && l.making == nil && !l.roomForSpare():
		l.noteNoSpace()
	case missing:
		if did, err = l.makeSpare(); did || err != nil {
			return did, err
		}
	}
	if did, err = l.carryOld(); did || err != nil {
		return did, err
	}
	return l.rollToFree(), nil
}

// reusable reports whether a segment has about the length of a new one: it may
// have grown while the next one was not ready.
func (l *Log) reusable(s *segment) bool {
	return s.size >= l.opt.SegmentBytes && s.size <= 2*l.opt.SegmentBytes
}

// takeDead takes out one that no reader uses any more, or nil.
func (p *pool) takeDead() *segment {
	for i, s := range p.dead {
		if s.pins == 0 {
			p.dead = slices.Delete(p.dead, i, i+1)
			return s
		}
	}
	return nil
}

// recycle makes a spare out of a dead segment.
func (l *Log) recycle(s *segment) error {
	was := s.name()
	l.renumber(s)
	err := l.fs.Rename(was, s.name())
	if err == nil {
		_, err = s.file.WriteAt(encodeHeader(l.id, s.number), 0)
	}
	if err == nil {
		err = s.file.Sync()
	}
	if err == nil {
		err = l.fs.SyncDir()
	}
	if err != nil {
		return l.poison(fmt.Errorf("use segment %s again as %s: %w", l.fs.Path(was), s.name(), err))
	}
	l.addSpare(s)
	return nil
}

// renumber gives s the next number, under which no byte was ever written.
func (l *Log) renumber(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.number = l.mu.pool.next
	l.mu.pool.next++
	s.salt = newSalt(l.id, s.number)
	s.end, s.live = 0, 0
}

func (l *Log) addSpare(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.pool.spares = append(l.mu.pool.spares, s)
	if len(l.mu.pool.spares) > l.opt.Reserve {
		l.mu.pool.noSpace = false
	}
}

// remove deletes a segment that nobody needs.
func (l *Log) remove(s *segment) error {
	err := s.file.Close()
	if err == nil {
		err = l.fs.Remove(s.name())
	}
	if err == nil {
		err = l.fs.SyncDir()
	}
	if err != nil {
		return l.poison(fmt.Errorf("remove segment %s: %w", l.fs.Path(s.name()), err))
	}
	return nil
}

// fillBytes is how many zeros one step writes. Each step is synced, so that
// the log's own syncs do not wait for many of them.
const fillBytes = 2 << 20

var zeros = make([]byte, fillBytes)

// makeSpare does one step of making a spare: it writes some zeros, and gives
// the file its header and its name once there are enough. It reports false
// when the disk is full.
func (l *Log) makeSpare() (bool, error) {
	err := l.fillStep()
	if err == nil && l.filled == l.opt.SegmentBytes {
		err = l.finishSpare()
	}
	if err == nil {
		return true, nil
	}
	if !isNoSpace(err) {
		return false, l.poison(fmt.Errorf("make a segment: %w", err))
	}
	if err := l.dropMaking(); err != nil {
		return false, l.poison(fmt.Errorf("remove a segment that found no space: %w", err))
	}
	l.noteNoSpace()
	return false, nil
}

func (l *Log) noteNoSpace() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.pool.noSpace = true
}

// roomForOthers is what a new segment leaves free: whoever else writes to this
// disk must not meet its end because of us.
const roomForOthers = 16 << 20

// roomForSpare reports whether to begin with another segment ahead of its use.
// Where nobody can tell, trying shows.
func (l *Log) roomForSpare() bool {
	fs, ok := l.fs.(Roomy)
	if !ok {
		return true
	}
	room, err := fs.Room()
	return err != nil || room >= uint64(l.opt.SegmentBytes)+roomForOthers
}

func (l *Log) fillStep() error {
	if l.making == nil {
		f, err := l.fs.Create(makingName)
		if err != nil {
			return err
		}
		l.making, l.filled = &segment{file: f, size: l.opt.SegmentBytes}, 0
	}
	n := min(int64(len(zeros)), l.opt.SegmentBytes-l.filled)
	if _, err := l.making.file.WriteAt(zeros[:n], l.filled); err != nil {
		return err
	}
	l.filled += n
	return l.making.file.Sync()
}

func (l *Log) finishSpare() error {
	s := l.making
	l.renumber(s)
	if _, err := s.file.WriteAt(encodeHeader(l.id, s.number), 0); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	if err := l.fs.Rename(makingName, s.name()); err != nil {
		return err
	}
	l.making = nil
	if err := l.fs.SyncDir(); err != nil {
		return err
	}
	l.addSpare(s)
	return nil
}

func (l *Log) dropMaking() error {
	s := l.making
	if s == nil {
		return nil
	}
	l.making = nil
	if err := s.file.Close(); err != nil {
		return err
	}
	return l.fs.Remove(makingName)
}

// activeNumber is the number of the segment that is written to.
func (l *Log) activeNumber() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.active.number
}

// rollToFree moves to the next segment for no other reason than that the
// checkpoint there gives at least two others free. Each such move leaves the
// log shorter, so they come to an end.
func (l *Log) rollToFree() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	unneeded := 0
	for _, s := range l.mu.older {
		if s.live == 0 {
			unneeded++
		}
	}
	if unneeded < 2 || len(l.mu.pool.spares) == 0 {
		return false
	}
	l.rollLocked()
	return true
}
