package vnode

import (
	"encoding/binary"

	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// A block is rows of one table as bytes: what a statement carries through the
// log and what the store keeps. docs/format/block.md describes the bytes.
//
// Invariant: timestamps rise strictly within a block. (The decoder does not
// prove it for bytes that somebody made up; it then only gives rows in a wrong
// order.)
const (
	blockVersion = 1
	versionMask  = 0x0f

	flagOneRow = 0x10 // a single row, without directory
	flagStamps = 0x20 // rows carry stamps of their own: a merged block
	flagNulls  = 0x40 // one row only: some column is NULL

	// maxBlockRows bounds what a decoder allocates for a block, maxBlockBytes
	// the value of one key in Badger.
	maxBlockRows  = 1 << 13
	maxBlockBytes = 512 << 10

	// blockRows is how many rows a block is cut at when it is written or
	// merged.
	blockRows = 4096

	// aggregateRows is from how many rows on a block's directory has
	// aggregates.
	aggregateRows = 16
)

// The codecs of a column. The numbers are part of the format.
const (
	codecInts       = 1 // packed integers
	codecSteps      = 2 // packed differences
	codecDecimals   = 3 // doubles as packed decimals
	codecGorilla    = 4 // doubles as XORs
	codecTexts      = 5 // packed lengths, bytes
	codecDictionary = 6 // distinct texts, packed numbers
	codecNothing    = 7 // all NULL

	codecMask      = 0x0f
	codecAggregate = 0x40
	codecNulls     = 0x80
)

// rowStamps is the stamp and origin of each row of a merged block.
type rowStamps struct {
	stamps  []int64 // hlc.Stamp
	origins []int64 // id.Cluster
}

// version is which write a row comes from. Of two rows of one table with the
// same timestamp the one with the larger version exists.
type version struct {
	stamp  hlc.Stamp
	origin id.Cluster
}

func (v version) above(o version) bool {
	return v.stamp > o.stamp || v.stamp == o.stamp && v.origin > o.origin
}

// at is the version of row i.
func (s *rowStamps) at(i int) version {
	return version{stamp: hlc.Stamp(s.stamps[i]), origin: id.Cluster(s.origins[i])}
}

// blockHead is what can be known of a block from its first bytes.
type blockHead struct {
	schema      uint32
	rows        int
	first, last int64
	oneRow      bool
	stamped     bool
	nulls       bool // one row only

	body        []byte // what follows
	stampsBytes int
	timesBytes  int
}

// parseHead reads the head of a block, and proves of it what blockHead says.
func parseHead(src []byte) (blockHead, error) {
	d := decoder{src: src}
	mark := d.byte()
	if d.err == nil {
		if err := checkVersion("block", mark&versionMask, blockVersion); err != nil {
			return blockHead{}, err
		}
	}
	h := blockHead{
		rows:    1,
		oneRow:  mark&flagOneRow != 0,
		stamped: mark&flagStamps != 0,
		nulls:   mark&flagNulls != 0,
	}
	if h.oneRow && h.stamped { // nobody writes it: its stamp would be nowhere
		return blockHead{}, corruptf("merged block of the short form")
	}
	schema := d.uvarint()
	h.schema = uint32(schema)
	if h.oneRow {
		h.first = d.varint()
		h.last = h.first
	} else {
		rows := d.uvarint()
		if rows == 0 || rows > maxBlockRows {
			return blockHead{}, corruptf("block of %d rows", rows)
		}
		h.rows = int(rows)
		h.first = d.varint()
		h.last = h.first + int64(d.uvarint())
		h.timesBytes = d.count(1)
		if h.stamped {
			h.stampsBytes = d.count(1)
		}
	}
	if d.err == nil && (h.last < h.first || schema == 0 || schema > 1<<31) {
		return blockHead{}, corruptf("block of schema version %d from %d to %d", schema, h.first, h.last)
	}
	h.body = d.src
	return h, d.err
}

// columnHead is one column of a block's directory.
type columnHead struct {
	codec     uint8
	nulls     int  // how many values are NULL
	exact     bool // aggregates are there
	min, max  scalar
	first     scalar
	lastValue scalar
	sum       scalar
	size      int
	body      []byte
}

// directory is the columns of a block that has more than one row.
type directory struct {
	columns []columnHead
	times   []byte
	stamps  []byte
}

// parse reads the directory that follows h. columns are those of the schema
// version that the block names.
func (dir *directory) parse(h *blockHead, columns []sql.Column) error {
	d := decoder{src: h.body}
	if n := d.uvarint(); n != uint64(len(columns)) {
		return corruptf("block of %d columns in a table of %d", n, len(columns))
	}
	if cap(dir.columns) < len(columns) {
		dir.columns = make([]columnHead, len(columns))
	}
	dir.columns = dir.columns[:len(columns)]
	for i := range dir.columns {
		c := &dir.columns[i]
		mark := d.byte()
		*c = columnHead{codec: mark & codecMask, exact: mark&codecAggregate != 0, size: d.count(1)}
		if mark&codecNulls != 0 {
			c.nulls = int(d.uvarint())
			if c.nulls > h.rows {
				d.fail("more NULLs than rows")
			}
		}
		if c.exact {
			d.aggregate(c, columns[i].Type)
		}
	}
	dir.times = d.take(h.timesBytes)
	dir.stamps = d.take(h.stampsBytes)
	for i := range dir.columns {
		dir.columns[i].body = d.take(dir.columns[i].size)
	}
	return d.end()
}

// aggregate reads what appendAggregate wrote.
func (d *decoder) aggregate(c *columnHead, t sql.Type) {
	switch t.Storage() {
	case sql.StoreInts:
		c.min.int = d.varint()
		c.max.int = c.min.int + int64(d.uvarint())
		c.first.int = c.min.int + int64(d.uvarint())
		c.lastValue.int = c.min.int + int64(d.uvarint())
		c.sum.int = d.varint()
	case sql.StoreFloats:
		c.min.float, c.max.float = d.number(), d.number()
		c.first.float, c.lastValue.float = d.number(), d.number()
		c.sum.float = d.number()
	default:
		d.fail("aggregates of a text column")
	}
}

func appendIntAggregate(dst []byte, values []int64, low, high int64) []byte {
	var sum int64
	for _, v := range values {
		sum += v
	}
	dst = binary.AppendVarint(dst, low)
	dst = binary.AppendUvarint(dst, uint64(high-low))
	dst = binary.AppendUvarint(dst, uint64(values[0]-low))
	dst = binary.AppendUvarint(dst, uint64(values[len(values)-1]-low))
	return binary.AppendVarint(dst, sum)
}

// appendFloatAggregate appends the aggregates of values, unless one of them is
// not a number: then ok is false.
func appendFloatAggregate(dst []byte, values []float64) (_ []byte, ok bool) {
	var sum float64
	low, high := values[0], values[0]
	for _, v := range values {
		sum += v
		if v < low {
			low = v
		}
		if v > high {
			high = v
		}
	}
	if sum != sum { // some value, or the sum of infinities, is not a number
		return dst, false
	}
	for _, v := range [...]float64{low, high, values[0], values[len(values)-1], sum} {
		dst = appendNumber(dst, v)
	}
	return dst, true
}
