package rest

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/node/query"
)

// whole renders an answer the way ServeHTTP does, in one piece.
func whole(t *testing.T, a *answer, r *query.Result) string {
	t.Helper()
	b := appendHead(nil, r.Columns)
	b, rows, err := a.appendRows(b, r, func(b []byte) ([]byte, error) { return b, nil })
	if err != nil {
		t.Fatal(err)
	}
	return string(appendTail(b, rows, false, 0))
}

func sample() *query.Result {
	column := func(name string, typ sql.Type, length int, values ...sql.Value) sql.Values {
		v := sql.Values{Column: sql.Column{Name: name, Type: typ, Length: length}}
		for _, x := range values {
			v.AppendValue(x)
		}
		return v
	}
	at := time.Date(2024, 5, 1, 8, 0, 0, 0, time.UTC).UnixMilli()
	return &query.Result{Rows: 2, Columns: []sql.Values{
		column("ts", sql.TypeTimestamp, 0, sql.Value{Type: sql.TypeTimestamp, Int: at}, sql.Value{Type: sql.TypeTimestamp, Int: at + 1000}),
		column("temp", sql.TypeFloat, 0, sql.Value{Type: sql.TypeFloat, Float: 21.5}, sql.Value{}),
		column("site", sql.TypeVarchar, 32, sql.Value{Type: sql.TypeVarchar, Text: "roof"}, sql.Value{Type: sql.TypeVarchar, Text: "roof"}),
		column("note", sql.TypeNChar, 16, sql.Value{Type: sql.TypeNChar, Text: "ok"}, sql.Value{}),
		column("n", sql.TypeBigInt, 0, sql.Value{Type: sql.TypeBigInt, Int: 7}, sql.Value{Type: sql.TypeBigInt, Int: 8}),
	}}
}

func TestAnswers(t *testing.T) {
	shanghai, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		t.Skip("no time zone data here:", err)
	}
	for _, c := range []struct {
		name string
		a    answer
		want string
	}{
		{"rows", answer{rowCap: -1}, `{"code":0,"column_meta":[["ts","TIMESTAMP",8],["temp","FLOAT",4],["site","VARCHAR",32],["note","NCHAR",16],["n","BIGINT",8]],` +
			`"data":[["2024-05-01T08:00:00.000Z",21.5,"roof","ok",7],["2024-05-01T08:00:01.000Z",null,"roof",null,8]],"rows":2}`},
		{"a zone", answer{rowCap: 1, zone: shanghai}, `{"code":0,"column_meta":[["ts","TIMESTAMP",8],["temp","FLOAT",4],["site","VARCHAR",32],["note","NCHAR",16],["n","BIGINT",8]],` +
			`"data":[["2024-05-01T16:00:00.000+08:00",21.5,"roof","ok",7]],"rows":1}`},
		{"objects", answer{rowCap: 1, asMaps: true}, `{"code":0,"column_meta":[["ts","TIMESTAMP",8],["temp","FLOAT",4],["site","VARCHAR",32],["note","NCHAR",16],["n","BIGINT",8]],` +
			`"data":[{"ts":"2024-05-01T08:00:00.000Z","temp":21.5,"site":"roof","note":"ok","n":7}],"rows":1}`},
		{"no rows", answer{rowCap: 0}, `{"code":0,"column_meta":[["ts","TIMESTAMP",8],["temp","FLOAT",4],["site","VARCHAR",32],["note","NCHAR",16],["n","BIGINT",8]],"data":[],"rows":0}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := whole(t, &c.a, sample()); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestChanged(t *testing.T) {
	a := &answer{}
	if got, want := string(appendTail(a.appendChanged(nil, 3), -1, false, 0)), `{"code":0,"column_meta":[["affected_rows","INT",4]],"data":[[3]],"rows":1}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	a.asMaps = true
	if got, want := string(appendTail(a.appendChanged(nil, 3), -1, true, 5)), `{"code":0,"column_meta":[["affected_rows","INT",4]],"data":[{"affected_rows":3}],"rows":1,"timing":5}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFloats(t *testing.T) {
	for _, c := range []struct {
		f    float64
		bits int
		want string
	}{
		{0, 64, "0"}, {math.Copysign(0, -1), 64, "-0"}, {1, 64, "1"}, {0.1, 64, "0.1"},
		{float64(float32(0.1)), 32, "0.1"}, {1e-6, 64, "0.000001"}, {1e-7, 64, "1e-7"},
		{9.99e20, 64, "999000000000000000000"}, {1e21, 64, "1e+21"}, {-1.5e-300, 64, "-1.5e-300"},
		{math.NaN(), 64, "null"}, {math.Inf(1), 64, "null"}, {math.Inf(-1), 64, "null"},
	} {
		if got := string(appendFloat(nil, c.f, c.bits)); got != c.want {
			t.Errorf("%v in %d bits: got %s, want %s", c.f, c.bits, got, c.want)
		}
	}
}

func TestTimes(t *testing.T) {
	for _, c := range []struct {
		precision sql.Precision
		ts        int64
		want      string
	}{
		{sql.Millisecond, 1714550400123, `"2024-05-01T08:00:00.123Z"`},
		{sql.Microsecond, 1714550400123456, `"2024-05-01T08:00:00.123456Z"`},
		{sql.Nanosecond, 1714550400123456789, `"2024-05-01T08:00:00.123456789Z"`},
		{sql.Millisecond, 0, `"1970-01-01T00:00:00.000Z"`},
		{sql.Millisecond, -1, `"1969-12-31T23:59:59.999Z"`},
	} {
		text := timeText{precision: c.precision}
		text.append(nil, 5) // what is kept from another row must not show
		if got := string(text.append(nil, c.ts)); got != c.want {
			t.Errorf("%d %s: got %s, want %s", c.ts, c.precision, got, c.want)
		}
	}
}

// FuzzString: whatever the bytes are, the text is JSON that reads back as
// encoding/json would have written it.
func FuzzString(f *testing.F) {
	f.Add("plain")
	f.Add("quote \" back \\ newline \n zero \x00 bad \xff\xfe cut \xe4\xb8")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(appendString(nil, s), &got); err != nil {
			t.Fatalf("%q is written as no JSON: %v", s, err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); got != want && !strings.Contains(want, "\ufffd") {
			t.Fatalf("got %q, want %q", got, want)
		}
		var fromBytes string
		if err := json.Unmarshal(appendString(nil, []byte(s)), &fromBytes); err != nil || fromBytes != got {
			t.Fatalf("as bytes %q, as text %q", fromBytes, got)
		}
	})
}

func BenchmarkRows(b *testing.B) {
	r := sample()
	for range 9 {
		for i := range r.Columns {
			r.Columns[i].Append(&r.Columns[i], 0, r.Rows)
		}
		r.Rows *= 2
	}
	a := &answer{rowCap: -1}
	var buffer []byte
	b.ReportAllocs()
	for b.Loop() {
		buffer, _, _ = a.appendRows(buffer[:0], r, func(b []byte) ([]byte, error) { return b, nil })
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*r.Rows), "ns/row")
}
