package vnode

import (
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// TestReadBesideAlter: while a request looks for its tables a column is added,
// and a row comes that has it. The request shows what was there when it began.
func TestReadBesideAlter(t *testing.T) {
	for name, read := range map[string]func(v *Vnode, pick func(*Table) bool) (int64, error){
		"scan": func(v *Vnode, pick func(*Table) bool) (rows int64, err error) {
			err = v.Scan(t.Context(), ScanRequest{Table: "st", Tables: pick}, func(_ *Table, r *sql.Rows) error {
				rows += int64(r.Len())
				return nil
			})
			return rows, err
		},
		"aggregate": func(v *Vnode, pick func(*Table) bool) (int64, error) {
			groups, err := v.Aggregate(t.Context(), AggregateRequest{Table: "st", Tables: pick, Columns: []string{"v"}})
			if err != nil {
				return 0, err
			}
			return groups[0].Windows[0].Rows, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			v, _ := leader(t, testConfig(t.TempDir()))
			write(t, v, CreateStable{Name: "st", Columns: tableColumns(sensorColumns...), Tags: []sql.Column{{Name: "x", Type: sql.TypeInt}}})
			row := func(at float64) Insert {
				using := &Using{Stable: "st", Tags: []sql.Value{{}}}
				return Insert{Tables: []TableRows{{Table: "a", Using: using, Rows: numbers(at, 1, 1)}}}
			}
			write(t, v, row(0))
			rows, err := read(v, func(*Table) bool {
				write(t, v, AddColumn{Name: "st", Column: sql.Column{Name: "more", Type: sql.TypeInt}})
				write(t, v, row(1))
				return true
			})
			if err != nil || rows != 1 {
				t.Errorf("got %d rows, %v; want the one that was there", rows, err)
			}
		})
	}
}
