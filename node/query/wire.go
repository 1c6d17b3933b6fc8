package query

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// What one host answers another about its part of a statement. It lives only on
// the wire between two hosts of one cluster; the version is for upgrades.
//
//	part     = version:1 flags:1 affected:uvarint precision:1 rows:uvarint columns:uvarint column*
//	column   = name type:1 length:uvarint scale:uvarint nulls values
//	name     = length:uvarint bytes
//	nulls    = words:uvarint word:8*
//	values   = rows * 8 bytes (integers, floats) | rows * end:4, bytes (text)
const partVersion = 1

// maxPartColumns bounds the columns of a part: 4,096 of a table, and eight
// numbers for each that is aggregated.
const maxPartColumns = 8*4096 + 64

// part is what one group contributes to a statement.
type part struct {
	super     bool // the table is a super table: the other groups hold some of it too
	affected  int64
	precision sql.Precision
	columns   []sql.Values
	rows      int
}

var errPart = errors.New("answer of another host is damaged or from a newer version")

func (p *part) encode() []byte {
	b := make([]byte, 0, 64+p.bytes())
	b = append(b, partVersion, flag(p.super))
	b = binary.AppendUvarint(b, uint64(p.affected))
	b = append(b, byte(p.precision))
	b = binary.AppendUvarint(b, uint64(p.rows))
	b = binary.AppendUvarint(b, uint64(len(p.columns)))
	for i := range p.columns {
		b = appendColumn(b, &p.columns[i])
	}
	return b
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// bytes is about how much memory the values take.
func (p *part) bytes() int {
	n := 0
	for i := range p.columns {
		v := &p.columns[i]
		n += 8*len(v.Ints) + 8*len(v.Floats) + 4*len(v.Ends) + len(v.Data) + 8*len(v.Nulls) + 32
	}
	return n
}

func appendColumn(b []byte, v *sql.Values) []byte {
	b = binary.AppendUvarint(b, uint64(len(v.Name)))
	b = append(b, v.Name...)
	b = append(b, byte(v.Type))
	b = binary.AppendUvarint(b, uint64(v.Length))
	b = binary.AppendUvarint(b, uint64(v.Scale))
	b = binary.AppendUvarint(b, uint64(len(v.Nulls)))
	for _, w := range v.Nulls {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	for _, n := range v.Ints {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	for _, f := range v.Floats {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
	}
	for _, end := range v.Ends {
		b = binary.LittleEndian.AppendUint32(b, end)
	}
	return append(b, v.Data...)
}

// reader takes bytes apart. After the first error it returns zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errPart, what)
	}
	r.b = nil
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail("it ends early")
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// number reads a count and refuses one above limit.
func (r *reader) number(limit uint64) uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > limit {
		r.fail("a count is out of range")
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) text(limit uint64) string { return string(r.take(r.number(limit))) }

// The bounds of texts in messages between hosts.
const (
	maxNameBytes      = 1 << 10
	maxStatementBytes = 2 << 20
)

func decodePart(b []byte) (*part, error) {
	r := &reader{b: b}
	if v := r.byte(); v != partVersion && r.err == nil {
		r.fail(fmt.Sprintf("version %d", v))
	}
	p := &part{super: r.byte() == 1}
	p.affected = int64(r.number(math.MaxInt64))
	p.precision = sql.Precision(r.byte())
	if p.precision > sql.Nanosecond {
		r.fail("precision")
	}
	// A row of no column at all takes no byte: only columns make rows believable.
	p.rows = int(r.number(math.MaxInt32))
	columns := r.number(maxPartColumns)
	if columns == 0 && p.rows > 0 {
		r.fail("rows without columns")
	}
	for range columns {
		if r.err != nil {
			break
		}
		p.columns = append(p.columns, r.column(p.rows))
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail("it goes on after its end")
	}
	return p, r.err
}

func (r *reader) column(rows int) (v sql.Values) {
	v.Name = r.text(maxNameBytes)
	v.Type = sql.Type(r.byte())
	v.Length = int(r.number(math.MaxInt32))
	v.Scale = int(r.number(math.MaxInt32))
	if !v.Type.Valid() {
		r.fail("type")
		return v
	}
	words := r.take(8 * r.number(uint64(rows+63)/64))
	for ; len(words) > 0; words = words[8:] {
		v.Nulls = append(v.Nulls, binary.LittleEndian.Uint64(words))
	}
	switch v.Type.Storage() {
	case sql.StoreInts:
		if b := r.take(8 * uint64(rows)); b != nil {
			v.Ints = make([]int64, rows)
			for i := range v.Ints {
				v.Ints[i] = int64(binary.LittleEndian.Uint64(b[8*i:]))
			}
		}
	case sql.StoreFloats:
		if b := r.take(8 * uint64(rows)); b != nil {
			v.Floats = make([]float64, rows)
			for i := range v.Floats {
				v.Floats[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
			}
		}
	default:
		r.texts(&v, rows)
	}
	return v
}

// texts reads the values of a column of varying length. NULL columns are of
// this kind too, so that they have a length.
func (r *reader) texts(v *sql.Values, rows int) {
	b := r.take(4 * uint64(rows))
	if b == nil {
		return
	}
	v.Ends = make([]uint32, rows)
	last := uint32(0)
	for i := range v.Ends {
		v.Ends[i] = binary.LittleEndian.Uint32(b[4*i:])
		if v.Ends[i] < last {
			r.fail("texts overlap")
			return
		}
		last = v.Ends[i]
	}
	v.Data = append([]byte(nil), r.take(uint64(last))...)
}
