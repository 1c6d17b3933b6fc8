package sql

import (
	"fmt"
	"strconv"
	"strings"
)

// ops holds the spelling of the operators and how tightly they bind.
var ops = [...]struct {
	text  string
	level int
}{
	OpOr: {" OR ", 1}, OpAnd: {" AND ", 2}, OpNot: {"NOT ", 3},
	OpEq: {" = ", 4}, OpNe: {" <> ", 4}, OpLt: {" < ", 4}, OpLe: {" <= ", 4}, OpGt: {" > ", 4}, OpGe: {" >= ", 4},
	OpLike: {" LIKE ", 4}, OpNotLike: {" NOT LIKE ", 4}, OpMatch: {" MATCH ", 4}, OpNotMatch: {" NMATCH ", 4},
	OpAdd: {" + ", 5}, OpSub: {" - ", 5}, OpMul: {" * ", 6}, OpDiv: {" / ", 6}, OpMod: {" % ", 6}, OpNeg: {"-", 7},
}

const (
	comparisonLevel = 4
	sumLevel        = 5
	atomLevel       = 8
)

// String is the operator as it is written, without blanks around it.
func (o Op) String() string {
	if int(o) >= len(ops) || o == 0 {
		return fmt.Sprintf("operator %d", uint8(o))
	}
	return strings.TrimSpace(ops[o].text)
}

// level says how tightly the outermost operator of e binds.
func level(e Expr) int {
	switch e := e.(type) {
	case *Binary:
		return ops[e.Op].level
	case *Unary:
		return ops[e.Op].level
	case *Between, *In, *IsNull:
		return comparisonLevel
	}
	return atomLevel
}

// inside prints an operand, in parentheses if it binds less tightly than least.
func inside(e Expr, least int) string {
	if level(e) < least {
		return "(" + e.String() + ")"
	}
	return e.String()
}

func (r *Ref) String() string {
	if r.Table != "" {
		return quoteName(r.Table) + "." + quoteName(r.Name)
	}
	return quoteName(r.Name)
}

func (s *Star) String() string {
	if s.Table != "" {
		return quoteName(s.Table) + ".*"
	}
	return "*"
}

func (l *Literal) String() string { return l.Value.SQL() }

func (c *Call) String() string {
	if c.Type.Type != TypeNull {
		return c.Name + "(" + join(c.Args) + " AS " + c.Type.declaration() + ")"
	}
	return c.Name + "(" + join(c.Args) + ")"
}

func (b *Binary) String() string {
	op := ops[b.Op]
	left := op.level
	if left == comparisonLevel {
		left++ // comparisons do not chain
	}
	return inside(b.X, left) + op.text + inside(b.Y, op.level+1)
}

func (u *Unary) String() string {
	if u.Op == OpNot {
		return "NOT " + inside(u.X, ops[OpNot].level)
	}
	s := inside(u.X, atomLevel)
	if l, ok := u.X.(*Literal); ok && l.Value.Type.Numeric() {
		s = "(" + s + ")" // the sign would become a part of the number
	}
	return "-" + s
}

func (b *Between) String() string {
	return inside(b.X, sumLevel) + not(b.Not) + " BETWEEN " + inside(b.Low, sumLevel) + " AND " + inside(b.High, sumLevel)
}

func (i *In) String() string {
	return inside(i.X, sumLevel) + not(i.Not) + " IN (" + join(i.List) + ")"
}

func (i *IsNull) String() string {
	return inside(i.X, sumLevel) + " IS" + not(i.Not) + " NULL"
}

func not(is bool) string {
	if is {
		return " NOT"
	}
	return ""
}

// join prints expressions with commas between them.
func join(list []Expr) string {
	var b strings.Builder
	for i, e := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(e.String())
	}
	return b.String()
}

// SQL is the value as a constant of a statement. A BIGINT UNSIGNED, a DOUBLE and
// a VARCHAR keep their types, integers and timestamps become BIGINT, everything
// of bytes a string.
func (v Value) SQL() string {
	switch v.Type.Storage() {
	case StoreInts:
		if v.Type == TypeBool {
			return strconv.FormatBool(v.Int != 0)
		}
		if v.Type == TypeUBigInt {
			return strconv.FormatUint(uint64(v.Int), 10)
		}
		return strconv.FormatInt(v.Int, 10)
	case StoreFloats:
		return formatFloat(v.Float)
	case StoreBytes:
		return quoteString(v.Text)
	}
	return "NULL"
}

// quoteString is s as a string of a statement.
func quoteString(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('\'')
	for i := range len(s) {
		switch c := s[i]; c {
		case '\'', '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\n':
			b.WriteString(`\n`)
		case '\t':
			b.WriteString(`\t`)
		case '\r':
			b.WriteString(`\r`)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// quoteName is a name as it must be written: in back quotes where it would be
// folded, or mean something else, without them.
func quoteName(name string) string {
	plain := name != "" && classes[name[0]] == classLetter && !isReserved(name)
	for i := 0; plain && i < len(name); i++ {
		c := name[i]
		plain = classes[c]&(classLetter|classDigit) != 0 && (c < 'A' || c > 'Z')
	}
	if plain {
		return name
	}
	return "`" + name + "`"
}

func (t TableName) String() string {
	if t.Database != "" {
		return quoteName(t.Database) + "." + quoteName(t.Name)
	}
	return quoteName(t.Name)
}

// declaration is the type of c as CREATE TABLE takes it.
func (c Column) declaration() string {
	switch c.Type {
	case TypeVarchar, TypeNChar, TypeVarBinary, TypeGeometry:
		return fmt.Sprintf("%s(%d)", c.Type, c.Length)
	case TypeDecimal:
		return fmt.Sprintf("%s(%d, %d)", c.Type, c.Length, c.Scale)
	}
	return c.Type.String()
}

// String is the column as CREATE TABLE takes it.
func (c Column) String() string { return quoteName(c.Name) + " " + c.declaration() }
