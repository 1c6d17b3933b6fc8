package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// A segment is a header followed by records, each aligned to 8 bytes:
//
//	crc32c  length  kind  flags  zero  group  body ... zero padding
//	4       4       1     1      2     4      length
//
// All numbers are little-endian. docs/format/wal.md has every byte.
const (
	recordHeader = 16
	recordAlign  = 8
)

// kind says what a record holds. The numbers are part of the format; zero is
// none of them, so that a stretch of zeros never parses.
type kind uint8

const (
	kindChange   kind = 1 // one Op, or a part of one
	kindCarried  kind = 2 // entries copied forward from an older segment
	kindSegments kind = 3 // checkpoint: the older segments that are still needed
	kindGroup    kind = 4 // checkpoint: one group
	kindReady    kind = 5 // end of the checkpoint
	kindCommit   kind = 6 // end of a batch
	kindEnd      kind = 7 // first number without meaning
)

// castagnoli has hardware support on every machine that we run on.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// salt is different for any two segments of one log, so that what an earlier
// use has left in a recycled file never passes for a record.
type salt uint32

// newSalt mixes the log's identity with the segment's number. For a given log
// it maps numbers one to one (modulo 2^32): the multiplier is odd.
func newSalt(logID, number uint64) salt {
	return salt((uint32(logID) ^ uint32(logID>>32)) + uint32(number)*0x9E3779B1)
}

// seed is where the checksum of a record at off starts. The place is part of
// it, so a record that ends up elsewhere does not parse either.
func (s salt) seed(off int64) uint32 { return uint32(s) + uint32(off/recordAlign)*0x85EBCA6B }

// record is one parsed record. Only parseRecord makes one, and it has checked
// the sum.
type record struct {
	kind  kind
	flags uint8
	group id.Group
	body  []byte
}

// recordSize is how many bytes a record with such a body takes.
func recordSize(body int) int {
	return (recordHeader + body + recordAlign - 1) &^ (recordAlign - 1)
}

// sealRecord completes the record in b, whose body begins at recordHeader and
// ends at the end of b, and pads it.
func sealRecord(b []byte, s salt, off int64, k kind, flags uint8, group id.Group) []byte {
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-recordHeader))
	b[8], b[9], b[10], b[11] = byte(k), flags, 0, 0
	binary.LittleEndian.PutUint32(b[12:], uint32(group))
	binary.LittleEndian.PutUint32(b, crc32.Update(s.seed(off), castagnoli, b[4:]))
	for len(b)%recordAlign != 0 {
		b = append(b, 0)
	}
	return b
}

// parseLength returns the size of the record whose header is in b, or why
// there can't be one.
func parseLength(b []byte) (int64, error) {
	if len(b) < recordHeader {
		return 0, fmt.Errorf("%d bytes are too few for a record", len(b))
	}
	if k := kind(b[8]); k == 0 || k >= kindEnd {
		return 0, fmt.Errorf("no record of kind %d", k)
	}
	return int64(recordSize(recordLength(b))), nil
}

// recordLength and groupOf read two fields of a record's header.
func recordLength(b []byte) int { return int(binary.LittleEndian.Uint32(b[4:])) }
func groupOf(b []byte) id.Group { return id.Group(binary.LittleEndian.Uint32(b[12:])) }

// parseRecord parses the record at the start of b, which stands at off in its
// segment, and returns its size.
func parseRecord(b []byte, s salt, off int64) (record, int, error) {
	size, err := parseLength(b)
	if err != nil {
		return record{}, 0, err
	}
	if size > int64(len(b)) {
		return record{}, 0, fmt.Errorf("record of %d bytes, of which %d are there", size, len(b))
	}
	end := recordHeader + recordLength(b)
	if crc32.Update(s.seed(off), castagnoli, b[4:end]) != binary.LittleEndian.Uint32(b) {
		return record{}, 0, fmt.Errorf("wrong checksum of a record of %d bytes", size)
	}
	return record{
		kind:  kind(b[8]),
		flags: b[9],
		group: groupOf(b),
		body:  b[recordHeader:end:end],
	}, int(size), nil
}

// reader takes a body apart. After the first lack of bytes it only returns
// zeros, and bad is true.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) position() Position {
	return Position{Index: id.Index(r.uint64()), Term: id.Term(r.uint64())}
}

func (r *reader) hard() HardState {
	return HardState{Term: id.Term(r.uint64()), Vote: id.Replica(r.uint64()), Commit: id.Index(r.uint64())}
}

func appendUint32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }
func appendUint64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

func appendPosition(b []byte, p Position) []byte {
	return appendUint64(appendUint64(b, uint64(p.Index)), uint64(p.Term))
}

func appendHard(b []byte, h HardState) []byte {
	return appendUint64(appendUint64(appendUint64(b, uint64(h.Term)), uint64(h.Vote)), uint64(h.Commit))
}
