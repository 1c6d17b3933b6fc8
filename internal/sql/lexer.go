package sql

import "strings"

// kind says what a token is.
type kind uint8

const (
	end    kind = iota // of the statement
	word               // an identifier or keyword, as written
	quoted             // an identifier in back quotes, without them
	text               // a string, without its quotes and with its escapes
	integer
	decimal
	span   // a number with a unit of time: 10s
	symbol // an operator or a punctuation mark
	broken // nothing that can stand in a statement
)

// token is one word of a statement. It refers into the statement's text.
type token struct {
	kind  kind
	text  string
	pos   int  // where it starts in the statement
	quote byte // of a text that holds escapes or doubled quotes; else zero
}

// lexer cuts a statement into tokens, one at a time. It is a value: a copy of it
// is a place to come back to.
type lexer struct {
	src string
	pos int // behind the last token
}

// character classes of the first 128 bytes; all others belong to no token
// outside quotes.
const (
	classSpace = 1 << iota
	classLetter
	classDigit
)

var classes = func() (c [256]uint8) {
	for _, b := range " \t\r\n\f\v" {
		c[b] = classSpace
	}
	for b := '0'; b <= '9'; b++ {
		c[b] = classDigit
	}
	for b := 'a'; b <= 'z'; b++ {
		c[b], c[b-'a'+'A'] = classLetter, classLetter
	}
	c['_'] = classLetter
	return c
}()

func isDigit(b byte) bool { return b-'0' < 10 }

// skipSpace moves to the next byte that is neither white space nor comment. It
// reports false if a comment does not end.
func (l *lexer) skipSpace() bool {
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		switch {
		case classes[c] == classSpace:
			l.pos++
		case c == '-' && strings.HasPrefix(l.src[l.pos:], "--"):
			n := strings.IndexByte(l.src[l.pos:], '\n')
			if n < 0 {
				n = len(l.src) - l.pos
			}
			l.pos += n
		case c == '/' && strings.HasPrefix(l.src[l.pos:], "/*"):
			n := strings.Index(l.src[l.pos+2:], "*/")
			if n < 0 {
				return false
			}
			l.pos += n + 4
		default:
			return true
		}
	}
	return true
}

// next returns the next token.
func (l *lexer) next() token {
	if !l.skipSpace() {
		return l.rest(l.pos)
	}
	start := l.pos
	if start == len(l.src) {
		return token{kind: end, pos: start}
	}
	c := l.src[start]
	switch {
	case classes[c] == classLetter:
		l.pos = l.skipWord(start)
		return token{kind: word, text: l.src[start:l.pos], pos: start}
	case isDigit(c), c == '.' && start+1 < len(l.src) && isDigit(l.src[start+1]):
		return l.number(start)
	case c == '\'' || c == '"':
		return l.string(start)
	case c == '`':
		n := strings.IndexByte(l.src[start+1:], '`')
		if n < 0 {
			return l.rest(start)
		}
		l.pos = start + n + 2
		return token{kind: quoted, text: l.src[start+1 : l.pos-1], pos: start}
	}
	return l.symbol(start)
}

// rest is the token for what can't be cut: all that is left.
func (l *lexer) rest(start int) token {
	l.pos = len(l.src)
	return token{kind: broken, text: l.src[start:], pos: start}
}

// skipWord returns the end of the letters, digits and underscores at i.
func (l *lexer) skipWord(i int) int {
	for i < len(l.src) && classes[l.src[i]]&(classLetter|classDigit) != 0 {
		i++
	}
	return i
}

func (l *lexer) skipDigits(i int) int {
	for i < len(l.src) && isDigit(l.src[i]) {
		i++
	}
	return i
}

// number reads 12, 1.5, .5, 1e-3, 0x1F, 0b101 and, with a unit, 10s or 0.5h.
func (l *lexer) number(start int) token {
	i := l.skipDigits(start)
	t := token{kind: integer, pos: start}
	whole := i < len(l.src) && i == start+1 && l.src[start] == '0'
	if whole && (l.src[i] == 'x' || l.src[i] == 'X' ||
		(l.src[i]|0x20 == 'b' && i+1 < len(l.src) && isDigit(l.src[i+1]))) {
		l.pos = l.skipWord(i)
		t.text = l.src[start:l.pos]
		return t
	}
	if i < len(l.src) && l.src[i] == '.' {
		t.kind = decimal
		i = l.skipDigits(i + 1)
	}
	if i < len(l.src) && l.src[i]|0x20 == 'e' {
		j := i + 1
		if j < len(l.src) && (l.src[j] == '+' || l.src[j] == '-') {
			j++
		}
		if k := l.skipDigits(j); k > j {
			t.kind = decimal
			i = k
		}
	}
	if stop := l.skipWord(i); stop > i {
		if stop != i+1 || !isUnit(l.src[i]) {
			l.pos = stop
			return token{kind: broken, text: l.src[start:stop], pos: start}
		}
		t.kind = span
		i = stop
	}
	l.pos = i
	t.text = l.src[start:i]
	return t
}

// string reads a text in single or double quotes.
func (l *lexer) string(start int) token {
	quote := l.src[start]
	t := token{kind: text, pos: start}
	for i := start + 1; i < len(l.src); i++ {
		switch l.src[i] {
		case '\\':
			t.quote = quote
			i++
		case quote:
			if i+1 < len(l.src) && l.src[i+1] == quote {
				t.quote = quote
				i++
				continue
			}
			l.pos = i + 1
			t.text = l.src[start+1 : i]
			return t
		}
	}
	return l.rest(start)
}

func (l *lexer) symbol(start int) token {
	n := 1
	if start+1 < len(l.src) {
		switch l.src[start : start+2] {
		case "<=", ">=", "<>", "!=":
			n = 2
		}
	}
	l.pos = start + n
	t := token{kind: symbol, text: l.src[start:l.pos], pos: start}
	if n == 1 && !strings.Contains("(),.;*+-/%=<>", t.text) {
		return l.rest(start)
	}
	return t
}

// string is the value of a text token: its escapes resolved. A backslash before
// a character that needs none stays, so that LIKE sees \% and \_ and VARBINARY
// sees \x.
func (t token) string() string {
	if t.quote == 0 {
		return t.text
	}
	var b strings.Builder
	b.Grow(len(t.text))
	for i := 0; i < len(t.text); i++ {
		c := t.text[i]
		if c != '\\' {
			b.WriteByte(c)
			if c == t.quote {
				i++ // its twin
			}
			continue
		}
		i++ // a backslash is never the last byte: it would have escaped the quote
		switch e := t.text[i]; e {
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case '\'', '"', '\\':
			b.WriteByte(e)
		default:
			b.WriteByte('\\')
			b.WriteByte(e)
		}
	}
	return b.String()
}
