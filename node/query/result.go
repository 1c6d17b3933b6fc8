package query

import "github.com/tarbitrator/tarbitrator/internal/sql"

// Result is the answer to one statement, complete in memory. Its size was
// bounded while it was made, so a door may write it out at its own speed.
type Result struct {
	// Columns are the columns of the answer, all of Rows values. Nil for a
	// statement that changes something.
	Columns []sql.Values
	Rows    int
	// Precision is the unit of every TIMESTAMP column.
	Precision sql.Precision
	// Affected counts the rows that an INSERT wrote; zero for other statements
	// that change something.
	Affected int64
}

// Changed reports whether the statement was one that changes something and
// answers with a count instead of rows.
func (r *Result) Changed() bool { return r.Columns == nil }

// table builds a result row by row. It is for answers made of a few values of
// many kinds, such as SHOW; scans append whole columns.
type table struct {
	columns []sql.Values
	rows    int
}

func newTable(columns ...sql.Column) *table {
	t := &table{columns: make([]sql.Values, len(columns))}
	for i, c := range columns {
		t.columns[i].Column = c
	}
	return t
}

// add appends one row. A missing value at the end of the row is NULL.
func (t *table) add(row ...sql.Value) {
	for i := range t.columns {
		if i < len(row) {
			t.columns[i].AppendValue(row[i])
		} else {
			t.columns[i].AppendNull()
		}
	}
	t.rows++
}

func (t *table) result(p sql.Precision) *Result {
	return &Result{Columns: t.columns, Rows: t.rows, Precision: p}
}

// The values and columns that the answers of SHOW are made of.
func text(s string) sql.Value    { return sql.Value{Type: sql.TypeVarchar, Text: s} }
func integer(n int64) sql.Value  { return sql.Value{Type: sql.TypeBigInt, Int: n} }
func instant(ts int64) sql.Value { return sql.Value{Type: sql.TypeTimestamp, Int: ts} }

func varchar(name string, length int) sql.Column {
	return sql.Column{Name: name, Type: sql.TypeVarchar, Length: length}
}

func column(name string, t sql.Type) sql.Column {
	return sql.Column{Name: name, Type: t, Length: t.Width()}
}
