package query

import (
	"math"
	"strconv"
	"strings"

	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/vnode"
)

// cursor is the place at which an expression is evaluated: one row of a batch
// of one table, or one finished group of aggregates.
type cursor struct {
	table *vnode.Table
	rows  *sql.Rows
	row   int
	group *group
}

// operand is an expression that is ready to be evaluated.
type operand struct {
	eval   func(*cursor) sql.Value
	column sql.Column // type and declared length of the result; its name is not used
	// fixed says that the value is the same everywhere; time literals and
	// numbers in quotes are then converted once.
	fixed bool
}

// scope says what names and functions mean where an expression stands.
type scope interface {
	ref(*sql.Ref) (operand, error)
	// call resolves a function that depends on the place; false leaves it to
	// those that do not.
	call(*sql.Call) (operand, bool, error)
}

// compiler turns expressions into operands.
type compiler struct {
	scope     scope
	moment    sql.Moment
	precision sql.Precision
	session   Session
}

func unsupported(what string) error {
	return &sql.Error{Code: sql.CodeNotSupported, Text: what + " is not supported in this version"}
}

func wrongType(e sql.Expr, why string) error {
	return &sql.Error{Code: sql.CodeValueType, Text: "Invalid value type: " + e.String() + ": " + why}
}

func constant(v sql.Value, c sql.Column) operand {
	return operand{eval: func(*cursor) sql.Value { return v }, column: c, fixed: true}
}

func boolean(f func(*cursor) (is, known bool), fixed bool) operand {
	return operand{column: column("", sql.TypeBool), fixed: fixed, eval: func(c *cursor) sql.Value {
		is, known := f(c)
		switch {
		case !known:
			return sql.Value{}
		case is:
			return sql.Value{Type: sql.TypeBool, Int: 1}
		}
		return sql.Value{Type: sql.TypeBool}
	}}
}

// compile prepares e.
func (k *compiler) compile(e sql.Expr) (operand, error) {
	switch e := e.(type) {
	case *sql.Literal:
		return constant(e.Value, literalColumn(e.Value)), nil
	case *sql.Ref:
		return k.scope.ref(e)
	case *sql.Call:
		return k.call(e)
	case *sql.Unary:
		return k.unary(e)
	case *sql.Binary:
		return k.binary(e)
	case *sql.Between:
		low := &sql.Binary{Op: sql.OpGe, X: e.X, Y: e.Low}
		high := &sql.Binary{Op: sql.OpLe, X: e.X, Y: e.High}
		return k.negatedIf(e.Not, &sql.Binary{Op: sql.OpAnd, X: low, Y: high})
	case *sql.In:
		return k.in(e)
	case *sql.IsNull:
		x, err := k.compile(e.X)
		return boolean(func(c *cursor) (bool, bool) { return x.eval(c).IsNull() != e.Not, true }, x.fixed), err
	}
	return operand{}, unsupported("expression " + e.String())
}

func (k *compiler) negatedIf(not bool, e sql.Expr) (operand, error) {
	if not {
		e = &sql.Unary{Op: sql.OpNot, X: e}
	}
	return k.compile(e)
}

func literalColumn(v sql.Value) sql.Column {
	c := column("", v.Type)
	if v.Type == sql.TypeVarchar {
		c.Length = len(v.Text)
	}
	return c
}

// call resolves functions: those of the place first, then those that are the
// same everywhere.
func (k *compiler) call(e *sql.Call) (operand, error) {
	if o, ok, err := k.scope.call(e); ok || err != nil {
		return o, err
	}
	if len(e.Args) == 0 {
		switch e.Name {
		case "now", "today":
			ts, err := k.moment.Time(e, k.precision)
			return constant(instant(ts), column("", sql.TypeTimestamp)), err
		case "server_version", "client_version":
			return constant(text(Version), varchar("", len(Version))), nil
		case "server_status":
			return constant(integer(1), column("", sql.TypeInt)), nil
		case "current_user", "user":
			return constant(text(k.session.User), varchar("", len(k.session.User))), nil
		case "database":
			v := text(k.session.Database)
			if k.session.Database == "" {
				v = sql.Value{}
			}
			return constant(v, varchar("", 64)), nil
		}
	}
	return operand{}, unsupported("function " + e.Name + "()")
}

func (k *compiler) unary(e *sql.Unary) (operand, error) {
	x, err := k.compile(e.X)
	if err != nil {
		return operand{}, err
	}
	if e.Op == sql.OpNot {
		return boolean(func(c *cursor) (bool, bool) {
			is, known := truth(x.eval(c))
			return !is, known
		}, x.fixed), nil
	}
	return arithmetic(func(a, _ float64) (float64, bool) { return -a, true }, x, constant(integer(0), column("", sql.TypeBigInt))), nil
}

func (k *compiler) binary(e *sql.Binary) (operand, error) {
	if e.Op == sql.OpAdd || e.Op == sql.OpSub {
		if d, ok := e.Y.(sql.Duration); ok {
			return k.shifted(e, d)
		}
	}
	x, err := k.compile(e.X)
	if err != nil {
		return operand{}, err
	}
	y, err := k.compile(e.Y)
	if err != nil {
		return operand{}, err
	}
	fixed := x.fixed && y.fixed
	switch e.Op {
	case sql.OpAnd:
		return boolean(func(c *cursor) (bool, bool) { return and(x, y, c) }, fixed), nil
	case sql.OpOr:
		return boolean(func(c *cursor) (bool, bool) { return or(x, y, c) }, fixed), nil
	case sql.OpEq, sql.OpNe, sql.OpLt, sql.OpLe, sql.OpGt, sql.OpGe:
		return k.comparison(e, x, y)
	case sql.OpLike, sql.OpNotLike:
		return boolean(func(c *cursor) (bool, bool) {
			a, b := x.eval(c), y.eval(c)
			return like(a.Text, b.Text) == (e.Op == sql.OpLike), !a.IsNull() && !b.IsNull()
		}, fixed), nil
	case sql.OpAdd, sql.OpSub, sql.OpMul, sql.OpDiv, sql.OpMod:
		if x.column.Type.Storage() == sql.StoreBytes || y.column.Type.Storage() == sql.StoreBytes {
			return operand{}, wrongType(e, "text is no number")
		}
		return arithmetic(operators[e.Op], x, y), nil
	}
	return operand{}, unsupported("operator in " + e.String())
}

// shifted is a time plus or minus a duration.
func (k *compiler) shifted(e *sql.Binary, d sql.Duration) (operand, error) {
	if ts, err := k.moment.Time(e, k.precision); err == nil {
		return constant(instant(ts), column("", sql.TypeTimestamp)), nil
	}
	x, err := k.compile(e.X)
	if err != nil {
		return operand{}, err
	}
	steps, ok := d.Steps(k.precision)
	if !ok || x.column.Type != sql.TypeTimestamp {
		return operand{}, wrongType(e, "only a time can be moved, and by a fixed duration")
	}
	if e.Op == sql.OpSub {
		steps = -steps
	}
	return operand{column: x.column, fixed: x.fixed, eval: func(c *cursor) sql.Value {
		v := x.eval(c)
		if !v.IsNull() {
			v.Int += steps
		}
		return v
	}}, nil
}

// operators are the arithmetic ones; false is NULL.
var operators = map[sql.Op]func(a, b float64) (float64, bool){
	sql.OpAdd: func(a, b float64) (float64, bool) { return a + b, true },
	sql.OpSub: func(a, b float64) (float64, bool) { return a - b, true },
	sql.OpMul: func(a, b float64) (float64, bool) { return a * b, true },
	sql.OpDiv: func(a, b float64) (float64, bool) { return a / b, b != 0 },
	sql.OpMod: func(a, b float64) (float64, bool) { return math.Mod(a, b), b != 0 },
}

// arithmetic is DOUBLE, whatever it is made of: so clients of this dialect
// expect it.
func arithmetic(f func(a, b float64) (float64, bool), x, y operand) operand {
	return operand{column: column("", sql.TypeDouble), fixed: x.fixed && y.fixed, eval: func(c *cursor) sql.Value {
		a, okA := number(x.eval(c))
		b, okB := number(y.eval(c))
		if r, ok := f(a, b); ok && okA && okB {
			return sql.Value{Type: sql.TypeDouble, Float: r}
		}
		return sql.Value{}
	}}
}

// number is a value as a float; false for NULL and text.
func number(v sql.Value) (float64, bool) {
	switch {
	case v.Type == sql.TypeUBigInt:
		return float64(uint64(v.Int)), true
	case v.Type.Storage() == sql.StoreInts:
		return float64(v.Int), true
	case v.Type.Storage() == sql.StoreFloats:
		return v.Float, true
	}
	return 0, false
}

// truth is a value as a condition; NULL is not known.
func truth(v sql.Value) (is, known bool) {
	n, ok := number(v)
	return n != 0, ok
}

func and(x, y operand, c *cursor) (is, known bool) {
	a, knownA := truth(x.eval(c))
	if knownA && !a {
		return false, true
	}
	b, knownB := truth(y.eval(c))
	if knownB && !b {
		return false, true
	}
	return true, knownA && knownB
}

func or(x, y operand, c *cursor) (is, known bool) {
	a, knownA := truth(x.eval(c))
	if knownA && a {
		return true, true
	}
	b, knownB := truth(y.eval(c))
	if knownB && b {
		return true, true
	}
	return false, knownA && knownB
}

// comparison compares two values of the same kind. Text that stands beside a
// time or a number is read as one, once if it is a literal.
func (k *compiler) comparison(e *sql.Binary, x, y operand) (operand, error) {
	var err error
	if x, err = k.alike(e.X, x, y.column.Type); err != nil {
		return operand{}, err
	}
	if y, err = k.alike(e.Y, y, x.column.Type); err != nil {
		return operand{}, err
	}
	holds := map[sql.Op]func(int) bool{
		sql.OpEq: func(c int) bool { return c == 0 }, sql.OpNe: func(c int) bool { return c != 0 },
		sql.OpLt: func(c int) bool { return c < 0 }, sql.OpLe: func(c int) bool { return c <= 0 },
		sql.OpGt: func(c int) bool { return c > 0 }, sql.OpGe: func(c int) bool { return c >= 0 },
	}[e.Op]
	return boolean(func(c *cursor) (bool, bool) {
		a, b := x.eval(c), y.eval(c)
		if a.IsNull() || b.IsNull() {
			return false, false
		}
		return holds(compareValues(a, b)), true
	}, x.fixed && y.fixed), nil
}

// alike converts text that is to be compared with a value of type other.
func (k *compiler) alike(e sql.Expr, x operand, other sql.Type) (operand, error) {
	if x.column.Type.Storage() != sql.StoreBytes || other.Storage() == sql.StoreBytes || other == sql.TypeNull {
		return x, nil
	}
	if !x.fixed {
		return operand{}, wrongType(e, "text is compared with "+other.String())
	}
	v := x.eval(nil)
	if other == sql.TypeTimestamp {
		ts, err := sql.ParseTime(v.Text, k.moment.Zone, k.precision)
		return constant(instant(ts), column("", sql.TypeTimestamp)), err
	}
	if n, err := strconv.ParseInt(v.Text, 10, 64); err == nil {
		return constant(integer(n), column("", sql.TypeBigInt)), nil
	}
	f, err := strconv.ParseFloat(v.Text, 64)
	if err != nil {
		return operand{}, wrongType(e, "not a number")
	}
	return constant(sql.Value{Type: sql.TypeDouble, Float: f}, column("", sql.TypeDouble)), nil
}

// compareValues orders two values of which both are text or both are not.
// Integers compare as integers: a float does not hold a BIGINT.
func compareValues(a, b sql.Value) int {
	switch {
	case a.Type.Storage() == sql.StoreBytes:
		return strings.Compare(a.Text, b.Text)
	case a.Type.Storage() == sql.StoreInts && b.Type.Storage() == sql.StoreInts:
		return compareInts(a, b)
	}
	x, _ := number(a)
	y, _ := number(b)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func compareInts(a, b sql.Value) int {
	largeA, largeB := a.Type == sql.TypeUBigInt && a.Int < 0, b.Type == sql.TypeUBigInt && b.Int < 0
	switch {
	case largeA != largeB:
		if largeA {
			return 1
		}
		return -1
	case a.Int < b.Int:
		return -1
	case a.Int > b.Int:
		return 1
	}
	return 0
}
