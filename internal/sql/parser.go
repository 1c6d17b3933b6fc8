package sql

import "strings"

// Limits of a statement and of the names in it, in bytes.
const (
	MaxStatement    = 1 << 20
	MaxDatabaseName = 64
	maxTableName    = 192
	maxColumnName   = 64
	maxUserName     = 23
	minPassword     = 8
	maxPassword     = 255
)

// Parse reads one statement, with or without a semicolon at its end. Of an
// INSERT it reads only the first word: the rest is read by Insert's methods, as
// it takes the columns of a table to understand the values.
//
// The tree may refer into statement, so whoever keeps a tree keeps the text.
func Parse(statement string) (Statement, error) {
	if len(statement) > MaxStatement {
		return nil, errorf(CodeTooLong, "SQL statement too long: %d bytes, at most %d", len(statement), MaxStatement)
	}
	p := newParser(statement)
	if p.accept("insert") || p.accept("import") {
		p.expect("into")
		if p.err != nil {
			return nil, p.err
		}
		return &Insert{p: p}, nil
	}
	s := p.statement()
	p.finish()
	if p.err != nil {
		return nil, p.err
	}
	return s, nil
}

// parser reads statements by recursive descent. The first error sticks: from
// then on the statement looks as if it had ended, so every loop ends by itself
// and only Parse looks at err.
type parser struct {
	lexer
	tok  token
	last int // end of the token before tok
	err  *Error

	nesting   int // of parentheses, now
	operators int // so far
}

func newParser(statement string) parser {
	p := parser{lexer: lexer{src: statement}}
	p.advance()
	return p
}

func (p *parser) fail(e *Error) {
	if p.err == nil {
		p.err = e
	}
	p.tok = token{kind: end, pos: len(p.src)}
	p.pos = len(p.src)
}

// unexpected says that the statement can't go on with the current token.
func (p *parser) unexpected() {
	rest := p.src[p.tok.pos:]
	if trimmed := strings.TrimRight(rest, " \t\r\n;"); trimmed != "" {
		rest = trimmed
	}
	if p.tok.kind == end || rest == ";" && p.last == 0 {
		rest = ""
	}
	p.fail(syntaxError(rest))
}

func (p *parser) advance() {
	if p.err != nil {
		return
	}
	p.last = p.pos
	p.tok = p.lexer.next()
}

// place is where a parser may come back to.
type place struct {
	lexer
	tok  token
	last int
}

func (p *parser) mark() place { return place{p.lexer, p.tok, p.last} }

func (p *parser) reset(to place) {
	if p.err == nil {
		p.lexer, p.tok, p.last = to.lexer, to.tok, to.last
	}
}

// is reports whether the current token is this keyword, given in lower case.
func (p *parser) is(keyword string) bool {
	return p.tok.kind == word && len(p.tok.text) == len(keyword) && strings.EqualFold(p.tok.text, keyword)
}

// accept moves over these keywords if all of them stand here, else over none.
func (p *parser) accept(keywords ...string) bool {
	if !p.is(keywords[0]) {
		return false
	}
	before := p.mark()
	for _, k := range keywords {
		if !p.is(k) {
			p.reset(before)
			return false
		}
		p.advance()
	}
	return true
}

func (p *parser) expect(keywords ...string) {
	for _, k := range keywords {
		if !p.is(k) {
			p.unexpected()
			return
		}
		p.advance()
	}
}

func (p *parser) isSymbol(s string) bool { return p.tok.kind == symbol && p.tok.text == s }

func (p *parser) acceptSymbol(s string) bool {
	if !p.isSymbol(s) {
		return false
	}
	p.advance()
	return true
}

func (p *parser) expectSymbol(s string) {
	if !p.acceptSymbol(s) {
		p.unexpected()
	}
}

// finish expects the end of the statement.
func (p *parser) finish() {
	p.acceptSymbol(";")
	if p.tok.kind != end {
		p.unexpected()
	}
}

// statement reads every statement but INSERT.
func (p *parser) statement() Statement {
	switch {
	case p.is("select"):
		return p.query()
	case p.accept("create"):
		return p.create()
	case p.accept("drop"):
		return p.drop()
	case p.accept("alter"):
		return p.alter()
	case p.accept("restore", "dnode"):
		return p.restoreDnode()
	case p.accept("show"):
		return p.show()
	case p.accept("describe"), p.accept("desc"):
		return &Describe{Table: p.tableName()}
	case p.accept("use"):
		return &Use{Database: p.ident(MaxDatabaseName)}
	}
	p.unsupported("", later)
	p.unexpected()
	return nil
}

// Statements of TDengine that this version does not run, by their first word:
// whoever types one learns more than that its syntax is wrong.
var (
	later = []string{
		"assign", "balance", "compact", "delete", "explain", "flush", "grant", "kill", "merge", "pause",
		"redistribute", "reset", "restore", "resume", "revoke", "split", "start", "stop", "sync", "trim",
	}
	laterCreate = []string{
		"function", "index", "mount", "pipe", "qnode", "snode", "sma", "stream", "topic", "tsma", "view", "or",
	}
	laterAlter = []string{"all", "cluster", "dnode", "local", "stable", "table", "topic", "vnode"}
	laterShow  = []string{
		"accounts", "apps", "bnodes", "connections", "consumers", "functions", "grants", "indexes", "licences",
		"local", "pipes", "qnodes", "queries", "scores", "snodes", "streams", "subscriptions", "system", "table",
		"tags", "topics", "views", "compacts", "modules", "configs",
	}
)

// unsupported fails if the current word is one of these, after what was read.
func (p *parser) unsupported(before string, words []string) {
	for _, w := range words {
		if p.is(w) {
			p.fail(errorf(CodeNotSupported, "%s%s is not supported in this version", before, strings.ToUpper(w)))
			return
		}
	}
}

// fold is the form of an identifier or keyword that was written without quotes.
func fold(s string) string { return strings.ToLower(s) }

// reserved words end an expression or begin a clause, so without back quotes
// they name nothing.
var reserved = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(`select from where partition group having order limit slimit offset soffset
		interval sliding fill and or not in is null like between match nmatch as by asc desc true false
		values using tags union join case when then else end now today create drop into insert table`) {
		m[w] = true
	}
	return m
}()

func isReserved(s string) bool { return reserved[s] }

// ident reads a name of at most limit bytes: folded if it stands without quotes,
// as it is in back quotes.
func (p *parser) ident(limit int) string {
	name := p.tok.text
	switch p.tok.kind {
	case word:
		name = fold(name)
		if isReserved(name) {
			p.unexpected()
			return ""
		}
	case quoted:
		if name == "" || strings.Contains(name, ".") {
			p.fail(errorf(CodeIdentifier, "Invalid identifier name: `%s`: a name is not empty and holds no dot", clip(name)))
			return ""
		}
	default:
		p.unexpected()
		return ""
	}
	if len(name) > limit {
		p.fail(errorf(CodeIdentifier, "Invalid identifier name: %s: %d bytes, at most %d", clip(name), len(name), limit))
		return ""
	}
	p.advance()
	return name
}

// tableName reads [db.]t.
func (p *parser) tableName() TableName {
	name := p.ident(maxTableName)
	if !p.acceptSymbol(".") {
		return TableName{Name: name}
	}
	if len(name) > MaxDatabaseName {
		p.fail(errorf(CodeIdentifier, "Invalid identifier name: %s: %d bytes, at most %d", clip(name), len(name), MaxDatabaseName))
	}
	return TableName{Database: name, Name: p.ident(maxTableName)}
}

// idents reads (name, ...).
func (p *parser) idents(limit int) []string {
	p.expectSymbol("(")
	list := []string{p.ident(limit)}
	for p.acceptSymbol(",") {
		list = append(list, p.ident(limit))
	}
	p.expectSymbol(")")
	return list
}

// stringLit reads a string.
func (p *parser) stringLit() string {
	if p.tok.kind != text {
		p.unexpected()
		return ""
	}
	s := p.tok.string()
	p.advance()
	return s
}

// uint reads an integer from 0 to limit.
func (p *parser) uint(limit uint64) uint64 {
	if p.tok.kind != integer {
		p.unexpected()
		return 0
	}
	written := p.tok.text
	v := p.number(false)
	n := uint64(v.Int)
	if v.Type == TypeDouble || n > limit {
		p.fail(errorf(CodeOutOfRange, "Value out of range: %s, at most %d", clip(written), limit))
		return 0
	}
	return n
}

// number reads the current number, with a minus before it or not.
func (p *parser) number(minus bool) Value {
	v, err := parseNumber(p.tok, minus)
	if err != nil {
		p.fail(err)
		return Value{}
	}
	p.advance()
	return v
}
