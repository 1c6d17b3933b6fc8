package wal

import (
	"fmt"
	"math"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Term returns the term of an entry, or of the position after which the log
// starts, without I/O.
func (l *Log) Term(g id.Group, index id.Index) (id.Term, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil {
		return 0, l.mu.err
	}
	state := l.mu.groups[g]
	switch {
	case state == nil:
		return 0, ErrNoGroup
	case index < state.start.Index:
		return 0, ErrCut
	case index > state.last.Index:
		return 0, ErrBeyond
	}
	return state.term(index), nil
}

// Spare returns the last entry of a group that may go if keepBytes bytes of its
// log are to stay, or zero: none may. It does no I/O.
func (l *Log) Spare(g id.Group, keepBytes uint64) id.Index {
	l.mu.Lock()
	defer l.mu.Unlock()
	state := l.mu.groups[g]
	if state == nil || keepBytes > math.MaxInt64 {
		return 0
	}
	return state.index.spare(int64(keepBytes))
}

// Entries returns the entries lo to hi-1 of a group: at least one, and then as
// many as have maxBytes bytes of data together. The data must not be changed.
func (l *Log) Entries(g id.Group, lo, hi id.Index, maxBytes uint64) ([]Entry, error) {
	var out []Entry
	var bytes uint64
	for at := lo; at < hi; at = lo + id.Index(len(out)) {
		before := len(out)
		var err error
		if out, err = l.readExtent(g, at, hi, out); err != nil {
			return nil, err
		}
		for i := before; i < len(out); i++ {
			bytes += uint64(len(out[i].Data))
			if bytes > maxBytes && i > 0 {
				return out[:i], nil
			}
		}
		if bytes >= maxBytes {
			break
		}
	}
	return out, nil
}

// readExtent appends the entries from lo on, up to hi-1 or the end of the
// extent that holds lo.
func (l *Log) readExtent(g id.Group, lo, hi id.Index, out []Entry) ([]Entry, error) {
	l.mu.Lock()
	if err := l.findErrorLocked(g, lo, hi); err != nil {
		l.mu.Unlock()
		return nil, err
	}
	seg, found := l.mu.groups[g].index.at(lo)
	e := *found // the index may change once the lock is free
	b := l.cachedLocked(seg, &e)
	salt := seg.salt
	seg.pins++
	l.mu.Unlock()
	defer l.unpin(seg)

	if b == nil {
		var err error
		if b, err = l.readSpan(seg, &e); err != nil {
			return nil, err
		}
	}
	out, err := collectSpan(out, b, salt, g, &e, lo, min(hi, e.end()))
	if err != nil {
		return nil, l.damaged(seg, e.offset(), err)
	}
	return out, nil
}

func (l *Log) findErrorLocked(g id.Group, lo, hi id.Index) error {
	state := l.mu.groups[g]
	switch {
	case l.mu.err != nil:
		return l.mu.err
	case state == nil:
		return ErrNoGroup
	case lo <= state.start.Index:
		return ErrCut
	case hi > state.last.Index+1:
		return ErrBeyond
	}
	return nil
}

func (l *Log) unpin(s *segment) {
	l.mu.Lock()
	s.pins--
	l.mu.Unlock()
}

// cachedLocked returns the span of e if it is in memory. Since an extent does
// not begin before its slab, it is there whole or not at all.
func (l *Log) cachedLocked(seg *segment, e *extent) []byte {
	slabs := l.mu.tail.slabs
	for i := len(slabs) - 1; i >= 0; i-- {
		if s := slabs[i]; s.seg == seg && s.off <= e.offset() {
			from := e.offset() - s.off
			if to := from + int64(e.span); to <= int64(len(s.buf)) {
				return s.buf[from:to:to]
			}
			return nil
		}
	}
	return nil
}

// readSpan reads the span of e, which is not in memory.
func (l *Log) readSpan(seg *segment, e *extent) ([]byte, error) {
	buf := make([]byte, e.span)
	if _, err := seg.file.ReadAt(buf, e.offset()); err != nil {
		return nil, l.poison(fmt.Errorf("read %s at %d: %w", l.fs.Path(seg.name()), e.offset(), err))
	}
	return buf, nil
}

// damaged poisons the log over a record that was read before and can't be read
// now.
func (l *Log) damaged(seg *segment, off int64, err error) error {
	return l.poison(&DamageError{Path: l.fs.Path(seg.name()), Offset: off, Reason: err.Error()})
}

// collectSpan appends the entries lo to hi-1 of extent e, whose span is b, to
// out. Their data is that of b.
func collectSpan(out []Entry, b []byte, s salt, g id.Group, e *extent, lo, hi id.Index) ([]Entry, error) {
	off, next := e.offset(), e.first
	for next < hi {
		rec, size, err := parseRecord(b, s, off)
		if err != nil {
			return nil, fmt.Errorf("entry %d of group %d: %w", next, g, err)
		}
		b = b[size:]
		off += int64(size)
		if rec.group != g || rec.flags&hasEntries == 0 || rec.kind != kindChange && rec.kind != kindCarried {
			continue
		}
		c, err := parseChange(rec)
		if err != nil {
			return nil, err
		}
		if c.entries.first > next || c.entries.last() < next || c.entries.term != e.term {
			continue // of the same group, but another extent
		}
		if out, err = c.entries.collect(out, lo, hi); err != nil {
			return nil, err
		}
		next = c.entries.last() + 1
	}
	return out, nil
}
