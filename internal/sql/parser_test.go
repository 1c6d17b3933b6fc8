package sql

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cockroachdb/datadriven"
)

// TestStatements runs the stories in testdata: each line of input is a
// statement; what it means, in one spelling, or its error is expected.
func TestStatements(t *testing.T) {
	datadriven.Walk(t, "testdata/statements", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			lines := strings.Split(d.Input, "\n")
			if d.Cmd == "one" { // statement on several lines
				lines = []string{d.Input}
			}
			var b strings.Builder
			for _, line := range lines {
				s, err := Parse(line)
				if err != nil {
					b.WriteString(describe(err) + "\n")
					continue
				}
				b.WriteString(s.String() + "\n")
				checkReparses(t, s)
			}
			return b.String()
		})
	})
}

// describe is an error with its code.
func describe(err error) string {
	var e *Error
	if !errors.As(err, &e) {
		return "not an *Error: " + err.Error()
	}
	return fmt.Sprintf("0x%04X %s", uint16(e.Code), e.Text)
}

// checkReparses: the printed form of a statement parses to an equal one.
func checkReparses(t *testing.T, s Statement) {
	t.Helper()
	again, err := Parse(s.String())
	if err != nil {
		t.Errorf("%s: printed form does not parse: %v", s, err)
		return
	}
	if got, want := comparable(again), comparable(s); !reflect.DeepEqual(got, want) {
		t.Errorf("%s\nparsed again: %s\ngot  %#v\nwant %#v", s, again, got, want)
	}
}

// comparable is s without what printing changes: the text of items, passwords,
// and the settings' order in memory.
func comparable(s Statement) Statement {
	switch s := s.(type) {
	case *Select:
		clearTexts(s)
	case *CreateUser:
		s.Password = ""
	case *AlterUser:
		s.Password = ""
	case *Insert:
		return &Insert{p: parser{lexer: lexer{src: s.p.src}}}
	}
	return s
}

func clearTexts(s *Select) {
	for i := range s.Items {
		s.Items[i].Text = ""
	}
	if s.From != nil && s.From.Query != nil {
		clearTexts(s.From.Query)
	}
}

func TestItemNames(t *testing.T) {
	s, err := Parse("select count(*), AVG( c4 ) , a+1 AS b, `C d`, _wstart w, last_row(*) from t")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"count(*)", "AVG( c4 )", "b", "`C d`", "w", "last_row(*)"}
	for i, item := range s.(*Select).Items {
		if item.Name() != want[i] {
			t.Errorf("item %d: got %q, want %q", i, item.Name(), want[i])
		}
	}
}

// Names travel between hosts, where their length has a limit.
func TestLongItemName(t *testing.T) {
	s, err := Parse("select '" + strings.Repeat("東", 1000) + "'")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.(*Select).Items[0].Name(); len(got) > maxItemText || len(got) < maxItemText-3 || !utf8.ValidString(got) {
		t.Errorf("a long item is called %q, %d bytes", got, len(got))
	}
}

func TestStrings(t *testing.T) {
	tests := []struct{ sql, want string }{
		{`'plain'`, "plain"},
		{`"double 'inside'"`, "double 'inside'"},
		{`'it''s'`, "it's"},
		{`'a""b''c'`, `a""b'c`},
		{`"a""b"`, `a"b`},
		{`'\'\"\\\n\t\r'`, "'\"\\\n\t\r"},
		{`'50\%\_'`, `50\%\_`},
		{`'\x41'`, `\x41`},
		{`''`, ""},
		{`'Zürich 東京'`, "Zürich 東京"},
	}
	for _, tt := range tests {
		s, err := Parse("SELECT " + tt.sql)
		if err != nil {
			t.Errorf("%s: %v", tt.sql, err)
			continue
		}
		if got := s.(*Select).Items[0].Expr.(*Literal).Value.Text; got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.sql, got, tt.want)
		}
	}
}

func TestLimits(t *testing.T) {
	columns := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, ", c%d TINYINT", i)
		}
		return b.String()
	}
	tests := []struct {
		name, sql string
		code      Code // zero: accepted
	}{
		{"1 MiB", "SELECT '" + strings.Repeat("x", MaxStatement-9) + "'", 0},
		{"more than 1 MiB", "SELECT '" + strings.Repeat("x", MaxStatement-8) + "'", CodeTooLong},
		{"4096 columns", "CREATE TABLE t (ts TIMESTAMP" + columns(4095) + ")", 0},
		{"4097 columns", "CREATE TABLE t (ts TIMESTAMP" + columns(4096) + ")", CodeInvalid},
		{"129 tags", "CREATE TABLE t (ts TIMESTAMP, v INT) TAGS (x INT" + columns(128) + ")", CodeInvalid},
		{"database name", "USE " + strings.Repeat("d", 64), 0},
		{"long database name", "USE " + strings.Repeat("d", 65), CodeIdentifier},
		{"table name", "DESCRIBE " + strings.Repeat("d", 64) + "." + strings.Repeat("t", 192), 0},
		{"long table name", "DESCRIBE d." + strings.Repeat("t", 193), CodeIdentifier},
		{"long database name before a table", "DESCRIBE " + strings.Repeat("d", 65) + ".t", CodeIdentifier},
		{"column name", "CREATE TABLE t (" + strings.Repeat("c", 65) + " TIMESTAMP)", CodeIdentifier},
		{"user name", "DROP USER " + strings.Repeat("u", 24), CodeNameTooLong},
		{"password", "CREATE USER u PASS '" + strings.Repeat("p", 255) + "'", 0},
		{"long password", "CREATE USER u PASS '" + strings.Repeat("p", 256) + "'", CodeNameTooLong},
		{"short password", "CREATE USER u PASS '1234567'", CodeInvalid},
		{"row bytes", "CREATE TABLE t (ts TIMESTAMP, a VARCHAR(40000), b VARCHAR(30000))", CodeInvalid},
		{"tag bytes", "CREATE TABLE t (ts TIMESTAMP, a INT) TAGS (b VARCHAR(16383))", CodeInvalid},
		{"nesting", "SELECT " + strings.Repeat("(", 490) + "1" + strings.Repeat(")", 490), 0},
		{"deep nesting", "SELECT " + strings.Repeat("(", 500_000) + "1", CodeSyntax},
		{"deep negation", "SELECT * FROM t WHERE " + strings.Repeat("NOT ", 200_000) + "a", CodeSyntax},
		{"deep minus", "SELECT " + strings.Repeat("- ", 400_000) + "a", CodeSyntax},
		{"deep subquery", strings.Repeat("SELECT * FROM (", 60_000), CodeSyntax},
		{"many operators", "SELECT * FROM t WHERE a = 1" + strings.Repeat(" OR a = 1", 6000), CodeSyntax},
		{"4096 results", "SELECT 1" + strings.Repeat(",1", 4095), 0},
		{"4097 results", "SELECT 1" + strings.Repeat(",1", 4096), CodeInvalid},
		{"long list", "SELECT * FROM t WHERE a IN (1" + strings.Repeat(",1", 200_000) + ")", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.sql)
			var e *Error
			switch {
			case tt.code == 0 && err != nil:
				t.Errorf("got %v, want no error", err)
			case tt.code != 0 && (!errors.As(err, &e) || e.Code != tt.code):
				t.Errorf("got %v, want code 0x%04X", err, uint16(tt.code))
			}
			if err != nil && len(err.Error()) > 300 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestPasswordsAreNotPrinted(t *testing.T) {
	for _, sql := range []string{"CREATE USER u PASS 'secret-1'", "ALTER USER u PASS 'secret-1'", "CREATE USER u PASS secret-1"} {
		s, err := Parse(sql)
		text := fmt.Sprint(s, err)
		if strings.Contains(text, "secret") {
			t.Errorf("%s: got %s", sql, text)
		}
	}
}

func TestApplyAltersOptions(t *testing.T) {
	create, err := Parse("CREATE DATABASE d REPLICA 2 KEEP 100 PRECISION 'us'")
	if err != nil {
		t.Fatal(err)
	}
	alter, err := Parse("ALTER DATABASE d KEEP 200d,300d QUORUM 2")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Apply(create.(*CreateDatabase).Options, alter.(*AlterDatabase).Given)
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultOptions()
	want.Replica, want.Quorum, want.Precision = 2, 2, Microsecond
	want.KeepMinutes = [3]int64{200 * day, 300 * day, 300 * day}
	if got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if again, err := Apply(DefaultOptions(), got.Settings()); err != nil || again != got {
		t.Errorf("its settings give %+v, error %v; want %+v", again, err, got)
	}
}

func TestWalk(t *testing.T) {
	s, err := Parse("SELECT 1 FROM t WHERE NOT (a = 1 AND b BETWEEN c AND 2) OR f(d, 3) IN (e) OR g IS NULL")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	Walk(s.(*Select).Where, func(e Expr) bool {
		if r, ok := e.(*Ref); ok {
			names = append(names, r.Name)
		}
		return true
	})
	if got := strings.Join(names, " "); got != "a b c d e g" {
		t.Errorf("got %s, want a b c d e g", got)
	}
}

// FuzzParse: no text makes the parser panic; every error has a code; every
// accepted statement has a printed form that parses to an equal statement.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"CREATE DATABASE IF NOT EXISTS d REPLICA 2 KEEP 10,20 PRECISION 'ns' COMMENT 'x'",
		"CREATE DNODE 127.0.0.1:6030;", "DROP DNODE 3 FORCE UNSAFE", "CREATE DNODE h PORT 7",
		"CREATE STABLE d.st (ts TIMESTAMP, v DOUBLE, s NCHAR(8)) TAGS (t INT UNSIGNED, `U v` BINARY(9))",
		"CREATE TABLE t USING st (a) TAGS (-1) IF NOT EXISTS t2 USING st TAGS (NULL, now - 1d, 'x')",
		"SELECT DISTINCT a, count(*) c, - -5, 1.5e3 FROM t WHERE NOT a = 1 AND b NOT IN (1, 'x') OR c IS NOT NULL LIMIT 3, 4",
		"SELECT _wstart, avg(v) FROM (SELECT * FROM d.t) x PARTITION BY tbname INTERVAL(0.5s, 1a) SLIDING(1s) FILL(VALUE, 0) ORDER BY 1 DESC NULLS LAST SLIMIT 1",
		"SHOW `D`.TABLES LIKE 'a\\_%'", "INSERT INTO t VALUES (1,2)", "SELECT CAST(a AS VARCHAR(3)), 18446744073709551615, 0x7F, 0b1 /* c */ -- d",
		"ALTER DATABASE d WAL_RETENTION_PERIOD -1", "SHOW CREATE TABLE d.t", "desc t", "SELECT now, today() + 1w",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, statement string) {
		s, err := Parse(statement)
		if err != nil {
			if e := (*Error)(nil); !errors.As(err, &e) || e.Code == 0 || e.Text == "" {
				t.Fatalf("error %#v has no code or text", err)
			}
			return
		}
		checkReparses(t, s)
	})
}
