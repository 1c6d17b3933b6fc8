package sql

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Scalar is the value that a constant expression of a statement has in column or
// tag c. Times are read at m in precision p.
func (m Moment) Scalar(e Expr, c Column, p Precision) (Value, error) {
	if l, ok := e.(*Literal); ok {
		v, err := m.coerce(l.Value, &c, p)
		if err != nil {
			return Value{}, errorf(err.Code, "%s (%s)", err.Text, c.Name)
		}
		return v, nil
	}
	if c.Type == TypeTimestamp {
		ts, err := m.Time(e, p)
		return Value{Type: TypeTimestamp, Int: ts}, err
	}
	return Value{}, errorf(CodeValueType, "Invalid value type: %s is not a constant (%s)", clip(e.String()), c.Name)
}

// TagValues is what u says about these tags of its super table, one value for
// each; NULL for those that it does not name.
func (m Moment) TagValues(u Using, tags []Column, p Precision) ([]Value, error) {
	if len(u.Tags) == 0 && len(u.Values) != len(tags) {
		return nil, errorf(CodeTagCount, "Tags number not matched: %d values for %d tags of %s", len(u.Values), len(tags), u.Table)
	}
	values := make([]Value, len(tags))
	given := make([]bool, len(tags))
	for i, e := range u.Values {
		at := i
		if len(u.Tags) > 0 {
			at = indexOf(tags, u.Tags[i])
			if at < 0 {
				return nil, errorf(CodeColumnName, "Invalid column name: %s is no tag of %s", u.Tags[i], u.Table)
			}
		}
		if given[at] {
			return nil, errorf(CodeColumnName, "Invalid column name: %s stands twice", tags[at].Name)
		}
		given[at] = true
		v, err := m.Scalar(e, tags[at], p)
		if err != nil {
			return nil, err
		}
		values[at] = v
	}
	return values, nil
}

func indexOf(columns []Column, name string) int {
	for i := range columns {
		if columns[i].Name == name {
			return i
		}
	}
	return -1
}

// coerce is constant v as a value of column c. It allocates only for what it
// refuses and for text that changes.
func (m Moment) coerce(v Value, c *Column, p Precision) (Value, *Error) {
	if v.IsNull() {
		return v, nil
	}
	switch {
	case c.Type == TypeTimestamp:
		return m.coerceTime(v, p)
	case v.Type == TypeTimestamp: // NOW and TODAY
		return Value{}, mismatch(v, c)
	case c.Type == TypeBool:
		return coerceBool(v, c)
	case c.Type.Integer():
		return coerceInt(v, c)
	case c.Type.Storage() == StoreFloats:
		return coerceFloat(v, c)
	}
	return coerceText(v, c)
}

// mismatch says that v can't be a value of c.
func mismatch(v Value, c *Column) *Error {
	return errorf(CodeValueType, "Invalid value type: %s is not a %s", clip(v.SQL()), c.declaration())
}

func outOfRange(v Value, c *Column) *Error {
	return errorf(CodeOutOfRange, "Value out of range: %s does not fit into %s", clip(v.SQL()), c.declaration())
}

func (m Moment) coerceTime(v Value, p Precision) (Value, *Error) {
	out := Value{Type: TypeTimestamp, Int: v.Int}
	switch v.Type {
	case TypeBigInt, TypeTimestamp:
		return out, nil
	case TypeUBigInt:
		return out, outOfRange(v, &Column{Type: TypeTimestamp})
	case TypeVarchar:
		ts, err := timeText(v.Text, m.Zone, p)
		out.Int = ts
		return out, err
	}
	return out, mismatch(v, &Column{Type: TypeTimestamp})
}

func coerceBool(v Value, c *Column) (Value, *Error) {
	out := Value{Type: TypeBool}
	switch {
	case v.Type == TypeVarchar && (strings.EqualFold(v.Text, "true") || v.Text == "1"):
		out.Int = 1
	case v.Type == TypeVarchar && (strings.EqualFold(v.Text, "false") || v.Text == "0"):
	case v.Type == TypeBool, v.Type == TypeBigInt && (v.Int == 0 || v.Int == 1):
		out.Int = v.Int
	default:
		return out, mismatch(v, c)
	}
	return out, nil
}

// numeric is v as a number: a quoted number is one as well.
func numeric(v Value) (Value, bool, *Error) {
	if v.Type != TypeVarchar {
		return v, v.Type.Numeric(), nil
	}
	l := lexer{src: v.Text}
	t := l.next()
	minus := t.kind == symbol && t.text == "-"
	if minus || t.kind == symbol && t.text == "+" {
		t = l.next()
	}
	if t.kind != integer && t.kind != decimal || l.next().kind != end {
		return v, false, nil
	}
	n, err := parseNumber(t, minus)
	return n, true, err
}

func coerceInt(v Value, c *Column) (Value, *Error) {
	n, ok, err := numeric(v)
	if err != nil || !ok {
		if err == nil {
			err = mismatch(v, c)
		}
		return n, err
	}
	limits := types[c.Type]
	out := Value{Type: c.Type, Int: n.Int}
	switch {
	case n.Type == TypeDouble:
		if n.Float != math.Trunc(n.Float) {
			return out, errorf(CodeValueType, "Invalid value type: %s would lose its decimals in %s", clip(v.SQL()), c.declaration())
		}
		if n.Float < -1<<63 || n.Float >= 1<<63 {
			return out, outOfRange(v, c)
		}
		out.Int = int64(n.Float)
	case n.Type == TypeUBigInt && c.Type == TypeUBigInt:
		return out, nil
	case n.Type == TypeUBigInt:
		return out, outOfRange(v, c)
	}
	if c.Type == TypeUBigInt && out.Int >= 0 {
		return out, nil
	}
	if out.Int < limits.min || out.Int > limits.max {
		return out, outOfRange(v, c)
	}
	return out, nil
}

func coerceFloat(v Value, c *Column) (Value, *Error) {
	n, ok, err := numeric(v)
	if err != nil || !ok {
		if err == nil {
			err = mismatch(v, c)
		}
		return n, err
	}
	out := Value{Type: c.Type, Float: n.Float}
	switch n.Type {
	case TypeBigInt:
		out.Float = float64(n.Int)
	case TypeUBigInt:
		out.Float = float64(uint64(n.Int))
	}
	if c.Type == TypeFloat {
		out.Float = float64(float32(out.Float))
		if math.IsInf(out.Float, 0) {
			return out, outOfRange(v, c)
		}
	}
	return out, nil
}

// coerceText makes values of varying length. Numbers and booleans become their
// text.
func coerceText(v Value, c *Column) (Value, *Error) {
	out := Value{Type: c.Type, Text: v.Text}
	switch {
	case v.Type == TypeDouble:
		out.Text = strconv.FormatFloat(v.Float, 'g', -1, 64)
	case v.Type != TypeVarchar:
		out.Text = v.SQL()
	}
	length := len(out.Text)
	switch c.Type {
	case TypeVarchar:
	case TypeNChar:
		if !utf8.ValidString(out.Text) {
			return out, errorf(CodeValueType, "Invalid value type: not valid UTF-8 for %s", c.declaration())
		}
		length = utf8.RuneCountInString(out.Text)
	case TypeVarBinary:
		if rest, ok := strings.CutPrefix(out.Text, `\x`); ok {
			b, err := hex.DecodeString(rest)
			if err != nil {
				return out, mismatch(v, c)
			}
			out.Text, length = string(b), len(b)
		}
	case TypeJSON:
		if !json.Valid([]byte(out.Text)) {
			return out, mismatch(v, c)
		}
	default:
		return out, errorf(CodeNotSupported, "values of type %s are not supported in this version", c.Type)
	}
	if length > c.Length {
		return out, errorf(CodeValueTooLong, "Value too long for column/tag: %s: %d, at most %d", c.Name, length, c.Length)
	}
	return out, nil
}
