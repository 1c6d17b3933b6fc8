package query

import (
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// aggregatePart is the part of a group for queries that are partitioned by a
// text and aggregate the BIGINT column n.
func aggregatePart(rows ...[]sql.Value) *part {
	n := column("n", sql.TypeBigInt)
	t := newTable(varchar("site", 8), column("start", sql.TypeTimestamp), column("end", sql.TypeTimestamp), column("rows", sql.TypeBigInt),
		column("count", sql.TypeBigInt), column("sum", sql.TypeBigInt), n, n, n, column("first_time", sql.TypeTimestamp), n, column("last_time", sql.TypeTimestamp))
	for _, row := range rows {
		t.add(row...)
	}
	return &part{columns: t.columns, rows: t.rows, super: true}
}

func aggregateRow(site string, start, count, sum, low, high, first, firstTime, last, lastTime int64) []sql.Value {
	return []sql.Value{text(site), instant(start), instant(start + 10), integer(count), integer(count), integer(sum),
		integer(low), integer(high), integer(first), instant(firstTime), integer(last), instant(lastTime)}
}

func finish(t *testing.T, statement string, parts ...*part) *Result {
	t.Helper()
	parsed, err := sql.Parse(statement)
	if err != nil {
		t.Fatal(err)
	}
	k := &compiler{}
	r, err := k.finishAggregates(parsed.(*sql.Select), parts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func rowsOf(r *Result) [][]string {
	var rows [][]string
	for i := range r.Rows {
		var row []string
		for c := range r.Columns {
			row = append(row, r.Columns[c].Value(i).SQL())
		}
		rows = append(rows, row)
	}
	return rows
}

func wantRows(t *testing.T, r *Result, want ...[]string) {
	t.Helper()
	got := rowsOf(r)
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		for c := range want[i] {
			if got[i][c] != want[i][c] {
				t.Fatalf("row %d: got %v, want %v", i, got[i], want[i])
			}
		}
	}
}

func TestGroupsOfAllShardsAreOne(t *testing.T) {
	one := aggregatePart(aggregateRow("roof", 0, 2, 10, 3, 7, 3, 1, 7, 5), aggregateRow("cellar", 0, 1, 4, 4, 4, 4, 2, 4, 2))
	other := aggregatePart(aggregateRow("roof", 0, 1, 1, 1, 1, 1, 0, 1, 0))
	r := finish(t, "SELECT site, COUNT(*), SUM(n), AVG(n), MIN(n), MAX(n), FIRST(n), LAST(n), SPREAD(n) FROM st GROUP BY site", one, other)
	wantRows(t, r,
		[]string{"'cellar'", "1", "4", "4e+00", "4", "4", "4", "4", "0e+00"},
		[]string{"'roof'", "3", "11", "3.6666666666666665e+00", "1", "7", "1", "7", "6e+00"})
}

func TestHavingOrderAndLimit(t *testing.T) {
	p := aggregatePart(aggregateRow("a", 0, 1, 1, 1, 1, 1, 0, 1, 0), aggregateRow("b", 0, 2, 9, 4, 5, 4, 0, 5, 0), aggregateRow("c", 0, 3, 6, 1, 3, 1, 0, 3, 0))
	r := finish(t, "SELECT site, MAX(n) AS most FROM st GROUP BY site HAVING COUNT(n) > 1 ORDER BY most DESC LIMIT 1", p)
	wantRows(t, r, []string{"'b'", "5"})
}

func TestLimitOfEachPartition(t *testing.T) {
	p := aggregatePart(aggregateRow("a", 10, 1, 1, 1, 1, 1, 0, 1, 0), aggregateRow("a", 0, 1, 2, 2, 2, 2, 0, 2, 0), aggregateRow("b", 0, 1, 3, 3, 3, 3, 0, 3, 0))
	r := finish(t, "SELECT site, SUM(n) FROM st PARTITION BY site INTERVAL(10a) LIMIT 1", p)
	wantRows(t, r, []string{"'a'", "2"}, []string{"'b'", "3"})
	r = finish(t, "SELECT site, SUM(n) FROM st PARTITION BY site INTERVAL(10a) SLIMIT 1 SOFFSET 1", p)
	wantRows(t, r, []string{"'b'", "3"})
}

func TestNothingCounted(t *testing.T) {
	p := aggregatePart()
	p.columns = p.columns[1:] // not partitioned
	r := finish(t, "SELECT COUNT(*), COUNT(n), MAX(n), AVG(n) FROM t", p)
	wantRows(t, r, []string{"0", "0", "NULL", "NULL"})
	if r := finish(t, "SELECT COUNT(*) FROM t INTERVAL(10a)", p); r.Rows != 0 {
		t.Errorf("windows without rows: got %d lines, want none", r.Rows)
	}
}

func TestRowsOfAllShardsAreSorted(t *testing.T) {
	shard := func(values ...int64) *part {
		tab := newTable(column("n", sql.TypeBigInt), column("key", sql.TypeBigInt))
		for _, v := range values {
			tab.add(integer(v), integer(v))
		}
		return &part{columns: tab.columns, rows: tab.rows, super: true}
	}
	parsed, err := sql.Parse("SELECT n FROM st ORDER BY n DESC LIMIT 3 OFFSET 1")
	if err != nil {
		t.Fatal(err)
	}
	r, err := finishRows(parsed.(*sql.Select), []*part{shard(9, 4, 1), shard(7, 6)})
	if err != nil {
		t.Fatal(err)
	}
	wantRows(t, r, []string{"7"}, []string{"6"}, []string{"4"})
	parsed, _ = sql.Parse("SELECT DISTINCT n FROM st")
	r, err = finishRows(parsed.(*sql.Select), []*part{shard(1, 1, 2), shard(2, 3)})
	if err != nil {
		t.Fatal(err)
	}
	if r.Rows != 3 {
		t.Errorf("distinct: got %v", rowsOf(r))
	}
}
