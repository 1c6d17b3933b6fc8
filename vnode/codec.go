package vnode

import (
	"encoding/binary"
	"math"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// decoder takes bytes apart. After the first thing that does not fit everything
// reads as zero and err says what was wrong, so a caller may check once, at the
// end, but before it believes a length: count does that itself.
type decoder struct {
	src []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = corruptf("%s", what)
	}
	d.src = nil
}

// stop is fail with an error of its own, or nothing if that is nil.
func (d *decoder) stop(err error) {
	if err != nil && d.err == nil {
		d.err, d.src = err, nil
	}
}

func (d *decoder) byte() byte {
	if len(d.src) == 0 {
		d.fail("ends in the middle")
		return 0
	}
	b := d.src[0]
	d.src = d.src[1:]
	return b
}

func (d *decoder) uint64() uint64 {
	if len(d.src) < 8 {
		d.fail("ends in the middle")
		return 0
	}
	x := binary.BigEndian.Uint64(d.src)
	d.src = d.src[8:]
	return x
}

func (d *decoder) uvarint() uint64 {
	if len(d.src) > 0 && d.src[0] < 0x80 { // most are small
		x := uint64(d.src[0])
		d.src = d.src[1:]
		return x
	}
	x, n := binary.Uvarint(d.src)
	if n <= 0 {
		d.fail("bad number")
		return 0
	}
	d.src = d.src[n:]
	return x
}

func (d *decoder) varint() int64 {
	x := d.uvarint()
	return int64(x>>1) ^ -int64(x&1)
}

// count reads a number of things of which each takes at least size bytes, and
// refuses one that the rest can't hold.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.src)/size) {
		d.fail("count exceeds what is there")
		return 0
	}
	return int(n)
}

// take is the next n bytes, not copied.
func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.src) {
		d.fail("ends in the middle")
		return nil
	}
	b := d.src[:n:n]
	d.src = d.src[n:]
	return b
}

// bytes is a length and as many bytes, not copied.
func (d *decoder) bytes() []byte { return d.take(d.count(1)) }

func (d *decoder) text() string { return string(d.bytes()) }

// end is the error so far, or that something is left over.
func (d *decoder) end() error {
	if d.err == nil && len(d.src) > 0 {
		d.fail("has a tail")
	}
	return d.err
}

func appendBytes[T string | []byte](dst []byte, b T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

func appendColumn(dst []byte, c sql.Column) []byte {
	dst = appendBytes(dst, c.Name)
	dst = append(dst, byte(c.Type))
	dst = binary.AppendUvarint(dst, uint64(c.Length))
	return binary.AppendUvarint(dst, uint64(c.Scale))
}

func (d *decoder) column() sql.Column {
	c := sql.Column{Name: d.text(), Type: sql.Type(d.byte())}
	c.Length, c.Scale = int(d.uvarint()&math.MaxInt32), int(d.uvarint()&math.MaxInt32)
	if d.err == nil && (!c.Type.Valid() || len(c.Name) == 0 || len(c.Name) > MaxNameBytes) {
		d.fail("bad column")
	}
	return c
}

func appendColumns(dst []byte, columns []sql.Column) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(columns)))
	for _, c := range columns {
		dst = appendColumn(dst, c)
	}
	return dst
}

// columnBytes is the least that a column takes.
const columnBytes = 5

func (d *decoder) columns(most int) []sql.Column {
	n := d.count(columnBytes)
	if n > most {
		d.fail("too many columns")
		return nil
	}
	columns := make([]sql.Column, n)
	for i := range columns {
		columns[i] = d.column()
	}
	return columns
}

func appendValue(dst []byte, v sql.Value) []byte {
	dst = append(dst, byte(v.Type))
	switch v.Type.Storage() {
	case sql.StoreInts:
		dst = binary.AppendVarint(dst, v.Int)
	case sql.StoreFloats:
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(v.Float))
	case sql.StoreBytes:
		dst = appendBytes(dst, v.Text)
	}
	return dst
}

func (d *decoder) value() sql.Value {
	v := sql.Value{Type: sql.Type(d.byte())}
	if !v.Type.Valid() {
		d.fail("bad type")
		return sql.Value{}
	}
	switch v.Type.Storage() {
	case sql.StoreInts:
		v.Int = d.varint()
	case sql.StoreFloats:
		v.Float = math.Float64frombits(d.uint64())
	case sql.StoreBytes:
		v.Text = d.text()
	}
	return v
}

func appendValues(dst []byte, values []sql.Value) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(values)))
	for _, v := range values {
		dst = appendValue(dst, v)
	}
	return dst
}

func (d *decoder) values(most int) []sql.Value {
	n := d.count(1)
	if n > most {
		d.fail("too many values")
		return nil
	}
	values := make([]sql.Value, n)
	for i := range values {
		values[i] = d.value()
	}
	return values
}
