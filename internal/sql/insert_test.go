package sql

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// everyType has a column of every type that rows can hold.
var everyType = []Column{
	{Name: "ts", Type: TypeTimestamp, Length: 8},
	{Name: "b", Type: TypeBool, Length: 1},
	{Name: "i8", Type: TypeTinyInt, Length: 1},
	{Name: "i32", Type: TypeInt, Length: 4},
	{Name: "i64", Type: TypeBigInt, Length: 8},
	{Name: "u8", Type: TypeUTinyInt, Length: 1},
	{Name: "u64", Type: TypeUBigInt, Length: 8},
	{Name: "f32", Type: TypeFloat, Length: 4},
	{Name: "f64", Type: TypeDouble, Length: 8},
	{Name: "s", Type: TypeVarchar, Length: 12},
	{Name: "n", Type: TypeNChar, Length: 4},
	{Name: "x", Type: TypeVarBinary, Length: 6},
	{Name: "t2", Type: TypeTimestamp, Length: 8},
}

var testMoment = Moment{
	Now:  time.Date(2024, 5, 1, 8, 30, 0, 123456789, time.UTC),
	Zone: time.FixedZone("", 2*3600),
}

// readAll reads an INSERT whose tables all have the columns of everyType. It
// returns the rows of each table, and the targets.
func readAll(statement string) (targets []Target, batches []*Rows, err error) {
	s, err := Parse(statement)
	if err != nil {
		return nil, nil, err
	}
	insert := s.(*Insert)
	for insert.Next() {
		rows := &Rows{}
		if err := insert.Read(everyType, testMoment, Millisecond, rows); err != nil {
			return nil, nil, err
		}
		targets = append(targets, insert.Target())
		batches = append(batches, rows)
	}
	return targets, batches, insert.Err()
}

// cell is row i, column c as text.
func cell(r *Rows, i, c int) string {
	if c == 0 {
		return strconv.FormatInt(r.Timestamps[i], 10)
	}
	return r.Columns[c-1].Value(i).SQL()
}

func TestInsertValues(t *testing.T) {
	tests := []struct {
		column, sql, want string // want: the value, or 0x and an error
	}{
		{"ts", "1714550400000", "1714550400000"},
		{"ts", "-5", "-5"},
		{"ts", "now", "1714552200123"},
		{"ts", "NOW() + 1d", "1714638600123"},
		{"ts", "now - 1h + 2s", "1714548602123"},
		{"ts", "now+500u", "1714552200123"},
		{"ts", "TODAY()", "1714514400000"},
		{"ts", "'2024-05-01 10:30:00.1239'", "1714552200123"},
		{"ts", "'2024-05-01T08:30:00Z' - 1a", "1714552199999"},
		{"ts", "1714550400000 + 1w", "1715155200000"},
		{"ts", "0x10", "16"},
		{"ts", "NULL", "0x2605"},
		{"ts", "1.5", "0x2605"},
		{"ts", "true", "0x2605"},
		{"ts", "'yesterday'", "0x2605"},
		{"ts", "now + 1n", "0x2605"},
		{"ts", "9223372036854775807 + 1s", "0x0224"},
		{"ts", "18446744073709551615", "0x0224"},
		{"t2", "NULL", "NULL"},
		{"t2", "now", "1714552200123"},
		{"b", "true", "true"},
		{"b", "FALSE", "false"},
		{"b", "1", "true"},
		{"b", "0", "false"},
		{"b", "'True'", "true"},
		{"b", "'0'", "false"},
		{"b", "2", "0x2605"},
		{"b", "'yes'", "0x2605"},
		{"b", "1.0", "0x2605"},
		{"i8", "127", "127"},
		{"i8", "-128", "-128"},
		{"i8", "128", "0x0224"},
		{"i8", "'-7'", "-7"},
		{"i8", "' + 7 '", "7"},
		{"i8", "+7", "7"},
		{"i8", "- 7", "-7"},
		{"i8", "7.0", "7"},
		{"i8", "1e2", "100"},
		{"i8", "7.5", "0x2605"},
		{"i8", "''", "0x2605"},
		{"i8", "'7 8'", "0x2605"},
		{"i8", "now", "0x2605"},
		{"i8", "1e999", "0x0224"},
		{"i32", "2147483648", "0x0224"},
		{"i32", "0b101", "5"},
		{"i64", "9223372036854775807", "9223372036854775807"},
		{"i64", "-9223372036854775808", "-9223372036854775808"},
		{"i64", "9223372036854775808", "0x0224"},
		{"i64", "1e18", "1000000000000000000"},
		{"i64", "1e19", "0x0224"},
		{"i64", "000000000000000000000000012", "12"},
		{"u8", "255", "255"},
		{"u8", "256", "0x0224"},
		{"u8", "-1", "0x0224"},
		{"u64", "18446744073709551615", "18446744073709551615"},
		{"u64", "9223372036854775808", "9223372036854775808"},
		{"u64", "-1", "0x0224"},
		{"u64", "18446744073709551616", "0x0224"},
		{"f32", "0.1", "1.0000000149011612e-01"},
		{"f32", "1e39", "0x0224"},
		{"f32", "16777217", "1.6777216e+07"},
		{"f64", "0.1", "1e-01"},
		{"f64", "-0.0", "-0e+00"},
		{"f64", "123456789012345", "1.23456789012345e+14"},
		{"f64", "0.30000000000000004", "3.0000000000000004e-01"},
		{"f64", "1e-3", "1e-03"},
		{"f64", "5.", "5e+00"},
		{"f64", "-.5", "-5e-01"},
		{"f64", "'2.5'", "2.5e+00"},
		{"f64", "18446744073709551615", "1.8446744073709552e+19"},
		{"f64", "'nan'", "0x2605"},
		{"f64", "true", "0x2605"},
		{"s", "'it''s'", `'it\'s'`},
		{"s", "''", "''"},
		{"s", `"a\tb"`, `'a\tb'`},
		{"s", "'123456789012'", "'123456789012'"},
		{"s", "'1234567890123'", "0x2653"},
		{"s", `'12345678901\''`, `'12345678901\''`},
		{"s", "12", "'12'"},
		{"s", "null", "NULL"},
		{"n", "'東京'", "'東京'"},
		{"n", "'東京東京'", "'東京東京'"},
		{"n", "'東京東京x'", "0x2653"},
		{"n", "'\xff'", "0x2605"},
		{"x", `'\x4142'`, "'AB'"},
		{"x", `'\x414'`, "0x2605"},
		{"x", "'AB'", "'AB'"},
		{"x", `'\x41424344454647'`, "0x2653"},
		{"i8", "", "0x2600"},
		{"i8", "1 2", "0x2600"},
		{"i8", "bananas", "0x2600"},
		{"i8", "(1)", "0x2600"},
		{"i8", "1 + 1", "0x2600"},
		{"i8", "1 /* one */", "1"},
		{"i8", "-- one\n1", "1"},
	}
	for _, tt := range tests {
		t.Run(tt.column+"="+tt.sql, func(t *testing.T) {
			at := indexOf(everyType, tt.column)
			statement := fmt.Sprintf("INSERT INTO t (%s, ts) VALUES (%s, 1)", tt.column, tt.sql)
			if at == 0 {
				statement = fmt.Sprintf("INSERT INTO t (i8, ts) VALUES (1, %s)", tt.sql)
			}
			_, batches, err := readAll(statement)
			var got string
			if e := (*Error)(nil); errors.As(err, &e) {
				got = fmt.Sprintf("0x%04X", uint16(e.Code))
				if e.Code != CodeSyntax && !strings.Contains(e.Text, "row 1, column "+tt.column) {
					t.Errorf("error does not say where: %s", e.Text)
				}
			} else {
				got = cell(batches[0], 0, at)
			}
			if got != tt.want {
				t.Errorf("got %s, want %s (%v)", got, tt.want, err)
			}
		})
	}
}

func TestInsertForms(t *testing.T) {
	const all = "1, true, 2, 3, 4, 5, 6, 7, 8, 'a', 'b', 'c', 9"
	tests := []struct {
		name, sql, want string // want: table rows ..., or the error
	}{
		{"one row", "INSERT INTO t VALUES (" + all + ")", "t 1"},
		{"semicolon, case, database", "insert into D.T values(" + all + ");", "d.t 1"},
		{"groups with and without commas", "INSERT INTO t VALUES (" + all + ")(" + all + "), (" + all + ") ,(" + all + ")\n(" + all + ")", "t 5"},
		{"import", "IMPORT INTO t (ts) VALUES (1)", "t(ts) 1"},
		{"columns", "INSERT INTO t (i8, ts) VALUES (1, 2) (3, 4)", "t(i8,ts) 2"},
		{"quoted names", "INSERT INTO `T 1` (`ts`) VALUES (1)", "`T 1`(ts) 1"},
		{"using", "INSERT INTO t USING d.st TAGS ('a', -1) VALUES (" + all + ")", "t USING d.st TAGS ('a', -1) 1"},
		{"using with tag names, columns behind", "INSERT INTO t USING st (b, a) TAGS (1, now + 1d) (ts) VALUES (1)", "t(ts) USING st (b, a) TAGS (1, now() + 1d) 1"},
		{"columns before using", "INSERT INTO t (ts) USING st TAGS (1) VALUES (1)", "t(ts) USING st TAGS (1) 1"},
		{"several tables", "INSERT INTO t (ts) VALUES (1) (2) d.u USING st TAGS (1) (ts) VALUES (3) `V` (ts) VALUES (4);", "t(ts) 2, d.u(ts) USING st TAGS (1) 1, `V`(ts) 1"},
		{"comments", "INSERT /* a */ INTO t -- b\n (ts) VALUES /* c */ (1) /* d */ (2) -- e", "t(ts) 2"},
		{"nothing", "INSERT INTO", "Incomplete SQL statement"},
		{"no values", "INSERT INTO t VALUES", "Incomplete SQL statement"},
		{"no columns", "INSERT INTO t () VALUES (1)", `syntax error near ") VALUES (1)"`},
		{"open group", "INSERT INTO t (ts) VALUES (1", "Incomplete SQL statement"},
		{"open list", "INSERT INTO t (ts, i8) VALUES (1,", "Incomplete SQL statement"},
		{"comma at the end", "INSERT INTO t (ts) VALUES (1),", "Incomplete SQL statement"},
		{"comma before a table", "INSERT INTO t (ts) VALUES (1), u (ts) VALUES (2)", `syntax error near "u (ts) VALUES (2)"`},
		{"too few", "INSERT INTO t (ts, i8) VALUES (1, 2) (3)", `syntax error near "3)": too few values in row 2, 2 columns`},
		{"too many", "INSERT INTO t (ts, i8) VALUES (1, 2, 3)", `syntax error near "2, 3)": too many values in row 1, 2 columns`},
		{"empty group", "INSERT INTO t (ts) VALUES ()", `syntax error near ")"`},
		{"unknown column", "INSERT INTO t (ts, bananas) VALUES (1, 2)", "Invalid column name: bananas"},
		{"column twice", "INSERT INTO t (ts, i8, i8) VALUES (1, 2, 3)", "Invalid column name: i8 stands twice"},
		{"no timestamp", "INSERT INTO t (i8) VALUES (1)", "Invalid column name: ts, the timestamp, must be among the columns"},
		{"row and column in errors", "INSERT INTO t (ts, i8) VALUES (1, 2) (3, 4) (5, 600)", "Value out of range: 600 does not fit into TINYINT (row 3, column i8)"},
		{"columns twice", "INSERT INTO t (ts) USING st TAGS (1) (ts) VALUES (1)", `syntax error near "(ts) VALUES (1)"`},
		{"second statement", "INSERT INTO t (ts) VALUES (1); INSERT INTO t (ts) VALUES (1)", `syntax error near "INSERT INTO t (ts) VALUES (1)"`},
		{"select", "INSERT INTO t SELECT * FROM u", "INSERT ... SELECT is not supported in this version"},
		{"file", "INSERT INTO t FILE 'a.csv'", "INSERT ... FILE is not supported in this version"},
		{"into", "INSERT t VALUES (1)", `syntax error near "t VALUES (1)"`},
		{"error in a later table", "INSERT INTO t (ts) VALUES (1) u (ts) VALUES (x)", `syntax error near "x)"`},
		{"tags", "INSERT INTO t USING st (a) TAGS (1, 2) VALUES (1)", "Tags number not matched: 2 values for 1 tags"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			targets, batches, err := readAll(tt.sql)
			var parts []string
			for i, target := range targets {
				parts = append(parts, printTarget(target)+" "+strconv.Itoa(batches[i].Len()))
			}
			got := strings.Join(parts, ", ")
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func printTarget(t Target) string {
	out := t.Table.String()
	if len(t.Columns) > 0 {
		out += "(" + strings.Join(t.Columns, ",") + ")"
	}
	if t.Using != nil {
		out += " " + t.Using.String()
	}
	return out
}

func TestInsertFillsOmittedColumnsWithNull(t *testing.T) {
	_, batches, err := readAll("INSERT INTO t (s, ts) VALUES ('a', 1) (NULL, 2)")
	if err != nil {
		t.Fatal(err)
	}
	r := batches[0]
	for c := range r.Columns {
		v := &r.Columns[c]
		if v.Len() != 2 {
			t.Errorf("column %s has %d values, want 2", v.Name, v.Len())
		}
		for i := range 2 {
			if null := v.Nulls.Get(i); null != (v.Name != "s" || i == 1) {
				t.Errorf("column %s, row %d: NULL is %t", v.Name, i, null)
			}
		}
	}
}

func TestInsertBoundsWhatItUnfoldsTo(t *testing.T) {
	wide := []Column{{Name: "ts", Type: TypeTimestamp}}
	for i := range MaxColumns - 1 {
		wide = append(wide, Column{Name: fmt.Sprint("c", i), Type: TypeBigInt})
	}
	statement := "INSERT INTO t (ts) VALUES " + strings.Repeat("(1)", 500) + strings.Repeat(" u (ts) VALUES (1)", 600)
	s, err := Parse(statement)
	if err != nil {
		t.Fatal(err)
	}
	insert, rows, total := s.(*Insert), &Rows{}, 0
	for insert.Next() {
		if insert.Read(wide, testMoment, Millisecond, rows) == nil {
			total += rows.Len()
		}
	}
	if e := (*Error)(nil); !errors.As(insert.Err(), &e) || e.Code != CodeInvalid {
		t.Errorf("got %v, want code 0x%04X", insert.Err(), CodeInvalid)
	}
	if total != maxCells/MaxColumns {
		t.Errorf("got %d rows before the error, want %d", total, maxCells/MaxColumns)
	}
}

// TestInsertReusesRows: a Rows that held another table holds nothing of it.
func TestInsertReusesRows(t *testing.T) {
	rows := &Rows{}
	for range 2 {
		for _, sql := range []string{"INSERT INTO t (ts, s) VALUES (1, NULL) (2, 'long text')", "INSERT INTO t (ts, i8) VALUES (3, 4)"} {
			s, err := Parse(sql)
			if err != nil {
				t.Fatal(err)
			}
			insert := s.(*Insert)
			insert.Next()
			if err := insert.Read(everyType, testMoment, Millisecond, rows); err != nil {
				t.Fatal(err)
			}
			_, fresh, err := readAll(sql)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := printRows(rows), printRows(fresh[0]); got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
		}
	}
}

func TestInsertAllocatesNothingPerRow(t *testing.T) {
	allocations := func(rows int) float64 {
		statement := sensorInsert(rows, "")
		into := NewRows(sensorTable[1:], rows)
		return testing.AllocsPerRun(20, func() {
			s, err := Parse(statement)
			if err != nil {
				t.Fatal(err)
			}
			insert := s.(*Insert)
			for insert.Next() {
				if err := insert.Read(sensorTable, testMoment, Millisecond, into); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if few, many := allocations(1), allocations(1000); many > few {
		t.Errorf("%v allocations for 1 row, %v for 1000", few, many)
	}
}

func TestTagValues(t *testing.T) {
	tags := []Column{{Name: "site", Type: TypeVarchar, Length: 4}, {Name: "floor", Type: TypeTinyInt}, {Name: "since", Type: TypeTimestamp}}
	tests := []struct{ using, want string }{
		{"TAGS ('a', 3, now)", "'a' 3 1714552200123"},
		{"TAGS (NULL, '3', '2024-05-01T08:00:00Z')", "NULL 3 1714550400000"},
		{"(floor) TAGS (-3)", "NULL -3 NULL"},
		{"(since, site) TAGS (now - 1d, 'x')", "'x' NULL 1714465800123"},
		{"TAGS ('a', 3)", "Tags number not matched: 2 values for 3 tags of st"},
		{"(roof) TAGS (1)", "Invalid column name: roof is no tag of st"},
		{"(floor, floor) TAGS (1, 2)", "Invalid column name: floor stands twice"},
		{"TAGS ('abcde', 3, 1)", "Value too long for column/tag: site: 5, at most 4 (site)"},
		{"TAGS ('a', 300, 1)", "Value out of range: 300 does not fit into TINYINT (floor)"},
		{"TAGS ('a', b, 1)", "Invalid value type: b is not a constant (floor)"},
		{"TAGS ('a', 1, b)", "Invalid value type: b is not a time"},
	}
	for _, tt := range tests {
		s, err := Parse("CREATE TABLE t USING st " + tt.using)
		if err != nil {
			t.Errorf("%s: %v", tt.using, err)
			continue
		}
		values, err := testMoment.TagValues(s.(*CreateChildTables).Tables[0].Using, tags, Millisecond)
		var parts []string
		for _, v := range values {
			parts = append(parts, v.SQL())
		}
		got := strings.Join(parts, " ")
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.using, got, tt.want)
		}
	}
}

// TestFastNumbersAgreeWithStrconv: what the fast ways accept is what strconv
// says.
func TestFastNumbersAgreeWithStrconv(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300_000 {
		n := r.Int64() >> r.IntN(63)
		text := strconv.FormatInt(n, 10)
		if got, stop := fastInt(text, 0); stop > 0 && (got != n || stop != len(text)) {
			t.Fatalf("fastInt(%s): got %d, stopped at %d", text, got, stop)
		}
		text = strconv.FormatFloat(float64(n)/math.Pow10(r.IntN(12)), 'f', r.IntN(14), 64)
		want, _ := strconv.ParseFloat(text, 64)
		if got, stop := fastFloat(text, 0); stop > 0 && (math.Float64bits(got) != math.Float64bits(want) || stop != len(text)) {
			t.Fatalf("fastFloat(%s): got %v, want %v, stopped at %d", text, got, want, stop)
		}
	}
}

// printRows is an INSERT of the rows of a table with the columns of everyType.
func printRows(r *Rows) string {
	var b strings.Builder
	b.WriteString("INSERT INTO t VALUES ")
	for i := range r.Len() {
		for c := range everyType {
			b.WriteString([...]string{",", "("}[boolInt(c == 0)] + cell(r, i, c))
		}
		b.WriteString(")")
	}
	return b.String()
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// FuzzInsert: no text makes Read panic; the rows of every accepted INSERT have
// as many values in each column, and printed as an INSERT they are read again as
// the same rows.
func FuzzInsert(f *testing.F) {
	f.Add("INSERT INTO t VALUES (1, true, 2, 3, 4, 5, 6, 7.5, 8e3, 'a', \"b\", '\\x63', now - 1d)")
	f.Add("INSERT INTO a.t USING st (x) TAGS (1) (s, ts) VALUES ('it''s', '2024-05-01 08:00:00') (NULL, NOW() + 1s), ('\\n', 0x1F) u (ts, f64) VALUES (1, -.5)")
	f.Add("INSERT INTO t (ts, u64, n) VALUES (- 5, '18446744073709551615', '東京') -- x")
	f.Add("INSERT INTO t (i64, f32, ts) VALUES (1234567890123456789, 1.00000000000000000001, 1.0)")
	f.Fuzz(func(t *testing.T, statement string) {
		_, batches, err := readAll(statement)
		if err != nil {
			if e := (*Error)(nil); !errors.As(err, &e) || e.Code == 0 || e.Text == "" {
				t.Fatalf("error %#v has no code or text", err)
			}
			return
		}
		for _, r := range batches {
			for c := range r.Columns {
				if v := &r.Columns[c]; v.Len() != r.Len() {
					t.Fatalf("column %s has %d values for %d rows", v.Name, v.Len(), r.Len())
				}
			}
			printed := printRows(r)
			_, again, err := readAll(printed)
			if len(printed) > MaxStatement {
				continue
			}
			if err != nil || len(again) != 1 {
				t.Fatalf("%s\nprinted form of %s: %v", printed, statement, err)
			}
			if got := printRows(again[0]); got != printed || !reflect.DeepEqual(again[0].Timestamps, r.Timestamps) {
				t.Fatalf("%s\nis read again as\n%s", printed, got)
			}
		}
	})
}
