package rest

import (
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/node/query"
)

// The order of the keys is part of the contract: streaming clients need
// column_meta before data. So the answer is written by hand, which is also
// several times faster than reflection.

// answer is what the writer needs to know about a request.
type answer struct {
	zone   timeZone // of the text of timestamps
	asMaps bool     // row_with_meta: rows are objects
	rowCap int      // restfulRowLimit; negative: none
}

// chunkBytes is how much JSON is collected before it goes to the connection.
const chunkBytes = 64 << 10

// appendChanged is the whole answer to a statement that changed something.
func (a *answer) appendChanged(b []byte, affected int64) []byte {
	b = append(b, `{"code":0,"column_meta":[["affected_rows","INT",4]],"data":[`...)
	if a.asMaps {
		b = append(b, `{"affected_rows":`...)
		b = strconv.AppendInt(b, affected, 10)
		b = append(b, '}')
	} else {
		b = append(b, '[')
		b = strconv.AppendInt(b, affected, 10)
		b = append(b, ']')
	}
	return append(b, `],"rows":1`...)
}

// appendHead is everything before the rows.
func appendHead(b []byte, columns []sql.Values) []byte {
	b = append(b, `{"code":0,"column_meta":[`...)
	for i := range columns {
		if i > 0 {
			b = append(b, ',')
		}
		c := &columns[i].Column
		b = append(b, '[')
		b = appendString(b, c.Name)
		b = append(b, `,"`...)
		b = append(b, typeName(c)...)
		b = append(b, `",`...)
		b = strconv.AppendInt(b, int64(length(c)), 10)
		b = append(b, ']')
	}
	return append(b, `],"data":[`...)
}

func typeName(c *sql.Column) string {
	if c.Type == sql.TypeDecimal {
		return "DECIMAL(" + strconv.Itoa(c.Length) + "," + strconv.Itoa(c.Scale) + ")"
	}
	return c.Type.String()
}

func length(c *sql.Column) int {
	if w := c.Type.Width(); w > 0 {
		return w
	}
	return c.Length
}

// appendRows writes all rows; flush takes what has been collected whenever it
// is a chunk, and returns the emptied buffer.
func (a *answer) appendRows(b []byte, r *query.Result, flush func([]byte) ([]byte, error)) ([]byte, int, error) {
	rows := r.Rows
	if a.rowCap >= 0 && rows > a.rowCap {
		rows = a.rowCap
	}
	keys := a.keys(r.Columns)
	times := timeText{zone: a.zone, precision: r.Precision}
	opening, closing := byte('['), byte(']')
	if a.asMaps {
		opening, closing = '{', '}'
	}
	for row := range rows {
		if row > 0 {
			b = append(b, ',')
		}
		b = append(b, opening)
		for i := range r.Columns {
			if i > 0 {
				b = append(b, ',')
			}
			if a.asMaps {
				b = append(b, keys[i]...)
			}
			b = appendCell(b, &r.Columns[i], row, &times)
		}
		b = append(b, closing)
		if len(b) >= chunkBytes {
			var err error
			if b, err = flush(b); err != nil {
				return b, rows, err
			}
		}
	}
	return b, rows, nil
}

// keys are the column names as they open the cells of a row that is an object.
func (a *answer) keys(columns []sql.Values) [][]byte {
	if !a.asMaps {
		return nil
	}
	keys := make([][]byte, len(columns))
	for i := range columns {
		keys[i] = append(appendString(nil, columns[i].Name), ':')
	}
	return keys
}

func appendCell(b []byte, v *sql.Values, row int, times *timeText) []byte {
	if v.Nulls.Get(row) || v.Type.Storage() == sql.StoreNone {
		return append(b, "null"...)
	}
	switch v.Type {
	case sql.TypeBool:
		return strconv.AppendBool(b, v.Ints[row] != 0)
	case sql.TypeTimestamp:
		return times.append(b, v.Ints[row])
	case sql.TypeUBigInt:
		return strconv.AppendUint(b, uint64(v.Ints[row]), 10)
	case sql.TypeFloat:
		return appendFloat(b, v.Floats[row], 32)
	case sql.TypeDouble:
		return appendFloat(b, v.Floats[row], 64)
	case sql.TypeVarBinary, sql.TypeGeometry, sql.TypeBlob:
		return appendHex(b, v.Bytes(row))
	case sql.TypeJSON:
		return append(b, v.Bytes(row)...)
	}
	if v.Type.Storage() == sql.StoreInts {
		return strconv.AppendInt(b, v.Ints[row], 10)
	}
	return appendString(b, v.Bytes(row))
}

// appendFloat writes the shortest text that reads back to the same number:
// plain for 1e-6 <= |x| < 1e21, with an exponent outside, null for what JSON
// can't say.
func appendFloat(b []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, "null"...)
	}
	abs := math.Abs(f)
	if bits == 32 {
		abs = float64(float32(abs))
	}
	if abs == 0 || (abs >= 1e-6 && abs < 1e21) {
		return strconv.AppendFloat(b, f, 'f', -1, bits)
	}
	b = strconv.AppendFloat(b, f, 'e', -1, bits)
	// Go writes e-07 where JSON's other writers say e-7.
	if n := len(b); n >= 4 && b[n-4] == 'e' && b[n-2] == '0' {
		b[n-2] = b[n-1]
		b = b[:n-1]
	}
	return b
}

const hexDigits = "0123456789abcdef"

func appendHex(b, raw []byte) []byte {
	b = append(b, '"')
	for _, c := range raw {
		b = append(b, hexDigits[c>>4], hexDigits[c&15])
	}
	return append(b, '"')
}

// appendString writes a JSON string. Bytes that are no UTF-8 become the
// replacement character, as JSON has no way to say them.
func appendString[T ~string | ~[]byte](b []byte, s T) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			b = appendEscaped(b, c)
			i++
			start = i
			continue
		}
		r, size := decodeRune(s[i:])
		if r == utf8.RuneError && size == 1 {
			b = append(b, s[start:i]...)
			b = append(b, "\ufffd"...)
			start = i + 1
		}
		i += size
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

func decodeRune[T ~string | ~[]byte](s T) (rune, int) {
	var first [utf8.UTFMax]byte
	return utf8.DecodeRune(first[:copy(first[:], s)])
}

func appendEscaped(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
