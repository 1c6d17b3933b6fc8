package wal

import (
	"bytes"
	"encoding/binary"
)

// Segments tells tests how many segments hold entries that are needed, with the
// active one, and how many are ready to be written to.
func (l *Log) Segments() (live, spares int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.older) + 1, len(l.mu.pool.spares)
}

// ActiveName is the file that is written to, and End where the next record
// goes.
func (l *Log) ActiveName() string { return segmentName(l.activeNumber()) }

func (l *Log) End() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.active.end
}

// Reseal gives every record of a segment the right checksum for its bytes, as
// far as their lengths make sense, so that a fuzzer gets past the sums. It does
// the same for the header.
func Reseal(b []byte) {
	if len(b) < headerBytes {
		return
	}
	number := binary.LittleEndian.Uint64(b[24:])
	logID := binary.LittleEndian.Uint64(b[16:])
	copy(b, encodeHeader(logID, number))
	s := newSalt(logID, number)
	for off := headerBytes; ; {
		size, err := parseLength(b[off:])
		if err != nil || size > int64(len(b)-off) {
			return
		}
		end := off + recordHeader + recordLength(b[off:])
		rec := bytes.Clone(b[off:end])
		sealRecord(rec, s, int64(off), kind(rec[8]), rec[9], groupOf(rec))
		copy(b[off:], rec[:end-off])
		off += int(size)
	}
}
