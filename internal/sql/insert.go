package sql

import (
	"math"
	"strings"
)

// Insert is an INSERT, read table by table:
//
//	for insert.Next() {
//		target := insert.Target()
//		// find the columns of target.Table, or of target.Using.Table
//		err := insert.Read(columns, moment, precision, rows)
//	}
//	err := insert.Err()
//
// The statement may turn out to be wrong at its last byte, so nothing may be
// written before Err has said that it is not.
type Insert struct {
	p      parser
	target Target
	tables int   // targets so far
	unread bool  // the values of target
	cells  int64 // values of all tables so far, those that are NULL by omission included
	plan   []slot
}

// Target is one table of an Insert.
type Target struct {
	Table   TableName
	Using   *Using   // how to make the table if it does not exist; nil: it must
	Columns []string // those that the values are for; empty: all, in order
}

// maxCells bounds what one statement unfolds to: naming one column of a wide
// table makes a value of every other one.
const maxCells = 4 << 20

// String is the statement as it was written.
func (s *Insert) String() string { return s.p.src }

// Err is what is wrong with the statement, as far as it was read.
func (s *Insert) Err() error { return s.p.err.orNil() }

// Target is the table that Next found.
func (s *Insert) Target() Target { return s.target }

// Next moves to the next table. It is false at the end of the statement and at
// the first error. The values of the table before must have been read.
func (s *Insert) Next() bool {
	p := &s.p
	if s.unread {
		panic("sql: Insert.Next before the values of " + s.target.Table.String() + " were read")
	}
	if p.err != nil {
		return false
	}
	if s.tables > 0 && (p.tok.kind == end || p.isSymbol(";")) {
		p.finish()
		return false
	}
	s.tables++
	s.target = Target{Table: p.tableName()}
	for p.err == nil && !p.is("values") {
		switch {
		case p.isSymbol("(") && s.target.Columns == nil:
			s.target.Columns = p.idents(maxColumnName)
		case p.is("using") && s.target.Using == nil:
			u := p.using()
			s.target.Using = &u
		default:
			p.unsupported("INSERT ... ", []string{"select", "file"})
			p.unexpected()
		}
	}
	s.unread = p.err == nil
	return s.unread
}

// slot is where the values at one place of the groups go.
type slot struct {
	column *Column
	values *Values  // nil: the timestamp
	ints   *[]int64 // where integers go
	form   Storage
	stop   byte  // what follows the value: a comma, or the closing parenthesis
	single bool  // round to 32 bits
	limit  int   // bytes of a VARCHAR, -1 for all others
	min    int64 // of integers
	max    int64
}

// Read reads the value groups of the current table into rows, which it empties
// first. table is all columns of the table, the timestamp first; rows gets a
// value, or NULL, for each. Times are read at m in precision p. After an error
// rows holds nothing of use.
func (s *Insert) Read(table []Column, m Moment, p Precision, rows *Rows) error {
	s.unread = false
	rows.Init(table[1:])
	if err := s.makePlan(table, rows); err != nil {
		s.p.fail(err)
		return s.Err()
	}
	r := reader{p: &s.p, plan: s.plan, rows: rows, moment: m, precision: p, budget: (maxCells - s.cells) / int64(len(table))}
	r.groups()
	s.cells += int64(rows.Len()) * int64(len(table))
	if s.p.err == nil && len(s.plan) < len(table) {
		for i := range rows.Columns {
			v := &rows.Columns[i]
			v.AppendNulls(rows.Len() - v.Len())
		}
	}
	return s.Err()
}

// makePlan finds the column of every value of a group.
func (s *Insert) makePlan(table []Column, rows *Rows) *Error {
	if places := max(len(table), len(s.target.Columns)); cap(s.plan) < places {
		s.plan = make([]slot, 0, places)
	}
	s.plan = s.plan[:0]
	if len(s.target.Columns) == 0 {
		for i := range table {
			s.plan = append(s.plan, newSlot(table, i, rows))
		}
	} else if err := s.planNamed(table, rows); err != nil {
		return err
	}
	for i := range s.plan {
		s.plan[i].stop = ','
	}
	s.plan[len(s.plan)-1].stop = ')'
	return nil
}

func (s *Insert) planNamed(table []Column, rows *Rows) *Error {
	at := make(map[string]int, len(table))
	for i, c := range table {
		at[c.Name] = i
	}
	for _, name := range s.target.Columns {
		i, ok := at[name]
		if !ok {
			return errorf(CodeColumnName, "Invalid column name: %s", name)
		}
		if i < 0 {
			return errorf(CodeColumnName, "Invalid column name: %s stands twice", name)
		}
		at[name] = -1
		s.plan = append(s.plan, newSlot(table, i, rows))
	}
	if at[table[0].Name] >= 0 {
		return errorf(CodeColumnName, "Invalid column name: %s, the timestamp, must be among the columns", table[0].Name)
	}
	return nil
}

func newSlot(table []Column, i int, rows *Rows) slot {
	c := &table[i]
	info := &types[c.Type]
	sl := slot{column: c, form: info.storage, min: info.min, max: info.max, single: c.Type == TypeFloat, limit: -1}
	if c.Type == TypeUBigInt {
		sl.max = math.MaxInt64 // more takes the slow way
	}
	if c.Type == TypeVarchar {
		sl.limit = c.Length
	}
	if i == 0 {
		sl.ints = &rows.Timestamps
		return sl
	}
	sl.values = &rows.Columns[i-1]
	sl.ints = &sl.values.Ints
	return sl
}

// reader reads the value groups of one table. What is common, plain numbers with
// a comma or a parenthesis right behind them, it reads byte by byte; everything
// else it hands to the parser, one value at a time.
type reader struct {
	p         *parser
	plan      []slot
	rows      *Rows
	moment    Moment
	precision Precision
	budget    int64 // rows that may still come
}

// groups reads (v, ...) (v, ...) ... from behind the word VALUES on.
func (r *reader) groups() {
	p := r.p
	p.advance()
	if !p.isSymbol("(") {
		p.unexpected()
		return
	}
	s, i := p.src, p.pos
	for {
		if int64(len(r.rows.Timestamps)) >= r.budget {
			p.fail(errorf(CodeInvalid, "Invalid parameters: more than %d values in one statement, NULLs for columns without a value included", maxCells))
			return
		}
		if i = r.group(s, i); i < 0 {
			return
		}
		if i < len(s) && s[i] == '(' {
			i++
			continue
		}
		p.pos = i
		p.advance()
		if p.acceptSymbol(",") && !p.isSymbol("(") {
			p.unexpected()
			return
		}
		if !p.isSymbol("(") {
			return
		}
		i = p.pos
	}
}

// group reads one group from behind its parenthesis on. It returns where it
// stopped, or a negative number after an error.
func (r *reader) group(s string, i int) int {
	for k := range r.plan {
		c := &r.plan[k]
		for i < len(s) && s[i] == ' ' {
			i++
		}
		switch c.form {
		case StoreInts:
			n, j := fastInt(s, i)
			if j > i && j < len(s) && s[j] == c.stop && n >= c.min && n <= c.max {
				*c.ints = append(*c.ints, n)
				i = j + 1
				continue
			}
		case StoreFloats:
			f, j := fastFloat(s, i)
			if j > i && j < len(s) && s[j] == c.stop {
				if c.single {
					f = float64(float32(f))
				}
				c.values.Floats = append(c.values.Floats, f)
				i = j + 1
				continue
			}
		case StoreBytes:
			j := plainString(s, i)
			if j < len(s) && s[j] == c.stop && j-i-2 <= c.limit {
				c.values.AppendText(s[i+1 : j-1])
				i = j + 1
				continue
			}
		}
		if i = r.value(c, i); i < 0 {
			return i
		}
	}
	return i
}

// plainString returns the end of the string at s[i:], or len(s) if there is none
// or its value is not what stands between the quotes.
func plainString(s string, i int) int {
	if i >= len(s) || s[i] != '\'' && s[i] != '"' {
		return len(s)
	}
	quote := s[i]
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			return len(s)
		case quote:
			return i + 1 // a doubled quote is not followed by a comma or parenthesis
		}
	}
	return len(s)
}

// value reads one value of any kind, and what stops it, with the parser.
func (r *reader) value(c *slot, i int) int {
	p := r.p
	if c.values != nil && isNull(p.src[i:], c.stop) {
		c.values.AppendNull()
		return i + len("null,")
	}
	p.pos = i
	p.advance()
	first := p.tok
	v := r.constant()
	if p.err != nil {
		if p.err.Code != CodeSyntax && p.err.Code != CodeIncomplete {
			p.err = r.where(p.err, c)
		}
		return -1
	}
	v, err := r.moment.coerce(v, c.column, r.precision)
	if err == nil && c.values == nil && v.IsNull() {
		err = errorf(CodeValueType, "Invalid value type: the timestamp can't be NULL")
	}
	for err == nil && v.Type == TypeTimestamp && (p.isSymbol("+") || p.isSymbol("-")) {
		minus := p.isSymbol("-")
		p.advance()
		v.Int, err = shift(v.Int, p.duration(), minus, r.precision)
		if p.err != nil {
			return -1
		}
	}
	if err != nil {
		p.fail(r.where(err, c))
		return -1
	}
	if p.tok.kind != symbol || p.tok.text[0] != c.stop {
		r.badStop(first)
		return -1
	}
	if c.values == nil {
		r.rows.Timestamps = append(r.rows.Timestamps, v.Int)
	} else {
		c.values.AppendValue(v)
	}
	return p.pos
}

// isNull reports whether s begins with NULL and stop.
func isNull(s string, stop byte) bool {
	return len(s) > 4 && s[4] == stop && s[0]|0x20 == 'n' && strings.EqualFold(s[:4], "null")
}

// where is err with the place of the value.
func (r *reader) where(err *Error, c *slot) *Error {
	return errorf(err.Code, "%s (row %d, column %s)", err.Text, r.row(), c.column.Name)
}

// row counts the groups from 1: the one that is being read.
func (r *reader) row() int {
	n := math.MaxInt
	for i := range r.plan {
		if v := r.plan[i].values; v != nil {
			n = min(n, v.Len())
		} else {
			n = min(n, len(r.rows.Timestamps))
		}
	}
	return n + 1
}

// badStop says what is wrong behind a value that began at first.
func (r *reader) badStop(first token) {
	p := r.p
	if p.isSymbol(",") || p.isSymbol(")") {
		few := "few"
		if p.isSymbol(",") {
			few = "many"
		}
		p.fail(errorf(CodeSyntax, "syntax error near \"%s\": too %s values in row %d, %d columns",
			clip(p.src[first.pos:]), few, r.row(), len(r.plan)))
		return
	}
	p.unexpected()
}

// constant reads a value and moves behind it. NOW and TODAY become TIMESTAMPs.
func (r *reader) constant() Value {
	p := r.p
	switch p.tok.kind {
	case text:
		v := Value{Type: TypeVarchar, Text: p.tok.string()}
		p.advance()
		return v
	case integer, decimal:
		return p.number(false)
	case symbol:
		minus := p.acceptSymbol("-")
		if (minus || p.acceptSymbol("+")) && (p.tok.kind == integer || p.tok.kind == decimal) {
			return p.number(minus)
		}
	case word:
		return r.wordConstant()
	}
	p.unexpected()
	return Value{}
}

func (r *reader) wordConstant() Value {
	p := r.p
	switch {
	case p.accept("null"):
		return Value{}
	case p.accept("true"):
		return Value{Type: TypeBool, Int: 1}
	case p.accept("false"):
		return Value{Type: TypeBool}
	case p.is("now"), p.is("today"):
		at := r.moment.Now
		if p.is("today") {
			at = r.moment.today()
		}
		p.advance()
		if p.acceptSymbol("(") {
			p.expectSymbol(")")
		}
		ts, err := stepsOf(at, r.precision)
		if err != nil {
			p.fail(err)
		}
		return Value{Type: TypeTimestamp, Int: ts}
	}
	p.unexpected()
	return Value{}
}
