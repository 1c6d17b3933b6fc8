package sql

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// sensorTable is what most of the tables of our users look like.
var sensorTable = []Column{
	{Name: "ts", Type: TypeTimestamp, Length: 8},
	{Name: "v", Type: TypeDouble, Length: 8},
	{Name: "n", Type: TypeInt, Length: 4},
}

// sensorInsert is an INSERT of so many rows, each as extra says, 25 bytes a row
// without it.
func sensorInsert(rows int, extra string) string {
	var b strings.Builder
	b.WriteString("INSERT INTO plant.sensor_1 VALUES ")
	for i := range rows {
		fmt.Fprintf(&b, "(%d,%d.%02d,%d%s)", 1714550400000+i*1000, 20+i%7, i*37%100, i%1000, extra)
	}
	return b.String()
}

func benchmarkInsert(b *testing.B, table []Column, rows int, statement string) {
	m := Moment{Now: time.Unix(1714550400, 0), Zone: time.UTC}
	into := NewRows(table[1:], rows)
	b.SetBytes(int64(len(statement)))
	b.ReportAllocs()
	for b.Loop() {
		s, err := Parse(statement)
		if err != nil {
			b.Fatal(err)
		}
		insert := s.(*Insert)
		for insert.Next() {
			if err := insert.Read(table, m, Millisecond, into); err != nil {
				b.Fatal(err)
			}
		}
		if insert.Err() != nil || into.Len() != rows {
			b.Fatalf("%d rows, error %v", into.Len(), insert.Err())
		}
	}
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}

func BenchmarkInsert(b *testing.B) {
	text := append(sensorTable[:3:3], Column{Name: "s", Type: TypeVarchar, Length: 32})
	b.Run("1000", func(b *testing.B) { benchmarkInsert(b, sensorTable, 1000, sensorInsert(1000, "")) })
	b.Run("1", func(b *testing.B) { benchmarkInsert(b, sensorTable, 1, sensorInsert(1, "")) })
	b.Run("1000-varchar", func(b *testing.B) { benchmarkInsert(b, text, 1000, sensorInsert(1000, ",'roof east'")) })
	b.Run("1000-null", func(b *testing.B) { benchmarkInsert(b, text, 1000, sensorInsert(1000, ", NULL")) })
	b.Run("1000-named", func(b *testing.B) {
		benchmarkInsert(b, text, 1000, strings.Replace(sensorInsert(1000, ""), " VALUES", " (ts,v,n) VALUES", 1))
	})
	b.Run("1000-time-text", func(b *testing.B) {
		s := strings.ReplaceAll(sensorInsert(1000, ""), "(1714550", "('2024-05-01T08:00:00.125Z',1")
		s = s[:0] + "INSERT INTO t VALUES " + strings.Repeat("('2024-05-01T08:00:00.125Z',20.25,7)", 1000)
		benchmarkInsert(b, sensorTable, 1000, s)
	})
}

func BenchmarkParseSelect(b *testing.B) {
	const query = "SELECT _wstart AS ts, AVG(usage_user) FROM telegraf.cpu WHERE ts >= '2024-05-01T08:00:00Z' " +
		"AND ts < '2024-05-01T09:00:00Z' AND host = 'a' PARTITION BY host INTERVAL(30s) FILL(NULL) LIMIT 100"
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(query); err != nil {
			b.Fatal(err)
		}
	}
}
