package sql

import (
	"strconv"
	"strings"
)

// Limits of a table.
const (
	MaxColumns = 4096
	MaxTags    = 128

	maxRowBytes     = 64 << 10
	maxTagBytes     = 16 << 10
	maxVarcharBytes = 65517 // what a row leaves for its only column
	maxNCharChars   = maxVarcharBytes / 4
)

// create reads what follows CREATE.
func (p *parser) create() Statement {
	switch {
	case p.accept("dnode"):
		return &CreateDnode{EndPoint: p.endPoint()}
	case p.accept("mnode"):
		p.expect("on", "dnode")
		return &CreateMnode{Dnode: p.id()}
	case p.accept("database"):
		s := &CreateDatabase{IfNotExists: p.accept("if", "not", "exists")}
		s.Name = p.ident(MaxDatabaseName)
		s.Given = p.settings()
		s.Options = p.applied(DefaultOptions(), s.Given)
		return s
	case p.accept("stable"):
		return p.createTable(true)
	case p.accept("table"):
		return p.createTable(false)
	case p.accept("user"):
		s := &CreateUser{Name: p.userName()}
		s.Password = p.password()
		return s
	}
	p.unsupported("CREATE ", laterCreate)
	p.unexpected()
	return nil
}

// drop reads what follows DROP.
func (p *parser) drop() Statement {
	switch {
	case p.accept("dnode"):
		return p.dropDnode()
	case p.accept("mnode"):
		p.expect("on", "dnode")
		return &DropMnode{Dnode: p.id()}
	case p.accept("database"):
		s := &DropDatabase{IfExists: p.accept("if", "exists")}
		s.Name = p.ident(MaxDatabaseName)
		return s
	case p.accept("table"):
		return p.dropTable(false)
	case p.accept("stable"):
		return p.dropTable(true)
	case p.accept("user"):
		return &DropUser{Name: p.userName()}
	}
	p.unsupported("DROP ", laterCreate)
	p.unexpected()
	return nil
}

// alter reads what follows ALTER.
func (p *parser) alter() Statement {
	switch {
	case p.accept("database"):
		s := &AlterDatabase{Name: p.ident(MaxDatabaseName)}
		if s.Given = p.settings(); len(s.Given) == 0 {
			p.unexpected()
		}
		for _, g := range s.Given {
			if optionsByName[g.Option].fixed {
				p.fail(errorf(CodeDatabaseOpt, "Invalid database option: %s is fixed when a database is created", g.Option))
			}
		}
		return s
	case p.accept("cluster", "arbitrator"):
		return p.alterArbitrator()
	case p.accept("user"):
		s := &AlterUser{Name: p.userName()}
		s.Password = p.password()
		return s
	}
	p.unsupported("ALTER ", laterAlter)
	p.unexpected()
	return nil
}

// id reads the number of a dnode.
func (p *parser) id() uint32 { return uint32(p.uint(1<<31 - 1)) }

func (p *parser) restoreDnode() Statement {
	s := &RestoreDnode{ID: p.id()}
	if s.ID == 0 && p.err == nil {
		p.fail(errorf(CodeOutOfRange, "Value out of range: dnodes are numbered from 1"))
	}
	return s
}

// alterArbitrator reads the end point of an arbitrator, quoted and empty for
// none.
func (p *parser) alterArbitrator() Statement {
	if p.tok.kind == text && p.tok.text == "" {
		p.advance()
		return &AlterArbitrator{}
	}
	return &AlterArbitrator{EndPoint: p.endPoint()}
}

func (p *parser) dropDnode() Statement {
	s := &DropDnode{}
	if p.tok.kind == text {
		if n, err := strconv.ParseUint(p.tok.text, 10, 31); err == nil {
			s.ID = uint32(n) // (2) also gives the number as a text
			p.advance()
		}
	}
	// An address such as 127.0.0.1:6030 starts like a number, too.
	if s.ID == 0 {
		if rest := p.src[p.tok.pos:]; p.tok.kind == integer && len(address(rest)) == len(p.tok.text) {
			s.ID = p.id()
		} else {
			s.EndPoint = p.endPoint()
		}
	}
	if s.ID == 0 && s.EndPoint.Host == "" && p.err == nil {
		p.fail(errorf(CodeOutOfRange, "Value out of range: dnodes are numbered from 1"))
	}
	s.Force = p.accept("force")
	s.Unsafe = p.accept("unsafe")
	return s
}

// endPoint reads 'fqdn:port', "fqdn:port", fqdn:port or fqdn PORT n.
func (p *parser) endPoint() EndPoint {
	var written string
	if p.tok.kind == text {
		written = p.stringLit()
	} else {
		written = address(p.src[p.tok.pos:])
		if written == "" {
			p.unexpected()
			return EndPoint{}
		}
		p.pos = p.tok.pos + len(written)
		p.advance()
	}
	ep, err := parseEndPoint(written)
	if err != nil {
		p.fail(err)
	}
	if ep.Port == 0 && p.accept("port") {
		n := p.uint(1<<16 - 1)
		if n == 0 {
			p.fail(errorf(CodePort, "Port should be an integer from 1 to 65535"))
		}
		ep.Port = uint16(n)
	}
	return ep
}

// address is the start of s that can belong to an end point without quotes.
func address(s string) string {
	for i := range len(s) {
		if c := s[i]; classes[c]&(classLetter|classDigit) == 0 && !strings.ContainsRune(".-:[]", rune(c)) {
			return s[:i]
		}
	}
	return s
}

// maxHost bounds the name of a host, in bytes.
const maxHost = 128

// ParseEndPoint reads host:port, or a host alone: a name, an IPv4 address, or an
// IPv6 address in brackets.
func ParseEndPoint(s string) (EndPoint, error) {
	ep, err := parseEndPoint(s)
	return ep, err.orNil()
}

func parseEndPoint(s string) (EndPoint, *Error) {
	host, port := strings.TrimSpace(s), ""
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host, port = host[:i], host[i+1:]
		if port == "" {
			port = "0" // a colon wants a port
		}
	}
	name := host
	if strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") {
		name = strings.ReplaceAll(name[1:len(name)-1], ":", "")
	}
	bad := name == "" || len(host) > maxHost || address(name) != name || strings.ContainsAny(name, ":[]")
	if bad {
		return EndPoint{}, errorf(CodeEndPoint, "Endpoint should be in the format of 'fqdn:port': '%s'", clip(s))
	}
	if port == "" {
		return EndPoint{Host: strings.ToLower(host)}, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return EndPoint{}, errorf(CodePort, "Port should be an integer from 1 to 65535: '%s'", clip(s))
	}
	return EndPoint{Host: strings.ToLower(host), Port: uint16(n)}, nil
}

// String is host:port, or the host alone.
func (e EndPoint) String() string {
	if e.Port == 0 {
		return e.Host
	}
	return e.Host + ":" + strconv.Itoa(int(e.Port))
}

// userName reads the name of a user.
func (p *parser) userName() string {
	if len(p.tok.text) > maxUserName {
		p.fail(errorf(CodeNameTooLong, "Name or password too long: user %s: %d bytes, at most %d", clip(p.tok.text), len(p.tok.text), maxUserName))
	}
	return p.ident(maxUserName)
}

// password reads PASS 'p'. Its errors do not quote it.
func (p *parser) password() string {
	p.expect("pass")
	if p.tok.kind != text && p.err == nil && p.tok.kind != end {
		p.fail(errorf(CodeSyntax, "syntax error after PASS: a password stands in quotes"))
	}
	s := p.stringLit()
	switch {
	case p.err != nil:
	case s == "":
		p.fail(errorf(CodeNoPassword, "Password can not be empty"))
	case len(s) > maxPassword:
		p.fail(errorf(CodeNameTooLong, "Name or password too long: password of %d bytes, at most %d", len(s), maxPassword))
	case len(s) < minPassword:
		p.fail(errorf(CodeInvalid, "Invalid parameters: password of %d bytes, at least %d", len(s), minPassword))
	}
	return s
}

// createTable reads what follows CREATE TABLE or CREATE STABLE.
func (p *parser) createTable(stable bool) Statement {
	ifNotExists := p.accept("if", "not", "exists")
	name := p.tableName()
	if !stable && p.is("using") {
		return p.childTables(ChildTable{Table: name, IfNotExists: ifNotExists})
	}
	s := &CreateTable{Table: name, IfNotExists: ifNotExists, Columns: p.columns(MaxColumns)}
	if p.accept("tags") {
		s.Tags = p.columns(MaxTags)
	} else if stable && p.err == nil {
		p.unexpected()
	}
	if p.err == nil {
		p.checkTable(s)
	}
	return s
}

// childTables reads USING ... for the first table, and the tables after it.
func (p *parser) childTables(first ChildTable) Statement {
	first.Using = p.using()
	s := &CreateChildTables{Tables: []ChildTable{first}}
	for p.err == nil && (p.tok.kind == word || p.tok.kind == quoted) {
		t := ChildTable{IfNotExists: p.accept("if", "not", "exists")}
		t.Table = p.tableName()
		t.Using = p.using()
		s.Tables = append(s.Tables, t)
	}
	return s
}

// using reads USING st [(tag, ...)] TAGS (v, ...).
func (p *parser) using() Using {
	p.expect("using")
	u := Using{Table: p.tableName()}
	if p.isSymbol("(") {
		u.Tags = p.idents(maxColumnName)
	}
	p.expect("tags")
	p.expectSymbol("(")
	u.Values = p.exprs()
	p.expectSymbol(")")
	if len(u.Tags) > 0 && len(u.Tags) != len(u.Values) && p.err == nil {
		p.fail(errorf(CodeTagCount, "Tags number not matched: %d values for %d tags", len(u.Values), len(u.Tags)))
	}
	return u
}

// columns reads (name type, ...), at most limit of them.
func (p *parser) columns(limit int) []Column {
	p.expectSymbol("(")
	list := []Column{p.column()}
	for p.acceptSymbol(",") {
		list = append(list, p.column())
		if len(list) > limit {
			p.fail(errorf(CodeInvalid, "Invalid parameters: more than %d columns or tags", limit))
		}
	}
	p.expectSymbol(")")
	return list
}

func (p *parser) column() Column {
	name := p.ident(maxColumnName)
	c := p.columnType(name)
	if p.is("primary") {
		p.fail(errorf(CodeNotSupported, "PRIMARY KEY is not supported in this version: the timestamp is the key"))
	}
	return c
}

// typeNames maps the words of CREATE TABLE to types.
var typeNames = map[string]Type{
	"bool": TypeBool, "tinyint": TypeTinyInt, "smallint": TypeSmallInt, "int": TypeInt, "integer": TypeInt,
	"bigint": TypeBigInt, "float": TypeFloat, "double": TypeDouble, "varchar": TypeVarchar, "binary": TypeVarchar,
	"timestamp": TypeTimestamp, "nchar": TypeNChar, "json": TypeJSON, "varbinary": TypeVarBinary,
	"decimal": TypeDecimal, "blob": TypeBlob, "geometry": TypeGeometry,
}

// columnType reads the type of the column with this name.
func (p *parser) columnType(name string) Column {
	c := Column{Name: name, Type: typeNames[fold(p.tok.text)]}
	if p.tok.kind != word || c.Type == TypeNull {
		p.unexpected()
		return c
	}
	p.advance()
	if c.Type >= TypeTinyInt && c.Type <= TypeBigInt && p.accept("unsigned") {
		c.Type += TypeUTinyInt - TypeTinyInt
	}
	c.Length = c.Type.Width()
	switch c.Type {
	case TypeVarchar, TypeVarBinary, TypeGeometry:
		c.Length = p.length(maxVarcharBytes)
	case TypeNChar:
		c.Length = p.length(maxNCharChars)
	case TypeDecimal:
		p.expectSymbol("(")
		c.Length = int(p.uint(38))
		if p.acceptSymbol(",") {
			c.Scale = int(p.uint(uint64(c.Length)))
		}
		p.expectSymbol(")")
	case TypeJSON:
		c.Length = maxTagBytes
	case TypeBlob:
		c.Length = 4 << 20
	}
	return c
}

// length reads (n) from 1 to limit.
func (p *parser) length(limit uint64) int {
	p.expectSymbol("(")
	n := p.uint(limit)
	if n == 0 && p.err == nil {
		p.fail(errorf(CodeOutOfRange, "Value out of range: length 0, at least 1"))
	}
	p.expectSymbol(")")
	return int(n)
}

// bytes is the most that a value of c takes in a row.
func (c Column) bytes() int {
	switch c.Type {
	case TypeNChar:
		return 4*c.Length + 2
	case TypeVarchar, TypeVarBinary, TypeGeometry:
		return c.Length + 2
	case TypeBlob:
		return 16 // kept beside the row
	}
	return c.Length
}

// checkTable refuses what no table can be.
func (p *parser) checkTable(s *CreateTable) {
	if s.Columns[0].Type != TypeTimestamp {
		p.fail(errorf(CodeInvalid, "Invalid parameters: the first column must be a TIMESTAMP, not %s", s.Columns[0]))
		return
	}
	seen := make(map[string]bool, len(s.Columns)+len(s.Tags))
	row, tags := 0, 0
	for i, c := range append(s.Columns[:len(s.Columns):len(s.Columns)], s.Tags...) {
		tag := i >= len(s.Columns)
		switch {
		case seen[c.Name]:
			p.fail(errorf(CodeColumnName, "Invalid column name: %s stands twice", c.Name))
		case c.Type == TypeJSON && (!tag || len(s.Tags) > 1):
			p.fail(errorf(CodeInvalid, "Invalid parameters: %s: JSON is for a single tag only", c.Name))
		}
		seen[c.Name] = true
		if tag {
			tags += c.bytes()
		} else {
			row += c.bytes()
		}
	}
	if row > maxRowBytes {
		p.fail(errorf(CodeInvalid, "Invalid parameters: a row takes %d bytes, at most %d", row, maxRowBytes))
	}
	if tags > maxTagBytes {
		p.fail(errorf(CodeInvalid, "Invalid parameters: the tags take %d bytes, at most %d", tags, maxTagBytes))
	}
}

// dropTable reads what follows DROP TABLE or DROP STABLE.
func (p *parser) dropTable(stable bool) Statement {
	s := &DropTable{Stable: stable}
	for {
		t := DroppedTable{IfExists: p.accept("if", "exists")}
		t.Table = p.tableName()
		s.Tables = append(s.Tables, t)
		if !p.acceptSymbol(",") {
			return s
		}
	}
}
