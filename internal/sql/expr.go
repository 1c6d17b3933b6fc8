package sql

// Expr is an expression: a pointer to one of the structs below, or a Duration.
type Expr interface {
	// String is the expression in a spelling that parses to an equal one.
	String() string
	expr()
}

// Ref names a column, a tag or a pseudo column such as tbname or _wstart.
type Ref struct {
	Table string // t of t.c; empty: none
	Name  string
}

// Star is * or t.*.
type Star struct{ Table string }

// Literal is a constant: NULL, BOOL, BIGINT, DOUBLE or VARCHAR, or BIGINT
// UNSIGNED for integers that only fit there.
type Literal struct{ Value Value }

// Call is a function with its arguments. NOW and TODAY are calls also where they
// are written without parentheses.
type Call struct {
	Name string // lower case
	Args []Expr
	// Type is the target of CAST(x AS type); the zero Column for all others.
	Type Column
}

// Op is an operator.
type Op uint8

// The operators, grouped by how tightly they bind, loosest first.
const (
	OpOr Op = iota + 1
	OpAnd
	OpNot // unary
	OpEq
	OpNe
	OpLt
	OpLe
	OpGt
	OpGe
	OpLike
	OpNotLike
	OpMatch
	OpNotMatch
	OpAdd
	OpSub
	OpMul
	OpDiv
	OpMod
	OpNeg // unary
)

// Binary is X Op Y.
type Binary struct {
	Op   Op
	X, Y Expr
}

// Unary is NOT X or -X.
type Unary struct {
	Op Op
	X  Expr
}

// Between is X [NOT] BETWEEN Low AND High.
type Between struct {
	X, Low, High Expr
	Not          bool
}

// In is X [NOT] IN (List).
type In struct {
	X    Expr
	List []Expr
	Not  bool
}

// IsNull is X IS [NOT] NULL.
type IsNull struct {
	X   Expr
	Not bool
}

func (*Ref) expr()     {}
func (*Star) expr()    {}
func (*Literal) expr() {}
func (Duration) expr() {}
func (*Call) expr()    {}
func (*Binary) expr()  {}
func (*Unary) expr()   {}
func (*Between) expr() {}
func (*In) expr()      {}
func (*IsNull) expr()  {}

// Walk calls visit for e and, while it returns true, for what e is made of,
// from left to right. A nil e is no expression.
func Walk(e Expr, visit func(Expr) bool) {
	if e == nil || !visit(e) {
		return
	}
	switch e := e.(type) {
	case *Call:
		for _, a := range e.Args {
			Walk(a, visit)
		}
	case *Binary:
		Walk(e.X, visit)
		Walk(e.Y, visit)
	case *Unary:
		Walk(e.X, visit)
	case *Between:
		Walk(e.X, visit)
		Walk(e.Low, visit)
		Walk(e.High, visit)
	case *In:
		Walk(e.X, visit)
		for _, x := range e.List {
			Walk(x, visit)
		}
	case *IsNull:
		Walk(e.X, visit)
	}
}

// maxOperators bounds the operators of one statement, and with them how deep a
// tree its users have to walk. maxNesting bounds its parentheses.
const (
	maxOperators = 10_000
	maxNesting   = 500
)

// comparisons maps the operators that take two operands and do not chain.
var comparisons = map[string]Op{
	"=": OpEq, "<>": OpNe, "!=": OpNe, "<": OpLt, "<=": OpLe, ">": OpGt, ">=": OpGe,
}

// expr reads a whole expression.
func (p *parser) expr() Expr {
	if p.nesting++; p.nesting > maxNesting {
		p.fail(errorf(CodeSyntax, "expression is nested more than %d deep", maxNesting))
	}
	defer func() { p.nesting-- }()
	e := p.conjunction()
	for p.accept("or") {
		e = p.binary(OpOr, e, p.conjunction())
	}
	return e
}

func (p *parser) conjunction() Expr {
	e := p.negation()
	for p.accept("and") {
		e = p.binary(OpAnd, e, p.negation())
	}
	return e
}

func (p *parser) negation() Expr {
	nots := 0
	for p.accept("not") {
		nots++
	}
	e := p.condition()
	for ; nots > 0; nots-- {
		e = p.unary(OpNot, e)
	}
	return e
}

// condition reads a sum and what it may be compared with.
func (p *parser) condition() Expr {
	e := p.sum()
	if op, ok := comparisons[p.tok.text]; ok && p.tok.kind == symbol {
		p.advance()
		return p.binary(op, e, p.sum())
	}
	if p.accept("is") {
		not := p.accept("not")
		p.expect("null")
		return p.counted(&IsNull{X: e, Not: not})
	}
	before := p.mark()
	not := p.accept("not")
	switch {
	case p.accept("between"):
		low := p.sum()
		p.expect("and")
		return p.counted(&Between{X: e, Low: low, High: p.sum(), Not: not})
	case p.accept("in"):
		p.expectSymbol("(")
		list := p.exprs()
		p.expectSymbol(")")
		return p.counted(&In{X: e, List: list, Not: not})
	case p.accept("like"):
		if not {
			return p.binary(OpNotLike, e, p.sum())
		}
		return p.binary(OpLike, e, p.sum())
	case !not && p.accept("match"):
		return p.binary(OpMatch, e, p.sum())
	case !not && p.accept("nmatch"):
		return p.binary(OpNotMatch, e, p.sum())
	}
	if not {
		p.reset(before)
	}
	return e
}

func (p *parser) sum() Expr {
	e := p.product()
	for {
		switch {
		case p.acceptSymbol("+"):
			e = p.binary(OpAdd, e, p.product())
		case p.acceptSymbol("-"):
			e = p.binary(OpSub, e, p.product())
		default:
			return e
		}
	}
}

func (p *parser) product() Expr {
	e := p.signed()
	for {
		switch {
		case p.acceptSymbol("*"):
			e = p.binary(OpMul, e, p.signed())
		case p.acceptSymbol("/"):
			e = p.binary(OpDiv, e, p.signed())
		case p.acceptSymbol("%"):
			e = p.binary(OpMod, e, p.signed())
		default:
			return e
		}
	}
}

// signed reads signs and what they stand before. The sign of a number is part of
// the number.
func (p *parser) signed() Expr {
	minuses := 0
	for {
		switch {
		case p.acceptSymbol("+"):
			continue
		case p.acceptSymbol("-"):
			minuses++
			continue
		}
		break
	}
	var e Expr
	if minuses > 0 && (p.tok.kind == integer || p.tok.kind == decimal) {
		e = &Literal{p.number(true)}
		minuses--
	} else {
		e = p.primary()
	}
	for ; minuses > 0; minuses-- {
		e = p.unary(OpNeg, e)
	}
	return e
}

func (p *parser) primary() Expr {
	switch p.tok.kind {
	case integer, decimal:
		return &Literal{p.number(false)}
	case text:
		v := Value{Type: TypeVarchar, Text: p.tok.string()}
		p.advance()
		return &Literal{v}
	case span:
		return p.duration()
	case word:
		return p.wordExpr()
	case quoted:
		return p.ref()
	}
	if p.acceptSymbol("(") {
		e := p.expr()
		p.expectSymbol(")")
		return e
	}
	p.unexpected()
	return &Literal{}
}

// wordExpr reads what starts with a word: a constant, a call or a column.
func (p *parser) wordExpr() Expr {
	switch {
	case p.accept("null"):
		return &Literal{}
	case p.accept("true"):
		return &Literal{Value{Type: TypeBool, Int: 1}}
	case p.accept("false"):
		return &Literal{Value{Type: TypeBool}}
	}
	before := p.mark()
	name := fold(p.tok.text)
	p.advance()
	isTime := name == "now" || name == "today"
	if !p.isSymbol("(") {
		if isTime {
			return &Call{Name: name}
		}
		p.reset(before)
		return p.ref()
	}
	if isReserved(name) && !isTime {
		p.reset(before)
		p.unexpected()
		return &Literal{}
	}
	p.advance()
	c := &Call{Name: name}
	if !p.isSymbol(")") {
		c.Args = append(c.Args, p.argument())
		for p.acceptSymbol(",") {
			c.Args = append(c.Args, p.argument())
		}
	}
	if name == "cast" && p.accept("as") {
		c.Type = p.columnType("")
	}
	p.expectSymbol(")")
	return p.counted(c)
}

// argument reads an expression, or the * of COUNT(*) and of SELECT *.
func (p *parser) argument() Expr {
	if p.acceptSymbol("*") {
		return &Star{}
	}
	return p.expr()
}

// ref reads c, t.c or t.*.
func (p *parser) ref() Expr {
	name := p.ident(maxTableName)
	if !p.acceptSymbol(".") {
		return &Ref{Name: name}
	}
	if p.acceptSymbol("*") {
		return &Star{Table: name}
	}
	return &Ref{Table: name, Name: p.ident(maxColumnName)}
}

// exprs reads one or more expressions with commas between them.
func (p *parser) exprs() []Expr {
	list := []Expr{p.expr()}
	for p.acceptSymbol(",") {
		list = append(list, p.expr())
	}
	return list
}

func (p *parser) binary(op Op, x, y Expr) Expr { return p.counted(&Binary{Op: op, X: x, Y: y}) }

func (p *parser) unary(op Op, x Expr) Expr { return p.counted(&Unary{Op: op, X: x}) }

// counted is e, unless the statement holds too many operators.
func (p *parser) counted(e Expr) Expr {
	if p.operators++; p.operators > maxOperators {
		p.fail(errorf(CodeSyntax, "more than %d operators and calls in one statement", maxOperators))
	}
	return e
}
