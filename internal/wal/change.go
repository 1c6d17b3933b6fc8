package wal

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// What a change record holds: one bit each, in the order in which the parts
// stand in the body, except that entries stand last.
const (
	hasDrop uint8 = 1 << iota
	hasStart
	hasHard
	hasMeta
	hasMark
	hasCut
	hasEntries
)

// Bounds of a record.
const (
	// MaxEntry bounds Entry.Data, in bytes.
	MaxEntry = 64 << 20
	// recordTarget ends a record once its entries take so many bytes: one that
	// is read is read, and checked, whole.
	recordTarget = 64 << 10
	// maxIndex bounds what is read as an index, so that counting on from it
	// never wraps.
	maxIndex = 1 << 62
)

// change is one record's share of an Op: all its entries are of one term, and
// there are not many of them.
type change struct {
	flags   uint8
	start   Position
	hard    HardState
	meta    []byte
	mark    id.Index
	cut     Position
	entries entryBlock
}

// entryBlock is a sequence of entries of one term, encoded: for each its type,
// the length of its data as a varint, and the data.
type entryBlock struct {
	first id.Index
	term  id.Term
	count uint32
	bytes []byte // when it came from a record
	list  []Entry
}

// nextPart returns the change that holds the entries of op from number i on,
// as many as belong into one record, with everything else of op in the first
// and last part, and the number of the entry after it.
func nextPart(op *Op, i int) (change, int) {
	var c change
	if i == 0 {
		if op.Drop {
			c.flags |= hasDrop
		}
		if op.Start != nil {
			c.flags |= hasStart
			c.start = *op.Start
		}
		if op.Hard != nil {
			c.flags |= hasHard
			c.hard = *op.Hard
		}
		if op.Meta != nil {
			c.flags |= hasMeta
			c.meta = op.Meta
		}
	}
	if i < len(op.Entries) {
		j := partEnd(op.Entries, i)
		c.flags |= hasEntries
		c.entries = entryBlock{
			first: op.Entries[i].Index, term: op.Entries[i].Term,
			count: uint32(j - i), list: op.Entries[i:j],
		}
		i = j
	}
	if i == len(op.Entries) {
		if op.Mark != 0 {
			c.flags |= hasMark
			c.mark = op.Mark
		}
		if op.Cut != 0 {
			c.flags |= hasCut
			c.cut.Index = op.Cut
		}
	}
	return c, i
}

// partEnd returns the end of the run of entries that begins at i, is of one
// term and of about recordTarget bytes at most.
func partEnd(entries []Entry, i int) int {
	bytes := len(entries[i].Data)
	j := i + 1
	for j < len(entries) && entries[j].Term == entries[i].Term && bytes < recordTarget {
		bytes += len(entries[j].Data)
		j++
	}
	return j
}

// size is the length of the body that append makes.
func (c *change) size() int {
	n := 0
	if c.flags&hasStart != 0 {
		n += 16
	}
	if c.flags&hasHard != 0 {
		n += 24
	}
	if c.flags&hasMeta != 0 {
		n += 4 + len(c.meta)
	}
	if c.flags&hasMark != 0 {
		n += 8
	}
	if c.flags&hasCut != 0 {
		n += 16
	}
	if c.flags&hasEntries != 0 {
		n += 20
		for i := range c.entries.list {
			data := len(c.entries.list[i].Data)
			n += 1 + uvarintLen(uint64(data)) + data
		}
	}
	return n
}

func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// append writes the body.
func (c *change) append(b []byte) []byte {
	if c.flags&hasStart != 0 {
		b = appendPosition(b, c.start)
	}
	if c.flags&hasHard != 0 {
		b = appendHard(b, c.hard)
	}
	if c.flags&hasMeta != 0 {
		b = append(appendUint32(b, uint32(len(c.meta))), c.meta...)
	}
	if c.flags&hasMark != 0 {
		b = appendUint64(b, uint64(c.mark))
	}
	if c.flags&hasCut != 0 {
		b = appendPosition(b, c.cut)
	}
	if c.flags&hasEntries != 0 {
		e := &c.entries
		b = appendUint32(appendUint64(appendUint64(b, uint64(e.first)), uint64(e.term)), e.count)
		for i := range e.list {
			b = append(b, e.list[i].Type)
			b = binary.AppendUvarint(b, uint64(len(e.list[i].Data)))
			b = append(b, e.list[i].Data...)
		}
	}
	return b
}

// parseChange is the gate behind which a change is known to be well formed,
// down to the last entry.
func parseChange(rec record) (change, error) {
	c := change{flags: rec.flags}
	if c.flags >= hasEntries<<1 {
		return c, fmt.Errorf("change of group %d has unknown parts %#x", rec.group, c.flags)
	}
	r := reader{b: rec.body}
	if c.flags&hasStart != 0 {
		c.start = r.position()
	}
	if c.flags&hasHard != 0 {
		c.hard = r.hard()
	}
	if c.flags&hasMeta != 0 {
		n := r.uint32()
		if n > MaxMeta {
			return c, fmt.Errorf("meta of group %d has %d bytes, at most %d", rec.group, n, MaxMeta)
		}
		c.meta = r.take(int(n))
	}
	if c.flags&hasMark != 0 {
		c.mark = id.Index(r.uint64())
	}
	if c.flags&hasCut != 0 {
		c.cut = r.position()
	}
	if c.flags&hasEntries != 0 {
		e := &c.entries
		e.first, e.term, e.count = id.Index(r.uint64()), id.Term(r.uint64()), r.uint32()
		e.bytes = r.take(len(r.b))
		if !r.bad {
			if err := e.check(); err != nil {
				return c, fmt.Errorf("entries of group %d: %w", rec.group, err)
			}
		}
	}
	if max(c.start.Index, c.cut.Index) > maxIndex {
		return c, fmt.Errorf("change of group %d has an index above all bounds", rec.group)
	}
	if r.bad || len(r.b) != 0 {
		return c, fmt.Errorf("change of group %d has the wrong length %d", rec.group, len(rec.body))
	}
	return c, nil
}

// last is the index of the last entry.
func (e *entryBlock) last() id.Index { return e.first + id.Index(e.count) - 1 }

// check walks over the encoded entries.
func (e *entryBlock) check() error {
	if e.first == 0 || e.count == 0 || e.first > maxIndex {
		return fmt.Errorf("%d entries from %d on", e.count, e.first)
	}
	rest := e.bytes
	for i := range e.count {
		_, after, err := nextEntry(rest)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.first+id.Index(i), err)
		}
		rest = after
	}
	if len(rest) != 0 {
		return fmt.Errorf("%d bytes after entry %d", len(rest), e.last())
	}
	return nil
}

// nextEntry takes one entry, without its position, off b.
func nextEntry(b []byte) (Entry, []byte, error) {
	if len(b) == 0 {
		return Entry{}, nil, fmt.Errorf("missing")
	}
	n, width := binary.Uvarint(b[1:])
	if width <= 0 || n > uint64(len(b)-1-width) {
		return Entry{}, nil, fmt.Errorf("longer than its record")
	}
	start := 1 + width
	end := start + int(n)
	return Entry{Type: b[0], Data: b[start:end:end]}, b[end:], nil
}

// collect appends the entries from lo to hi-1 to out, as far as e has them.
// Their data is that of the block, not a copy.
func (e *entryBlock) collect(out []Entry, lo, hi id.Index) ([]Entry, error) {
	rest := e.bytes
	for at := e.first; at <= e.last() && at < hi; at++ {
		entry, after, err := nextEntry(rest)
		if err != nil {
			return out, fmt.Errorf("entry %d: %w", at, err)
		}
		rest = after
		if at >= lo {
			entry.Index, entry.Term = at, e.term
			out = append(out, entry)
		}
	}
	return out, nil
}
