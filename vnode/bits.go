package vnode

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// maxPackedWidth is the widest value that is packed. An unaligned load of 8
// bytes holds any value of up to 56 bits, wherever it starts; wider ones are
// written as 64 bits.
const maxPackedWidth = 56

// packedBytes is how long n packed values of width bits are.
func packedBytes(n, width int) int { return (n*width + 7) / 8 }

// appendPacked appends the low width bits of every value less base.
func appendPacked(dst []byte, values []int64, base int64, width int) []byte {
	if width == 0 {
		return dst
	}
	if width == 64 {
		for _, v := range values {
			dst = binary.LittleEndian.AppendUint64(dst, uint64(v-base))
		}
		return dst
	}
	mask := uint64(1)<<width - 1
	var acc uint64
	used := 0
	for _, v := range values {
		x := uint64(v-base) & mask
		acc |= x << used
		used += width
		if used >= 64 {
			dst = binary.LittleEndian.AppendUint64(dst, acc)
			used -= 64
			acc = x >> (width - used)
		}
	}
	for ; used > 0; used -= 8 {
		dst = append(dst, byte(acc))
		acc >>= 8
	}
	return dst
}

// unpack fills dst with base plus the packed values. src is exactly
// packedBytes(len(dst), width) long.
func unpack(dst []int64, src []byte, base int64, width int) {
	switch width {
	case 0:
		for i := range dst {
			dst[i] = base
		}
		return
	case 64:
		for i := range dst {
			dst[i] = base + int64(binary.LittleEndian.Uint64(src[i*8:]))
		}
		return
	}
	mask := uint64(1)<<width - 1
	at, i := 0, 0
	// Every load takes 8 bytes: the last values need the padded copy below.
	for end := len(src) - 8; i < len(dst) && at>>3 <= end; i++ {
		x := binary.LittleEndian.Uint64(src[at>>3:]) >> (at & 7)
		dst[i] = base + int64(x&mask)
		at += width
	}
	if i == len(dst) {
		return
	}
	var tail [16]byte
	start := at >> 3
	copy(tail[:], src[start:])
	for ; i < len(dst); i++ {
		x := binary.LittleEndian.Uint64(tail[at>>3-start:]) >> (at & 7)
		dst[i] = base + int64(x&mask)
		at += width
	}
}

// bitWriter appends bits, the first one lowest.
type bitWriter struct {
	dst  []byte
	acc  uint64
	used int
}

// put appends the low n bits of x, n <= 64; the others must be zero.
func (w *bitWriter) put(x uint64, n int) {
	w.acc |= x << w.used
	w.used += n
	if w.used >= 64 {
		w.dst = binary.LittleEndian.AppendUint64(w.dst, w.acc)
		w.used -= 64
		w.acc = x >> (n - w.used) // a shift by 64 gives zero
	}
}

// bytes is everything written, the last byte filled up with zeros.
func (w *bitWriter) bytes() []byte {
	for ; w.used > 0; w.used -= 8 {
		w.dst = append(w.dst, byte(w.acc))
		w.acc >>= 8
	}
	w.used = 0
	return w.dst
}

// bitReader reads what a bitWriter wrote. Reading past the end gives zeros and
// sets short.
type bitReader struct {
	src   []byte
	at    int // in bits
	short bool
}

// get reads n bits, n <= 64.
func (r *bitReader) get(n int) uint64 {
	if n > 56 {
		low := r.get(32)
		return low | r.get(n-32)<<32
	}
	if r.at+n > len(r.src)*8 {
		r.short = true
		return 0
	}
	var x uint64
	if start := r.at >> 3; start+8 <= len(r.src) {
		x = binary.LittleEndian.Uint64(r.src[start:])
	} else {
		var tail [8]byte
		copy(tail[:], r.src[start:])
		x = binary.LittleEndian.Uint64(tail[:])
	}
	x >>= r.at & 7
	r.at += n
	return x & (1<<n - 1)
}

// appendGorilla appends doubles as XORs with the one before: the fall-back for
// values that are no short decimals.
func appendGorilla(dst []byte, values []float64) []byte {
	w := bitWriter{dst: dst}
	var before uint64
	lead, trail := 65, 0 // no window yet
	for _, v := range values {
		now := math.Float64bits(v)
		x := now ^ before
		before = now
		if x == 0 {
			w.put(0, 1)
			continue
		}
		l, t := min(bits.LeadingZeros64(x), 31), bits.TrailingZeros64(x)
		if l >= lead && t >= trail {
			w.put(0b01, 2)
			w.put(x>>trail, 64-lead-trail)
			continue
		}
		lead, trail = l, t
		w.put(0b11, 2)
		w.put(uint64(l), 5)
		w.put(uint64(63-l-t), 6) // length less one
		w.put(x>>t, 64-l-t)
	}
	return w.bytes()
}

// decodeGorilla fills dst.
func decodeGorilla(dst []float64, src []byte) error {
	r := bitReader{src: src}
	var before uint64
	lead, trail := 0, 0
	for i := range dst {
		if r.get(1) == 1 {
			if r.get(1) == 1 {
				lead = int(r.get(5))
				length := int(r.get(6)) + 1
				if lead+length > 64 {
					return corruptf("double %d of %d bits after %d zeros", i, length, lead)
				}
				trail = 64 - lead - length
			}
			before ^= r.get(64-lead-trail) << trail
		}
		dst[i] = math.Float64frombits(before)
	}
	if r.short {
		return corruptf("%d doubles in %d bytes", len(dst), len(src))
	}
	return nil
}
