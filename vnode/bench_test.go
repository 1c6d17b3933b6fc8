package vnode

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// benchEntries makes entries of perEntry statements, each with rows rows of
// one of tables tables, from the timestamp at on.
func benchEntries(v *Vnode, from id.Index, at int64, entries, perEntry, tables, rows int) []consensus.Entry {
	list := make([]consensus.Entry, entries)
	e := new(encoder)
	for i := range list {
		h := entryHead{first: hlc.At(testNow) + hlc.Stamp(int(from)+i)<<stampShift, origin: testCluster, count: perEntry}
		data := appendEntryHead(nil, h)
		for j := range perEntry {
			n := i*perEntry + j
			t := v.Table(fmt.Sprint("d", n%tables))
			block := e.appendBlock(nil, sensorRows(rows, at+int64(n/tables*rows)*1000, 0), 0, rows, 1, nil)
			body := appendInsertTable([]byte{1}, &insertTable{id: t.id, blocks: 1})
			data = appendStatement(data, opInsert, StatementID{Boot: uint64(from), Seq: uint64(n)}, appendBytes(body, block))
		}
		list[i] = consensus.Entry{Index: from + id.Index(i), Term: 1, Data: data}
	}
	return list
}

// benchVnode is a shard with tables d0 to d(n-1) of a super table.
func benchVnode(b *testing.B, n int) (*Vnode, *testLog) {
	l := &testLog{}
	v, err := Open(testConfig(b.TempDir()), 0, l, func() time.Time { return testNow }, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = v.Close() })
	l.v = v
	lead(b, v)
	write(b, v, CreateStable{Name: "st", Columns: tableColumns(sensorColumns...), Tags: []sql.Column{{Name: "x", Type: sql.TypeInt}}})
	for i := range n {
		write(b, v, CreateChild{Name: fmt.Sprint("d", i), Using: Using{Stable: "st", Tags: []sql.Value{{Type: sql.TypeInt, Int: int64(i % 10)}}}})
	}
	return v, l
}

func BenchmarkApply(b *testing.B) {
	for _, c := range []struct{ perEntry, rows int }{{1, 1}, {64, 1}, {1, 1000}, {16, 1000}} {
		b.Run(fmt.Sprintf("%dx%drows", c.perEntry, c.rows), func(b *testing.B) {
			v, l := benchVnode(b, 100)
			const entries = 200
			next, at := id.Index(len(l.entries)+1), testNow.UnixMilli()
			for b.Loop() {
				b.StopTimer()
				list := benchEntries(v, next, at, entries, c.perEntry, 100, c.rows)
				next += entries
				at += int64(entries*c.perEntry*c.rows/100) * 1000
				b.StartTimer()
				for i := 0; i < entries; i += 8 { // what a busy group has ready at once
					if _, err := v.Apply(list[i : i+8]); err != nil {
						b.Fatal(err)
					}
				}
			}
			blocks := float64(b.N * entries * c.perEntry)
			b.ReportMetric(blocks/b.Elapsed().Seconds(), "blocks/s")
			b.ReportMetric(blocks*float64(c.rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkAverage is avg per minute over an hour of 1,000 series, one row a
// second: 3.6 million rows.
func BenchmarkAverage(b *testing.B) {
	v, l := benchVnode(b, 1000)
	next := id.Index(len(l.entries) + 1)
	for i := range 4 { // quarters of an hour, 900 rows a block
		for _, e := range benchEntries(v, next, testNow.UnixMilli()+int64(i)*900_000, 125, 8, 1000, 900) {
			if _, err := v.Apply([]consensus.Entry{e}); err != nil {
				b.Fatal(err)
			}
			next++
		}
	}
	b.Run("minutes", func(b *testing.B) {
		for b.Loop() {
			rows := int64(0)
			groups, err := v.Aggregate(b.Context(), AggregateRequest{
				Table: "st", Columns: []string{"v"},
				Window: func(ts int64) (int64, int64) { return ts / 60000 * 60000, ts/60000*60000 + 60000 },
			})
			if err != nil {
				b.Fatal(err)
			}
			for _, w := range groups[0].Windows {
				rows += w.Rows
			}
			b.ReportMetric(float64(rows), "rows")
		}
	})
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			if _, err := v.Aggregate(b.Context(), AggregateRequest{Table: "st", Columns: []string{"v"}}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("scan", func(b *testing.B) {
		for b.Loop() {
			rows := 0
			err := v.Scan(b.Context(), ScanRequest{Table: "st"}, func(_ *Table, r *sql.Rows) error { rows += r.Len(); return nil })
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(rows), "rows")
		}
	})
	b.Run("last", func(b *testing.B) {
		for b.Loop() {
			err := v.Scan(b.Context(), ScanRequest{Table: "st", Descending: true, Limit: 1}, func(*Table, *sql.Rows) error { return nil })
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkWrite is single-row statements of 64 callers through the batcher.
func BenchmarkWrite(b *testing.B) {
	for _, rows := range []int{1, 1000} {
		b.Run(fmt.Sprintf("%drows", rows), func(b *testing.B) {
			v, l := benchVnode(b, 64)
			var callers sync.WaitGroup
			before := len(l.entries)
			for c := range 64 {
				callers.Go(func() {
					name := fmt.Sprint("d", c)
					batch := sensorRows(rows, testNow.UnixMilli(), 0)
					for i := c; i < b.N; i += 64 {
						for j := range batch.Timestamps {
							batch.Timestamps[j] += int64(rows) * 1000
						}
						if _, err := v.Write(b.Context(), Statement{
							ID: StatementID{1, uint64(i + 1)},
							Op: Insert{Tables: []TableRows{{Table: name, Rows: batch}}},
						}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			callers.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "stmts/s")
			b.ReportMetric(float64(b.N)/float64(len(l.entries)-before), "stmts/entry")
		})
	}
}
