package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// Every segment starts with a header of its own, written and synced before the
// file gets its name. It lies within one sector, so it is there whole or not
// at all:
//
//	magic  version  crc32c  log  number  zero
//	8      4        4       8    8       32
//
// The sum covers the header without the sum itself. log is the identity of the
// log, number that of the segment.
const (
	headerBytes = 64
	magic       = "tarbwal\n"
	version     = 1
)

// Names: a segment is called by its number. The file that is being filled with
// zeros means nothing to Open.
const (
	// SegmentSuffix ends the names of a log's files: by it a directory is known to
	// be one.
	SegmentSuffix = ".wal"
	makingName    = "segment.new"
)

func segmentName(number uint64) string { return fmt.Sprintf("%016x%s", number, SegmentSuffix) }

// parseName returns the number in a segment's name.
func parseName(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, SegmentSuffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, err == nil && n != 0
}

// segment is one file of the log.
//
// Invariant: nobody reads or writes file once the segment is in pool.dead with
// no pins, except the goroutine that recycles it.
type segment struct {
	number uint64
	file   File
	size   int64 // length of the file; past it the file grows
	end    int64 // the next record goes here
	live   int64 // bytes of records whose entries are still needed
	pins   int   // readers that use file without the lock
	salt   salt
}

func (s *segment) name() string { return segmentName(s.number) }

func encodeHeader(logID, number uint64) []byte {
	b := make([]byte, 12, headerBytes)
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[8:], version)
	sum := crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, headerTail(logID, number))
	return append(appendUint32(b, sum), headerTail(logID, number)...)
}

func headerTail(logID, number uint64) []byte {
	b := make([]byte, 0, headerBytes-16)
	return appendUint64(appendUint64(b, logID), number)[:headerBytes-16]
}

// errHeader says that the bytes were never written as a header.
var errHeader = errors.New("the segment header is damaged")

// parseHeader returns the identities in a header.
func parseHeader(b []byte) (logID, number uint64, err error) {
	if len(b) < headerBytes || string(b[:8]) != magic {
		return 0, 0, errHeader
	}
	sum := crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[16:headerBytes])
	if sum != binary.LittleEndian.Uint32(b[12:]) {
		return 0, 0, errHeader
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return 0, 0, fmt.Errorf("format version %d is not known to this program, which reads version %d", v, version)
	}
	return binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:]), nil
}
