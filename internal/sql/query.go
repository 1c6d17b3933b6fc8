package sql

import (
	"math"
	"strings"
	"unicode/utf8"
)

// laterClauses are the clauses of a query that this version does not run.
var laterClauses = []string{
	"session", "state_window", "event_window", "count_window", "anomaly_window",
	"union", "join", "inner", "left", "right", "full", "asof", "range", "every",
}

// query reads a SELECT from its first word on.
func (p *parser) query() *Select {
	if p.nesting++; p.nesting > maxNesting {
		p.fail(errorf(CodeSyntax, "query is nested more than %d deep", maxNesting))
	}
	defer func() { p.nesting-- }()
	p.expect("select")
	s := &Select{Distinct: p.accept("distinct")}
	s.Items = append(s.Items, p.item())
	for p.acceptSymbol(",") {
		s.Items = append(s.Items, p.item())
	}
	if len(s.Items) > MaxColumns && p.err == nil {
		p.fail(errorf(CodeInvalid, "Invalid parameters: more than %d columns in a result", MaxColumns))
	}
	if p.accept("from") {
		s.From = p.source()
		p.unsupported("", laterClauses)
		if p.accept("where") {
			s.Where = p.expr()
		}
		if p.accept("partition", "by") {
			s.PartitionBy = p.exprs()
		}
		p.unsupported("", laterClauses)
		if p.is("interval") {
			s.Window = p.window()
		}
		if p.accept("group", "by") {
			s.GroupBy = p.exprs()
		}
		if p.accept("having") {
			s.Having = p.expr()
		}
		if s.Window != nil && s.GroupBy != nil && p.err == nil {
			p.fail(errorf(CodeGroupInterval, "GROUP BY and WINDOW-clause can't be used together"))
		}
	}
	p.order(s)
	if p.accept("slimit") {
		s.SLimit = p.limit("soffset")
	}
	if p.accept("limit") {
		s.Limit = p.limit("offset")
	}
	p.unsupported("", laterClauses)
	return s
}

// item reads one column of the result.
func (p *parser) item() Item {
	start := p.tok.pos
	i := Item{Expr: p.argument()}
	if p.err != nil {
		return i
	}
	i.Text = clipped(strings.TrimSpace(p.src[start:p.last]))
	i.Alias = p.alias()
	return i
}

// maxItemText bounds the name that a column without an alias gets from its
// expression.
const maxItemText = 512

// clipped is the beginning of s, in whole characters.
func clipped(s string) string {
	if len(s) <= maxItemText {
		return s
	}
	end := maxItemText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// alias reads [AS] name, if it is there.
func (p *parser) alias() string {
	if p.accept("as") || p.tok.kind == quoted || p.tok.kind == word && !p.endsItem() {
		return p.ident(maxColumnName)
	}
	return ""
}

// endsItem reports whether the current word begins the next clause.
func (p *parser) endsItem() bool {
	if isReserved(fold(p.tok.text)) {
		return true
	}
	for _, w := range laterClauses {
		if p.is(w) {
			return true
		}
	}
	return false
}

// source reads what stands after FROM.
func (p *parser) source() *Source {
	s := &Source{}
	if p.acceptSymbol("(") {
		s.Query = p.query()
		p.expectSymbol(")")
	} else {
		s.Table = p.tableName()
	}
	s.Alias = p.alias()
	if p.isSymbol(",") {
		p.fail(errorf(CodeNotSupported, "a query of several tables is not supported in this version"))
	}
	return s
}

// window reads INTERVAL(w[, offset]) [SLIDING(s)] [FILL(mode[, v, ...])].
func (p *parser) window() *Window {
	w := &Window{}
	p.expect("interval")
	p.expectSymbol("(")
	w.Width = p.duration()
	if p.acceptSymbol(",") {
		w.Offset = p.duration()
	}
	p.expectSymbol(")")
	if p.accept("sliding") {
		p.expectSymbol("(")
		w.Sliding = p.duration()
		p.expectSymbol(")")
		if w.Sliding.N == 0 && p.err == nil {
			p.fail(errorf(CodeOutOfRange, "Value out of range: SLIDING(%s)", w.Sliding))
		}
	}
	if w.Width.N == 0 && p.err == nil {
		p.fail(errorf(CodeOutOfRange, "Value out of range: INTERVAL(%s)", w.Width))
	}
	if p.accept("fill") {
		p.expectSymbol("(")
		p.fill(w)
		p.expectSymbol(")")
	}
	return w
}

var fills = [...]string{
	FillNone: "none", FillNull: "null", FillPrev: "prev", FillNext: "next", FillLinear: "linear", FillValue: "value",
}

func (p *parser) fill(w *Window) {
	for mode, name := range fills {
		if p.accept(name) {
			w.Fill = Fill(mode)
			if w.Fill == FillValue {
				p.expectSymbol(",")
				w.Values = p.exprs()
			}
			return
		}
	}
	p.unexpected()
}

// order reads ORDER BY, if it is there.
func (p *parser) order(s *Select) {
	if !p.accept("order", "by") {
		return
	}
	for {
		o := Order{Expr: p.expr()}
		if p.accept("desc") {
			o.Desc = true
		} else {
			p.accept("asc")
		}
		switch {
		case p.accept("nulls", "first"):
			o.Nulls = NullsFirst
		case p.accept("nulls", "last"):
			o.Nulls = NullsLast
		}
		s.OrderBy = append(s.OrderBy, o)
		if !p.acceptSymbol(",") {
			return
		}
	}
}

// limit reads count [OFFSET offset] or offset, count.
func (p *parser) limit(offset string) *Limit {
	l := &Limit{Count: p.uint(math.MaxInt64)}
	switch {
	case p.accept(offset):
		l.Offset = p.uint(math.MaxInt64)
	case p.acceptSymbol(","):
		l.Offset, l.Count = l.Count, p.uint(math.MaxInt64)
	}
	return l
}
