package vnode

import (
	"math"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// blockDecoder turns blocks into rows. It holds scratch memory only.
type blockDecoder struct {
	dir    directory
	ints   []int64
	floats []float64
	texts  [][]byte
}

// projection says which columns of a block are wanted and where.
type projection struct {
	// from[j] is the place, in the version of the schema that the block names,
	// of what goes to column j of the rows; -1 if that version does not have it.
	from []int
	to   []int // the other way round; -1: not wanted
}

// project makes the projection with this from for a version of n columns.
func project(from []int, n int) projection {
	p := projection{from: from, to: make([]int, n)}
	for i := range p.to {
		p.to[i] = -1
	}
	for j, place := range from {
		if place >= 0 {
			p.to[place] = j
		}
	}
	return p
}

// decode replaces what is in dst by the rows of a block. dst has the projected
// columns; columns are those of the block's schema version. stamps, unless nil,
// gets the rows' own stamps if the block is a merged one.
func (b *blockDecoder) decode(dst *sql.Rows, stamps *rowStamps, h *blockHead, columns []sql.Column, want projection) error {
	dst.Reset()
	if h.oneRow {
		return decodeOneRow(dst, h, columns, want)
	}
	if err := b.dir.parse(h, columns); err != nil {
		return err
	}
	dst.Timestamps = resize(dst.Timestamps, h.rows)
	if err := b.times(dst.Timestamps, h); err != nil {
		return err
	}
	if h.stamped && stamps != nil {
		if err := b.stamps(stamps, h.rows); err != nil {
			return err
		}
	}
	for j, place := range want.from {
		v := &dst.Columns[j]
		if place < 0 {
			allNull(v, h.rows)
			continue
		}
		if err := b.values(v, &b.dir.columns[place], columns[place].Type, h.rows); err != nil {
			return err
		}
	}
	return nil
}

// times fills dst with the timestamps of the block that was parsed last.
func (b *blockDecoder) times(dst []int64, h *blockHead) error {
	d := decoder{src: b.dir.times}
	dst[0] = h.first
	if len(dst) > 1 {
		d.ints(dst[1:])
		at := h.first
		for i, step := range dst[1:] {
			at += step
			dst[i+1] = at
		}
		if d.err == nil && at != h.last {
			d.fail("last timestamp is not that of the head")
		}
	}
	return d.end()
}

func (b *blockDecoder) stamps(dst *rowStamps, rows int) error {
	d := decoder{src: b.dir.stamps}
	dst.stamps, dst.origins = resize(dst.stamps, rows), resize(dst.origins, rows)
	d.steps(dst.stamps)
	b.ints = resize(b.ints, rows)
	d.ints(b.ints)
	for i, low := range b.ints {
		dst.stamps[i] = dst.stamps[i]<<stampShift | low
	}
	d.ints(dst.origins)
	return d.end()
}

// values appends one column of the block to v, which is empty.
func (b *blockDecoder) values(v *sql.Values, c *columnHead, stored sql.Type, rows int) error {
	d := decoder{src: c.body}
	if c.codec == codecNothing {
		allNull(v, rows)
		return d.end()
	}
	if c.nulls > 0 {
		for i, octet := range d.take((rows + 7) / 8) {
			if octet == 0 {
				continue
			}
			for bit := range 8 {
				if octet&(1<<bit) != 0 && i*8+bit < rows {
					v.Nulls.Set(i*8 + bit)
				}
			}
		}
		if d.err == nil && countNulls(v.Nulls, 0, rows) != c.nulls {
			d.fail("as many NULLs as the directory says are not there")
		}
	}
	present := rows - c.nulls
	if present == 0 || d.err != nil {
		d.fail("no values")
		return d.err
	}
	switch stored.Storage() {
	case sql.StoreInts:
		if c.nulls == 0 {
			v.Ints = resize(v.Ints, rows)
			d.intColumn(v.Ints, c.codec)
			break
		}
		b.ints = resize(b.ints, present)
		d.intColumn(b.ints, c.codec)
		v.Ints = spread(v.Ints, b.ints, v.Nulls, rows)
	case sql.StoreFloats:
		if c.nulls == 0 {
			v.Floats = resize(v.Floats, rows)
			b.floatColumn(&d, v.Floats, c.codec, stored)
			break
		}
		b.floats = resize(b.floats, present)
		b.floatColumn(&d, b.floats, c.codec, stored)
		v.Floats = spread(v.Floats, b.floats, v.Nulls, rows)
	default:
		b.textColumn(&d, v, c.codec, rows, present)
	}
	return d.end()
}

func (d *decoder) intColumn(dst []int64, codec uint8) {
	switch codec {
	case codecInts:
		d.ints(dst)
	case codecSteps:
		d.steps(dst)
	default:
		d.fail("bad codec of integers")
	}
}

func (b *blockDecoder) floatColumn(d *decoder, dst []float64, codec uint8, t sql.Type) {
	switch codec {
	case codecDecimals:
		b.decimals(d, dst, t == sql.TypeFloat)
	case codecGorilla:
		if err := decodeGorilla(dst, d.src); err != nil {
			d.fail(err.Error())
		}
		d.src = nil
	default:
		d.fail("bad codec of doubles")
	}
}

func (b *blockDecoder) decimals(d *decoder, dst []float64, single bool) {
	mark := d.byte()
	digits := int(mark &^ (hasExceptions | decimalSteps))
	if digits >= len(powers) {
		d.fail("bad decimal")
		return
	}
	scaled := resize(b.ints, len(dst))
	b.ints = scaled
	if mark&decimalSteps != 0 {
		d.steps(scaled)
	} else {
		d.ints(scaled)
	}
	if d.err != nil {
		return
	}
	p := powers[digits]
	switch {
	case single:
		for i, n := range scaled {
			dst[i] = float64(float32(float64(n) / p))
		}
	case digits == 0:
		for i, n := range scaled {
			dst[i] = float64(n)
		}
	default:
		for i, n := range scaled {
			dst[i] = float64(n) / p
		}
	}
	if mark&hasExceptions == 0 {
		return
	}
	at := 0
	for n := d.count(9); n > 0; n-- {
		gap, value := d.uvarint(), d.uint64()
		if d.err != nil || gap >= uint64(len(dst)-at) {
			d.fail("bad stray double")
			return
		}
		at += int(gap)
		dst[at] = math.Float64frombits(value)
	}
}

// maxTextBytes bounds the texts of one column of one block when they are
// unpacked, so that a dictionary can't blow up.
const maxTextBytes = 64 << 20

func (b *blockDecoder) textColumn(d *decoder, v *sql.Values, codec uint8, rows, present int) {
	b.ints = resize(b.ints, present)
	b.texts = b.texts[:0]
	switch codec {
	case codecTexts:
		d.ints(b.ints)
		for _, n := range b.ints {
			if n < 0 || n > int64(len(d.src)) {
				d.fail("text reaches past the end")
				return
			}
			b.texts = append(b.texts, d.take(int(n)))
		}
	case codecDictionary:
		distinct := make([][]byte, d.count(1))
		for i := range distinct {
			distinct[i] = d.bytes()
		}
		d.ints(b.ints)
		total := 0
		for _, n := range b.ints {
			if n < 0 || n >= int64(len(distinct)) || total > maxTextBytes {
				d.fail("bad number of a text")
				return
			}
			b.texts = append(b.texts, distinct[n])
			total += len(distinct[n])
		}
	default:
		d.fail("bad codec of texts")
		return
	}
	next := 0
	for i := range rows {
		var text []byte
		if !v.Nulls.Get(i) && next < len(b.texts) {
			text = b.texts[next]
			next++
		}
		v.AppendBytes(text)
	}
}

// decodeOneRow appends the row of a block of one row to dst.
func decodeOneRow(dst *sql.Rows, h *blockHead, columns []sql.Column, want projection) error {
	d := decoder{src: h.body}
	dst.Timestamps = append(dst.Timestamps, h.first)
	var nulls []byte
	if h.nulls {
		nulls = d.take((len(columns) + 7) / 8)
	}
	for j, place := range want.from {
		if place < 0 {
			dst.Columns[j].AppendNull()
		}
	}
	for place, c := range columns {
		into := want.to[place]
		if place>>3 < len(nulls) && nulls[place>>3]&(1<<(place&7)) != 0 {
			if into >= 0 {
				dst.Columns[into].AppendNull()
			}
			continue
		}
		switch c.Type.Storage() {
		case sql.StoreInts:
			if n := d.varint(); into >= 0 {
				dst.Columns[into].Ints = append(dst.Columns[into].Ints, n)
			}
		case sql.StoreFloats:
			if x := d.number(); into >= 0 {
				dst.Columns[into].Floats = append(dst.Columns[into].Floats, x)
			}
		default:
			if text := d.bytes(); into >= 0 {
				dst.Columns[into].AppendBytes(text)
			}
		}
	}
	return d.end()
}

// allNull appends rows NULLs.
func allNull(v *sql.Values, rows int) {
	for range rows {
		v.AppendNull()
	}
}

// spread puts the values that are there into their places and zero into those
// of NULLs.
func spread[T int64 | float64](dst, values []T, nulls sql.Bitmap, rows int) []T {
	dst = resize(dst, rows)
	next := 0
	for i := range dst {
		if nulls.Get(i) || next == len(values) {
			dst[i] = 0
			continue
		}
		dst[i] = values[next]
		next++
	}
	return dst
}

// resize is s with length n; what is in it does not matter.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, max(n, 2*cap(s)))
	}
	return s[:n]
}
