package vnode

import (
	"cmp"
	"math"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// Range is the timestamps From to To-1. The zero Range is all of time.
type Range struct{ From, To int64 }

// whole is r with its zero value spelt out.
func (r Range) whole() Range {
	if r == (Range{}) {
		return Range{From: math.MinInt64, To: math.MaxInt64}
	}
	return r
}

// ScanRequest asks for rows.
type ScanRequest struct {
	// Table is a table or a super table; the rows of a super table come table
	// by table, in the order of their names.
	Table string
	// Tables, if set, picks among the child tables of a super table.
	Tables func(*Table) bool
	Range  Range
	// Columns are those wanted, in this order; nil means all. The timestamp is
	// always there. A column that Filter looks at must be among them.
	Columns []string
	// Filter, if set, is given batches of rows and clears keep[i] for each row
	// that is not wanted. It must not keep rows.
	Filter func(t *Table, rows *sql.Rows, keep []bool)
	// Descending turns the order of time around within each table.
	Descending bool
	// Limit, if positive, is the most rows wanted of each table, after Filter.
	Limit int
}

// Yield takes one batch of rows of one table, in order of time. The batch is
// valid until Yield returns; at most BatchRows rows. An error ends the scan and
// is returned by it.
type Yield func(t *Table, rows *sql.Rows) error

// BatchRows is the most rows that a scan hands over at once.
const BatchRows = 4096

// AggregateRequest asks for count, min, max, sum, first and last of columns.
type AggregateRequest struct {
	Table   string
	Tables  func(*Table) bool
	Range   Range
	Columns []string // those to aggregate; nil: none, only rows are counted
	// Filter is that of ScanRequest; with it every block has to be read. It
	// sees the columns of Columns. Filter and Group are called by several
	// goroutines at once, each with tables of its own.
	Filter func(t *Table, rows *sql.Rows, keep []bool)
	// Window, if set, says which window a timestamp falls into, as
	// [start, end). It must give the same window for every timestamp in it.
	// Without it all of Range is one window.
	Window func(ts int64) (start, end int64)
	// Group, if set, says to which group the rows of a table belong; without
	// it all are in the group "".
	Group func(*Table) string
}

// Group is the windows of one group that have rows, in order of time.
type Group struct {
	Key     string
	Windows []Window
}

// Window is what is known about the rows of one group in one window.
type Window struct {
	Start, End int64
	Rows       int64
	Columns    []Aggregate // in the order of AggregateRequest.Columns
}

// Merge adds what another shard knows about the same group and window.
func (w *Window) Merge(o *Window) {
	w.Rows += o.Rows
	for i := range w.Columns {
		w.Columns[i].Merge(&o.Columns[i])
	}
}

// Aggregate is count, sum, min, max, first and last over the values of a column
// that are not NULL.
type Aggregate struct {
	Type      sql.Type
	Count     int64
	SumInt    int64   // of integers, modulo 2^64 as BIGINT (UNSIGNED) is; booleans count 1
	SumFloat  float64 // of FLOAT and DOUBLE
	FirstTime int64   // of First; when several tables have it, any of theirs
	LastTime  int64

	min, max, first, last scalar
}

// scalar is a value of a column whose type is known.
type scalar struct {
	int   int64
	float float64
	text  string
}

func (a *Aggregate) value(s scalar) sql.Value {
	if a.Count == 0 {
		return sql.Value{}
	}
	return sql.Value{Type: a.Type, Int: s.int, Float: s.float, Text: s.text}
}

// Min is the smallest value, or NULL. Texts compare by their bytes.
func (a *Aggregate) Min() sql.Value { return a.value(a.min) }

// Max is the largest value, or NULL.
func (a *Aggregate) Max() sql.Value { return a.value(a.max) }

// First is the value with the smallest timestamp, or NULL.
func (a *Aggregate) First() sql.Value { return a.value(a.first) }

// Last is the value with the largest timestamp, or NULL.
func (a *Aggregate) Last() sql.Value { return a.value(a.last) }

// Sum is the sum of the values, or NULL: BIGINT, BIGINT UNSIGNED or DOUBLE.
func (a *Aggregate) Sum() sql.Value {
	switch {
	case a.Count == 0:
		return sql.Value{}
	case a.Type.Storage() == sql.StoreFloats:
		return sql.Value{Type: sql.TypeDouble, Float: a.SumFloat}
	case unsigned(a.Type):
		return sql.Value{Type: sql.TypeUBigInt, Int: a.SumInt}
	}
	return sql.Value{Type: sql.TypeBigInt, Int: a.SumInt}
}

// Avg is the mean of the values, or NULL.
func (a *Aggregate) Avg() sql.Value {
	if a.Count == 0 {
		return sql.Value{}
	}
	sum := a.SumFloat
	switch {
	case a.Type.Storage() == sql.StoreFloats:
	case unsigned(a.Type):
		sum = float64(uint64(a.SumInt))
	default:
		sum = float64(a.SumInt)
	}
	return sql.Value{Type: sql.TypeDouble, Float: sum / float64(a.Count)}
}

// Merge adds what another shard or table knows about the same column.
func (a *Aggregate) Merge(o *Aggregate) {
	if o.Count == 0 {
		return
	}
	if a.Count == 0 {
		*a = *o
		return
	}
	a.Count += o.Count
	a.SumInt += o.SumInt
	a.SumFloat += o.SumFloat
	if compare(a.Type, o.min, a.min) < 0 {
		a.min = o.min
	}
	if compare(a.Type, o.max, a.max) > 0 {
		a.max = o.max
	}
	if o.FirstTime < a.FirstTime {
		a.first, a.FirstTime = o.first, o.FirstTime
	}
	if o.LastTime > a.LastTime {
		a.last, a.LastTime = o.last, o.LastTime
	}
}

// compare orders two values of one type.
func compare(t sql.Type, a, b scalar) int {
	switch {
	case t.Storage() == sql.StoreFloats:
		return cmp.Compare(a.float, b.float)
	case t.Storage() == sql.StoreBytes:
		return cmp.Compare(a.text, b.text)
	case t == sql.TypeUBigInt:
		return cmp.Compare(uint64(a.int), uint64(b.int))
	}
	return cmp.Compare(a.int, b.int)
}

func unsigned(t sql.Type) bool { return t >= sql.TypeUTinyInt && t <= sql.TypeUBigInt }
