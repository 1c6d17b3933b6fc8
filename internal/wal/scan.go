package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// DamageError says that something in the log can't be read that was once
// acknowledged, so that what is left must not be used.
type DamageError struct {
	Path   string
	Offset int64
	Reason string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("log file %s is damaged at offset %d: %s; "+
		"what this host has acknowledged may be lost, so it must not go on with the rest: "+
		"check the disk, move the data directory away and restore this host from the others",
		e.Path, e.Offset, e.Reason)
}

// scanBytes is how much of a segment is read at once.
const scanBytes = 1 << 20

// scanner reads the records of a segment in order, a window at a time.
type scanner struct {
	seg   *segment
	limit int64 // read no further
	off   int64 // of the next record
	buf   []byte
	base  int64 // place of buf[0]
	err   error // the disk's
}

func newScanner(s *segment, limit int64) *scanner {
	return &scanner{seg: s, limit: limit, off: headerBytes, base: headerBytes}
}

// window returns the bytes from off on: n of them, and perhaps more. There are
// fewer only at the limit.
func (s *scanner) window(n int64) []byte {
	n = min(n, s.limit-s.off)
	have := s.base + int64(len(s.buf)) - s.off
	if have < n && s.err == nil {
		kept := copy(s.buf, s.buf[len(s.buf)-int(have):])
		want := int(min(max(n, scanBytes), s.limit-s.off))
		if cap(s.buf) < want {
			s.buf = append(make([]byte, 0, want), s.buf[:kept]...)
		}
		s.buf, s.base = s.buf[:want], s.off
		if _, err := s.seg.file.ReadAt(s.buf[kept:], s.base+int64(kept)); err != nil && !errors.Is(err, io.EOF) {
			s.err = fmt.Errorf("read segment %s at %d: %w", s.seg.name(), s.base+int64(kept), err)
			s.buf = s.buf[:kept]
		}
	}
	return s.buf[s.off-s.base:]
}

// next returns the record at off and its place, and moves on. An error says
// why there is none; if it is the disk's, err is set. The body is valid until
// the following call.
func (s *scanner) next() (record, place, error) {
	size, err := parseLength(s.window(recordHeader))
	if err == nil && size > s.limit-s.off {
		err = fmt.Errorf("record of %d bytes, of which %d are there", size, s.limit-s.off)
	}
	if s.err != nil {
		return record{}, place{}, s.err
	}
	if err != nil {
		return record{}, place{}, err
	}
	rec, n, err := parseRecord(s.window(size), s.seg.salt, s.off)
	if err != nil {
		return record{}, place{}, err
	}
	p := place{seg: s.seg, off: s.off, bytes: int64(n)}
	s.off += int64(n)
	return rec, p, nil
}

// commitWord is what stands at byte 4 of every commit mark: length, kind,
// flags.
const commitWord = commitBody | uint64(kindCommit)<<32

// findCommit looks behind off for the end of a batch that proves a point.
func (s *scanner) findCommit(proves func(commitMark) bool) (int64, bool) {
	for s.off%recordAlign != 0 {
		s.off++
	}
	for s.off+commitSize <= s.limit {
		b := s.window(scanBytes)
		if s.err != nil {
			return 0, false
		}
		for at := 0; at+commitSize <= len(b); at += recordAlign {
			if binary.LittleEndian.Uint64(b[at+4:]) != commitWord {
				continue
			}
			rec, _, err := parseRecord(b[at:], s.seg.salt, s.off+int64(at))
			if err != nil {
				continue
			}
			if m, err := parseCommit(rec.body); err == nil && proves(m) {
				return s.off + int64(at), true
			}
		}
		s.off += int64(len(b)-commitSize)/recordAlign*recordAlign + recordAlign
	}
	return 0, false
}
