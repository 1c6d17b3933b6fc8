package query

import (
	"bytes"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/vnode"
)

func samplePart() *part {
	t := newTable(column("ts", sql.TypeTimestamp), column("v", sql.TypeDouble), varchar("s", 10), sql.Column{Name: "nothing"})
	t.add(instant(1), sql.Value{Type: sql.TypeDouble, Float: 1.5}, text("x"))
	t.add(instant(2), sql.Value{}, sql.Value{})
	return &part{super: true, affected: 7, precision: sql.Microsecond, columns: t.columns, rows: t.rows}
}

func sampleInsert() *batch {
	rows := sql.NewRows([]sql.Column{column("v", sql.TypeDouble), varchar("s", 10)}, 2)
	rows.Timestamps = append(rows.Timestamps, 1, 2)
	rows.Columns[0].AppendValue(sql.Value{Type: sql.TypeDouble, Float: 1.5})
	rows.Columns[0].AppendNull()
	rows.Columns[1].AppendValue(text("x"))
	rows.Columns[1].AppendValue(text(""))
	return &batch{tables: []vnode.TableRows{
		{Table: "t", Rows: rows},
		{Table: "c", Rows: rows, Using: &vnode.Using{Stable: "st", Tags: []sql.Value{text("roof"), {}, integer(7)}}},
	}}
}

func sampleRequest() *request {
	return &request{id: vnode.StatementID{Boot: 1, Seq: 2}, database: "d", moment: sql.Moment{Now: time.Unix(5, 6), Zone: time.UTC}, text: "SELECT 1"}
}

// FuzzPart: what is taken for the answer of another host is written again to
// the same bytes, and every value of it can be read.
func FuzzPart(f *testing.F) {
	f.Add(samplePart().encode())
	f.Add((&part{}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePart(b)
		if err != nil {
			return
		}
		for i := range p.columns {
			for row := range p.rows {
				p.columns[i].Value(row)
			}
		}
		again, err := decodePart(p.encode())
		if err != nil || !bytes.Equal(again.encode(), p.encode()) {
			t.Fatalf("written again it reads as %+v, %v", again, err)
		}
	})
}

// FuzzInsert: as FuzzPart, for forwarded rows.
func FuzzInsert(f *testing.F) {
	f.Add(encodeInsert(vnode.StatementID{Boot: 1, Seq: 2}, sampleInsert()))
	f.Fuzz(func(t *testing.T, body []byte) {
		who, b, err := decodeInsert(body)
		if err != nil {
			return
		}
		again := encodeInsert(who, b)
		if _, _, err := decodeInsert(again); err != nil {
			t.Fatalf("written again it does not read: %v", err)
		}
	})
}

// FuzzRequest: as FuzzPart, for forwarded statements.
func FuzzRequest(f *testing.F) {
	f.Add(sampleRequest().encode())
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decodeRequest(body)
		if err != nil {
			return
		}
		if _, err := decodeRequest(r.encode()); err != nil {
			t.Fatalf("written again it does not read: %v", err)
		}
	})
}

func TestForwardedInsertKeepsEverything(t *testing.T) {
	who, got, err := decodeInsert(encodeInsert(vnode.StatementID{Boot: 1, Seq: 2}, sampleInsert()))
	if err != nil {
		t.Fatal(err)
	}
	if who != (vnode.StatementID{Boot: 1, Seq: 2}) || len(got.tables) != 2 {
		t.Fatalf("got %v, %+v", who, got)
	}
	c := got.tables[1]
	if c.Using == nil || c.Using.Stable != "st" || len(c.Using.Tags) != 3 || c.Using.Tags[0].Text != "roof" || !c.Using.Tags[1].IsNull() || c.Using.Tags[2].Int != 7 {
		t.Errorf("tags: got %+v", c.Using)
	}
	if c.Rows.Len() != 2 || c.Rows.Columns[0].Name != "v" || !c.Rows.Columns[0].Value(1).IsNull() || c.Rows.Columns[1].Value(0).Text != "x" {
		t.Errorf("rows: got %+v", c.Rows)
	}
}

// TestDecodersDoNotBelieveLengths: a short message that promises much is
// refused before memory is taken for it.
func TestDecodersDoNotBelieveLengths(t *testing.T) {
	huge := []byte{partVersion, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 7, 1} // 2^31-1 rows, one column
	huge = append(huge, 1, 'x', byte(sql.TypeBigInt), 8, 0, 0)
	allocated := testing.AllocsPerRun(1, func() {
		if _, err := decodePart(huge); err == nil {
			t.Error("a part without its values was taken")
		}
	})
	if allocated > 100 {
		t.Errorf("%v allocations", allocated)
	}
}
