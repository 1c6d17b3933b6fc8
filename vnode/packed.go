package vnode

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Packed integers: a base (the smallest value), a width, and the differences
// from the base in as many bits. What does not fit the width is an exception:
// its low bits are packed like all others, its high bits follow in a list. The
// width is the one that makes the whole shortest, so a few outliers cost a few
// bytes each instead of widening everything.
//
//	byte    width (0 to 56, or 64) | 0x80 if there are exceptions
//	varint  base
//	        packed differences
//	uvarint exceptions, and for each: uvarint values since the one before,
//	        uvarint high bits
//
// exceptionBytes is what one exception is counted as when the width is chosen.
const (
	hasExceptions  = 0x80
	exceptionBytes = 3
)

// appendInts appends values, at least one.
func appendInts(dst []byte, values []int64) []byte {
	low, high := extent(values)
	return appendPackedInts(dst, values, low, uint64(high-low))
}

// extent is the smallest and the largest of values.
func extent(values []int64) (low, high int64) {
	low, high = values[0], values[0]
	for _, v := range values[1:] {
		low, high = min(low, v), max(high, v)
	}
	return low, high
}

// appendPackedInts appends values that lie between base and base+spread.
func appendPackedInts(dst []byte, values []int64, base int64, spread uint64) []byte {
	most := bits.Len64(spread)
	width, exceptions := most, 0
	if most > 1 && len(values) > 4 {
		width, exceptions = bestWidth(values, base, most)
	}
	if width > maxPackedWidth {
		width, exceptions = 64, 0
	}
	mark := byte(width)
	if exceptions > 0 {
		mark |= hasExceptions
	}
	dst = append(dst, mark)
	dst = binary.AppendVarint(dst, base)
	dst = appendPacked(dst, values, base, width)
	if exceptions == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(exceptions))
	before := 0
	for i, v := range values {
		if high := uint64(v-base) >> width; high != 0 {
			dst = binary.AppendUvarint(dst, uint64(i-before))
			dst = binary.AppendUvarint(dst, high)
			before = i
		}
	}
	return dst
}

// bestWidth is the width that makes values shortest and how many exceptions it
// leaves.
func bestWidth(values []int64, base int64, most int) (width, exceptions int) {
	var byLength [65]int
	for _, v := range values {
		byLength[bits.Len64(uint64(v-base))]++
	}
	width = most
	best := packedBytes(len(values), most)
	above := 0
	for w := most - 1; w >= 0; w-- {
		above += byLength[w+1]
		high := 1 + (most-w)/7 // bytes of the high bits
		size := packedBytes(len(values), w) + above*(exceptionBytes-1+high) + 2
		if w <= maxPackedWidth && size < best {
			best, width, exceptions = size, w, above
		}
	}
	return width, exceptions
}

// ints fills dst with packed integers.
func (d *decoder) ints(dst []int64) {
	mark := d.byte()
	width := int(mark &^ hasExceptions)
	base := d.varint()
	if width > maxPackedWidth && width != 64 {
		d.fail("bad width")
		return
	}
	packed := d.take(packedBytes(len(dst), width))
	if d.err != nil {
		return
	}
	unpack(dst, packed, base, width)
	if mark&hasExceptions == 0 {
		return
	}
	at := 0
	for n := d.count(2); n > 0; n-- {
		gap, high := d.uvarint(), d.uvarint()
		if d.err != nil || gap >= uint64(len(dst)-at) || width == 64 {
			d.fail("bad exception")
			return
		}
		at += int(gap)
		dst[at] += int64(high << width)
	}
}

// appendSteps appends the first value and the packed differences between
// neighbours: for what rises evenly, such as timestamps.
func (e *encoder) appendSteps(dst []byte, values []int64) []byte {
	dst = binary.AppendVarint(dst, values[0])
	if len(values) == 1 {
		return dst
	}
	return appendInts(dst, e.stepsOf(values))
}

// stepsOf is the differences between neighbours, in memory of e.
func (e *encoder) stepsOf(values []int64) []int64 {
	steps := e.steps[:0]
	for i, v := range values[1:] {
		steps = append(steps, v-values[i])
	}
	e.steps = steps
	return steps
}

// steps fills dst, which is not empty, with what appendSteps wrote.
func (d *decoder) steps(dst []int64) {
	at := d.varint()
	dst[0] = at
	if len(dst) == 1 {
		return
	}
	d.ints(dst[1:])
	for i, step := range dst[1:] {
		at += step
		dst[i+1] = at
	}
}

// powers are the exact powers of ten that scale decimals.
var powers = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// scale is v as a decimal with digits digits behind the point, if dividing it
// again gives v back bit for bit.
func scale(v float64, digits int) (int64, bool) {
	p := powers[digits]
	x := v * p
	if !(x > -1<<53 && x < 1<<53) { // not for NaN either
		return 0, false
	}
	n := int64(x + math.Copysign(0.5, x))
	return n, math.Float64bits(float64(n)/p) == math.Float64bits(v)
}

// scaleSingle is scale for a FLOAT, whose decimals are exact in 32 bits only.
func scaleSingle(v float64, digits int) (int64, bool) {
	p := powers[digits]
	x := v * p
	if !(x > -1<<31 && x < 1<<31) {
		return 0, false
	}
	n := int64(x + math.Copysign(0.5, x))
	return n, math.Float64bits(float64(float32(float64(n)/p))) == math.Float64bits(v)
}

// rawNumber stands in place of the digits of a number that is no short decimal.
const rawNumber = 0x7f

// appendNumber appends one double in a few bytes if it is a short decimal.
func appendNumber(dst []byte, v float64) []byte {
	for digits := range powers {
		if n, ok := scale(v, digits); ok {
			dst = append(dst, byte(digits))
			return binary.AppendVarint(dst, n)
		}
	}
	dst = append(dst, rawNumber)
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(v))
}

// number reads what appendNumber wrote.
func (d *decoder) number() float64 {
	digits := int(d.byte())
	switch {
	case digits == rawNumber:
		return math.Float64frombits(d.uint64())
	case digits >= len(powers):
		d.fail("bad decimal")
		return 0
	}
	return float64(d.varint()) / powers[digits]
}
