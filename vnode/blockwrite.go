package vnode

import (
	"encoding/binary"
	"math"
	"math/bits"
	"sync"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// encoder makes blocks. It holds scratch memory only: get one from encoders,
// put it back.
type encoder struct {
	steps     []int64
	ints      []int64
	floats    []float64
	directory []byte
	bodies    []byte
	block     []byte           // for who cuts rows into several blocks
	numbers   map[string]int64 // of the texts of a dictionary
}

var encoders = sync.Pool{New: func() any { return new(encoder) }}

// appendBlock appends rows [from, to) as one block. They are at least one, at
// most maxBlockRows, in strictly rising order of time, and have the columns of
// that version of the schema. stamps is nil unless the block is a merged one;
// it then has one stamp for each row of the block.
func (e *encoder) appendBlock(dst []byte, rows *sql.Rows, from, to int, schema uint32, stamps *rowStamps) []byte {
	if to-from == 1 && stamps == nil {
		return appendOneRow(dst, rows, from, schema)
	}
	n := to - from
	e.directory = binary.AppendUvarint(e.directory[:0], uint64(len(rows.Columns)))
	times := rows.Timestamps[from:to]
	e.bodies = e.appendTimes(e.bodies[:0], times)
	timesBytes := len(e.bodies)
	if stamps != nil {
		e.bodies = e.appendStamps(e.bodies, stamps)
	}
	stampsBytes := len(e.bodies) - timesBytes
	for i := range rows.Columns {
		e.appendValues(&rows.Columns[i], from, to)
	}
	mark := byte(blockVersion)
	if stamps != nil {
		mark |= flagStamps
	}
	dst = append(dst, mark)
	dst = binary.AppendUvarint(dst, uint64(schema))
	dst = binary.AppendUvarint(dst, uint64(n))
	dst = binary.AppendVarint(dst, times[0])
	dst = binary.AppendUvarint(dst, uint64(times[n-1]-times[0]))
	dst = binary.AppendUvarint(dst, uint64(timesBytes))
	if stamps != nil {
		dst = binary.AppendUvarint(dst, uint64(stampsBytes))
	}
	dst = append(dst, e.directory...)
	return append(dst, e.bodies...)
}

// appendTimes appends the steps between timestamps; the first one stands in the
// head.
func (e *encoder) appendTimes(dst []byte, times []int64) []byte {
	if len(times) == 1 {
		return dst
	}
	return appendInts(dst, e.stepsOf(times))
}

// stampShift splits stamps: the leader rounds the clock to 2^stampShift
// nanoseconds and counts below that, so the upper part rises as time does and
// the lower part is small.
const stampShift = 20

func (e *encoder) appendStamps(dst []byte, s *rowStamps) []byte {
	part := e.ints[:0]
	for _, stamp := range s.stamps {
		part = append(part, int64(uint64(stamp)>>stampShift))
	}
	dst = e.appendSteps(dst, part)
	part = part[:0]
	for _, stamp := range s.stamps {
		part = append(part, stamp&(1<<stampShift-1))
	}
	dst = appendInts(dst, part)
	e.ints = part
	return appendInts(dst, s.origins)
}

// appendValues appends one column to the directory and to the bodies.
func (e *encoder) appendValues(v *sql.Values, from, to int) {
	nulls := countNulls(v.Nulls, from, to)
	at := len(e.bodies)
	if nulls == to-from {
		e.directory = append(e.directory, codecNothing|codecNulls)
		e.directory = binary.AppendUvarint(e.directory, 0)
		e.directory = binary.AppendUvarint(e.directory, uint64(nulls))
		return
	}
	if nulls > 0 {
		e.bodies = appendNulls(e.bodies, v.Nulls, from, to)
	}
	mark := len(e.directory)
	e.directory = append(e.directory, 0)
	var codec byte
	var tail [80]byte // aggregates, which stand behind the length
	extra := tail[:0]
	switch v.Type.Storage() {
	case sql.StoreInts:
		codec, extra = e.appendIntColumn(present(&e.ints, v.Ints, v.Nulls, from, to, nulls), extra, v.Type)
	case sql.StoreFloats:
		single := v.Type == sql.TypeFloat
		codec, extra = e.appendFloatColumn(present(&e.floats, v.Floats, v.Nulls, from, to, nulls), extra, single)
	default:
		codec = e.appendTextColumn(v, from, to)
	}
	if len(extra) > 0 {
		codec |= codecAggregate
	}
	if nulls > 0 {
		codec |= codecNulls
	}
	e.directory[mark] = codec
	e.directory = binary.AppendUvarint(e.directory, uint64(len(e.bodies)-at))
	if nulls > 0 {
		e.directory = binary.AppendUvarint(e.directory, uint64(nulls))
	}
	e.directory = append(e.directory, extra...)
}

// present is the values of rows [from, to) that are not NULL: those of the
// batch itself where none is NULL, else copied to scratch.
func present[T int64 | float64](scratch *[]T, values []T, nulls sql.Bitmap, from, to, missing int) []T {
	if missing == 0 {
		return values[from:to]
	}
	kept := (*scratch)[:0]
	for i := from; i < to; i++ {
		if !nulls.Get(i) {
			kept = append(kept, values[i])
		}
	}
	*scratch = kept
	return kept
}

func (e *encoder) appendIntColumn(values []int64, extra []byte, t sql.Type) (codec byte, _ []byte) {
	low, high := extent(values)
	// The bits of a BIGINT UNSIGNED sort as signed numbers only within a half.
	sorted := t != sql.TypeUBigInt || low >= 0 || high < 0
	if len(values) >= aggregateRows && sorted {
		extra = appendIntAggregate(extra, values, low, high)
	}
	return e.appendIntsOrSteps(values, low, high), extra
}

// appendIntsOrSteps appends values, which lie between low and high, as they are
// or as steps, whichever takes fewer bits, and says which.
func (e *encoder) appendIntsOrSteps(values []int64, low, high int64) (codec byte) {
	if len(values) > 2 && uint64(high-low) > 1 {
		steps := e.stepsOf(values)
		down, up := extent(steps)
		if bits.Len64(uint64(up-down)) < bits.Len64(uint64(high-low)) {
			e.bodies = binary.AppendVarint(e.bodies, values[0])
			e.bodies = appendPackedInts(e.bodies, steps, down, uint64(up-down))
			return codecSteps
		}
	}
	e.bodies = appendPackedInts(e.bodies, values, low, uint64(high-low))
	return codecInts
}

func (e *encoder) appendFloatColumn(values []float64, extra []byte, single bool) (codec byte, _ []byte) {
	if len(values) >= aggregateRows {
		extra, _ = appendFloatAggregate(extra, values)
	}
	at := len(e.bodies)
	if e.appendDecimals(values, single) && len(e.bodies)-at < len(values)*8 {
		return codecDecimals, extra
	}
	e.bodies = appendGorilla(e.bodies[:at], values)
	return codecGorilla, extra
}

// digitsOf is the least number of digits, from least on, with which v is a
// decimal.
func digitsOf(v float64, least int, single bool) (digits int, ok bool) {
	for digits = least; digits < len(powers); digits++ {
		if single {
			_, ok = scaleSingle(v, digits)
		} else {
			_, ok = scale(v, digits)
		}
		if ok {
			return digits, true
		}
	}
	return 0, false
}

// decimalSteps marks decimals of which the differences are packed.
const decimalSteps = 0x40

// appendDecimals appends values as packed decimals, or reports false if too
// many of them are none. Those that are none stand in a list.
func (e *encoder) appendDecimals(values []float64, single bool) bool {
	digits := 0
	// A few samples settle the number of digits nearly always.
	for i := 0; i < len(values); i += len(values)/8 + 1 {
		if n, ok := digitsOf(values[i], digits, single); ok {
			digits = n
		}
	}
	scaled := resize(e.ints, len(values))
	e.ints = scaled
	var strays []int
	for restart := true; restart; {
		restart = false
		strays = strays[:0]
		at := 0
		for at < len(values) {
			at += scaleAll(scaled[at:], values[at:], digits, single)
			if at == len(values) {
				break
			}
			if n, ok := digitsOf(values[at], digits+1, single); ok && len(strays) == 0 {
				digits, restart = n, true
				break
			}
			if strays = append(strays, at); len(strays) > len(values)/16 {
				return false
			}
			scaled[at] = 0
			if at > 0 {
				scaled[at] = scaled[at-1]
			}
			at++
		}
	}
	at := len(e.bodies)
	e.bodies = append(e.bodies, byte(digits))
	low, high := extent(scaled)
	if e.appendIntsOrSteps(scaled, low, high) == codecSteps {
		e.bodies[at] |= decimalSteps
	}
	if len(strays) > 0 {
		e.bodies[at] |= hasExceptions
	} else {
		return true
	}
	e.bodies = binary.AppendUvarint(e.bodies, uint64(len(strays)))
	before := 0
	for _, at := range strays {
		e.bodies = binary.AppendUvarint(e.bodies, uint64(at-before))
		e.bodies = binary.BigEndian.AppendUint64(e.bodies, math.Float64bits(values[at]))
		before = at
	}
	return true
}

// scaleAll scales values into dst until one of them is no decimal, and returns
// how many it did.
func scaleAll(dst []int64, values []float64, digits int, single bool) int {
	if single {
		for i, v := range values {
			n, ok := scaleSingle(v, digits)
			if !ok {
				return i
			}
			dst[i] = n
		}
		return len(values)
	}
	dst = dst[:len(values)]
	p := powers[digits]
	for i, v := range values {
		x := v * p
		if !(x > -1<<53 && x < 1<<53) {
			return i
		}
		n := int64(x + math.Copysign(0.5, x))
		if math.Float64bits(float64(n)/p) != math.Float64bits(v) {
			return i
		}
		dst[i] = n
	}
	return len(values)
}

// maxDictionary is the most distinct texts that are worth a dictionary.
const maxDictionary = 64

func (e *encoder) appendTextColumn(v *sql.Values, from, to int) (codec byte) {
	lengths := e.ints[:0]
	total := 0
	for i := from; i < to; i++ {
		if v.Nulls.Get(i) {
			continue
		}
		n := len(v.Bytes(i))
		lengths = append(lengths, int64(n))
		total += n
	}
	e.ints = lengths
	if total > 0 && len(lengths) >= aggregateRows && e.appendDictionary(v, from, to) {
		return codecDictionary
	}
	e.bodies = appendInts(e.bodies, lengths)
	for i := from; i < to; i++ {
		if !v.Nulls.Get(i) {
			e.bodies = append(e.bodies, v.Bytes(i)...)
		}
	}
	return codecTexts
}

// appendDictionary appends the texts as numbers of a dictionary, if there are
// few different ones.
func (e *encoder) appendDictionary(v *sql.Values, from, to int) bool {
	if e.numbers == nil {
		e.numbers = make(map[string]int64)
	}
	clear(e.numbers)
	var distinct []string
	codes := e.steps[:0]
	for i := from; i < to; i++ {
		if v.Nulls.Get(i) {
			continue
		}
		code, ok := e.numbers[string(v.Bytes(i))]
		if !ok {
			code = int64(len(distinct))
			if len(distinct) == maxDictionary || len(distinct) > (to-from)/4 {
				e.steps = codes
				return false
			}
			text := string(v.Bytes(i))
			distinct = append(distinct, text)
			e.numbers[text] = code
		}
		codes = append(codes, code)
	}
	e.steps = codes
	e.bodies = binary.AppendUvarint(e.bodies, uint64(len(distinct)))
	for _, text := range distinct {
		e.bodies = appendBytes(e.bodies, text)
	}
	e.bodies = appendInts(e.bodies, codes)
	return true
}

// appendOneRow appends a block of a single row.
func appendOneRow(dst []byte, rows *sql.Rows, row int, schema uint32) []byte {
	mark := len(dst)
	dst = append(dst, blockVersion|flagOneRow)
	dst = binary.AppendUvarint(dst, uint64(schema))
	dst = binary.AppendVarint(dst, rows.Timestamps[row])
	for i := range rows.Columns {
		if rows.Columns[i].Nulls.Get(row) {
			dst[mark] |= flagNulls
		}
	}
	if dst[mark]&flagNulls != 0 {
		at := len(dst)
		dst = append(dst, make([]byte, (len(rows.Columns)+7)/8)...)
		for i := range rows.Columns {
			if rows.Columns[i].Nulls.Get(row) {
				dst[at+i/8] |= 1 << (i & 7)
			}
		}
	}
	for i := range rows.Columns {
		c := &rows.Columns[i]
		if c.Nulls.Get(row) {
			continue
		}
		switch c.Type.Storage() {
		case sql.StoreInts:
			dst = binary.AppendVarint(dst, c.Ints[row])
		case sql.StoreFloats:
			dst = appendNumber(dst, c.Floats[row])
		default:
			dst = appendBytes(dst, c.Bytes(row))
		}
	}
	return dst
}

// countNulls is how many of the rows [from, to) are in the set.
func countNulls(nulls sql.Bitmap, from, to int) int {
	if len(nulls) == 0 {
		return 0
	}
	n := 0
	for i := from; i < to; i++ {
		if nulls.Get(i) {
			n++
		}
	}
	return n
}

// appendNulls appends the set of rows [from, to) as one bit each.
func appendNulls(dst []byte, nulls sql.Bitmap, from, to int) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, (to-from+7)/8)...)
	for i := from; i < to; i++ {
		if nulls.Get(i) {
			dst[at+(i-from)/8] |= 1 << ((i - from) & 7)
		}
	}
	return dst
}
