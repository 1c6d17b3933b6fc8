package vnode

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

var sensorColumns = []sql.Column{{Name: "v", Type: sql.TypeDouble}, {Name: "n", Type: sql.TypeInt}}

var allColumns = []sql.Column{
	{Name: "b", Type: sql.TypeBool}, {Name: "i", Type: sql.TypeInt}, {Name: "l", Type: sql.TypeBigInt},
	{Name: "u", Type: sql.TypeUBigInt}, {Name: "f", Type: sql.TypeFloat}, {Name: "d", Type: sql.TypeDouble},
	{Name: "s", Type: sql.TypeVarchar, Length: 64}, {Name: "c", Type: sql.TypeNChar, Length: 8},
	{Name: "t", Type: sql.TypeTimestamp},
}

// sensorRows is the data of the measurements: one row a second, a slow wave
// with noise and two decimals, a counter of ten values.
func sensorRows(n int, start int64, jitter int) *sql.Rows {
	rng := rand.New(rand.NewPCG(uint64(n), uint64(jitter)))
	r := sql.NewRows(sensorColumns, n)
	for i := range n {
		ts := start + int64(i)*1000
		if jitter > 0 {
			ts += int64(rng.IntN(2*jitter+1) - jitter)
		}
		v := 20 + 5*math.Sin(float64(i)/500) + rng.Float64()
		r.Timestamps = append(r.Timestamps, ts)
		r.Columns[0].Floats = append(r.Columns[0].Floats, math.Round(v*100)/100)
		r.Columns[1].Ints = append(r.Columns[1].Ints, int64(rng.IntN(10)))
	}
	return r
}

// noisyRows is sensorRows with doubles that are no short decimals.
func noisyRows(n int) *sql.Rows {
	rng := rand.New(rand.NewPCG(1, 2))
	r := sensorRows(n, 1_700_000_000_000, 0)
	for i := range r.Columns[0].Floats {
		r.Columns[0].Floats[i] = 20 + rng.Float64()
	}
	return r
}

// randomRows is n rows of allColumns with everything that is hard to encode.
func randomRows(rng *rand.Rand, n int) *sql.Rows {
	r := sql.NewRows(allColumns, n)
	ts := rng.Int64N(1 << 41)
	style := rng.IntN(6)
	nullOne := 1 + rng.IntN(6)
	for range n {
		ts += 1 + rng.Int64N(1<<(1+10*uint(rng.IntN(3))))
		r.Timestamps = append(r.Timestamps, ts)
		for j := range r.Columns {
			c := &r.Columns[j]
			if rng.IntN(8) < nullOne && style > 2 {
				c.AppendNull()
				continue
			}
			c.AppendValue(randomValue(rng, c.Type, style))
		}
	}
	return r
}

func randomValue(rng *rand.Rand, t sql.Type, style int) sql.Value {
	v := sql.Value{Type: t}
	switch t.Storage() {
	case sql.StoreInts:
		switch {
		case t == sql.TypeBool:
			v.Int = rng.Int64N(2)
		case style%3 == 0:
			v.Int = rng.Int64N(100)
		case style%3 == 1 && t != sql.TypeInt:
			v.Int = int64(rng.Uint64())
		default:
			v.Int = int64(int32(rng.Uint32()))
		}
	case sql.StoreFloats:
		switch rng.IntN(12 + 20*(style%2)) {
		case 0:
			v.Float = math.NaN()
		case 1:
			v.Float = math.Copysign(0, -1)
		case 2:
			v.Float = math.Inf(1)
		case 3:
			v.Float = math.Float64frombits(0x7ff8000000000123) // a NaN with a payload
		case 4:
			v.Float = math.MaxFloat64
		case 5:
			v.Float = rng.NormFloat64()
		default:
			v.Float = float64(rng.IntN(10000)) / 100
		}
		if t == sql.TypeFloat {
			v.Float = float64(float32(v.Float))
		}
	default:
		v.Text = fmt.Sprint("text ", rng.IntN(1+10*style))
		if rng.IntN(9) == 0 {
			v.Text = ""
		}
	}
	return v
}

func encode(r *sql.Rows, stamps *rowStamps) []byte {
	return new(encoder).appendBlock(nil, r, 0, r.Len(), 3, stamps)
}

// sameRows reports the first difference, bit for bit.
func sameRows(got, want *sql.Rows) error {
	if got.Len() != want.Len() {
		return fmt.Errorf("got %d rows, want %d", got.Len(), want.Len())
	}
	for i, ts := range want.Timestamps {
		if got.Timestamps[i] != ts {
			return fmt.Errorf("row %d: got timestamp %d, want %d", i, got.Timestamps[i], ts)
		}
		for j := range want.Columns {
			g, w := got.Columns[j].Value(i), want.Columns[j].Value(i)
			if g.Type != w.Type || g.Int != w.Int || g.Text != w.Text ||
				math.Float64bits(g.Float) != math.Float64bits(w.Float) {
				return fmt.Errorf("row %d column %d: got %+v, want %+v", i, j, g, w)
			}
		}
	}
	return nil
}

func decodeAll(src []byte, columns []sql.Column) (*sql.Rows, *rowStamps, error) {
	h, err := parseHead(src)
	if err != nil {
		return nil, nil, err
	}
	got, stamps := sql.NewRows(columns, 0), &rowStamps{}
	err = new(blockDecoder).decode(got, stamps, &h, columns, everything(len(columns)))
	return got, stamps, err
}

func TestBlockRoundTrip(t *testing.T) {
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 7))
		want := randomRows(rng, 1+rng.IntN(1+1<<rng.IntN(12)))
		var stamps *rowStamps
		if seed%3 == 0 {
			stamps = &rowStamps{}
			for range want.Timestamps {
				stamps.stamps = append(stamps.stamps, rng.Int64())
				stamps.origins = append(stamps.origins, int64(rng.Uint64()))
			}
		}
		got, gotStamps, err := decodeAll(encode(want, stamps), allColumns)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := sameRows(got, want); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for i := range want.Timestamps {
			if stamps != nil && gotStamps.at(i) != stamps.at(i) {
				t.Fatalf("seed %d row %d: got stamp %v, want %v", seed, i, gotStamps.at(i), stamps.at(i))
			}
		}
	}
}

func TestBlockAggregates(t *testing.T) {
	rows := sensorRows(1000, 1_700_000_000_000, 3)
	h, err := parseHead(encode(rows, nil))
	if err != nil {
		t.Fatal(err)
	}
	var dir directory
	if err := dir.parse(&h, sensorColumns); err != nil {
		t.Fatal(err)
	}
	var sum float64
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range rows.Columns[0].Floats {
		sum, low, high = sum+v, min(low, v), max(high, v)
	}
	c := dir.columns[0]
	if !c.exact || c.min.float != low || c.max.float != high || c.sum.float != sum ||
		c.first.float != rows.Columns[0].Floats[0] || c.lastValue.float != rows.Columns[0].Floats[999] {
		t.Errorf("got %+v, want min %v max %v sum %v", c, low, high, sum)
	}
	if h.rows != 1000 || h.first != rows.Timestamps[0] || h.last != rows.Timestamps[999] {
		t.Errorf("got head %+v", h)
	}
}

func TestBlockSizes(t *testing.T) {
	for _, c := range []struct {
		name string
		rows *sql.Rows
		most float64 // bytes a row
	}{
		{"sensor", sensorRows(1000, 1_700_000_000_000, 0), 1.6},
		{"jitter", sensorRows(1000, 1_700_000_000_000, 3), 2.1},
		{"hundred", sensorRows(100, 1_700_000_000_000, 0), 2.1},
		{"noisy", noisyRows(1000), 7.8},
		{"one", sensorRows(1, 1_700_000_000_000, 0), 12},
	} {
		got := float64(len(encode(c.rows, nil))) / float64(c.rows.Len())
		t.Logf("%s: %.2f bytes a row", c.name, got)
		if got > c.most {
			t.Errorf("%s: got %.2f bytes a row, want at most %.2f", c.name, got, c.most)
		}
	}
}

// TestBlockGolden keeps the format: blocks written by an older version must be
// read by all newer ones.
func TestBlockGolden(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for name, rows := range map[string]*sql.Rows{
		"sensor": sensorRows(40, 1_700_000_000_000, 3),
		"one":    sensorRows(1, 1_700_000_000_000, 0),
	} {
		compareGolden(t, "block-"+name, encode(rows, nil))
	}
	compareGolden(t, "block-all", encode(randomRows(rng, 50), nil))
}

func compareGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *rewrite {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the bytes have changed: got %x, want %x", name, got, want)
	}
}

// FuzzBlock: no bytes make the decoder panic, and what it accepts has as many
// values in every column as the head says.
func FuzzBlock(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 5))
	for i := range 12 {
		f.Add(encode(randomRows(rng, 1+i*i), nil))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		got, _, err := decodeAll(src, allColumns)
		if err != nil {
			return
		}
		for j := range got.Columns {
			if got.Columns[j].Len() != got.Len() {
				t.Fatalf("column %d has %d values, want %d", j, got.Columns[j].Len(), got.Len())
			}
		}
	})
}

// TestShortMergedBlock: a block that says that its only row has a stamp of its own
// is refused, as it has no place for one.
func TestShortMergedBlock(t *testing.T) {
	src := encode(sensorRows(1, 1_700_000_000_000, 0), nil)
	if _, err := parseHead(src); err != nil {
		t.Fatal(err)
	}
	src[0] |= flagStamps
	if _, err := parseHead(src); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}

func BenchmarkBlockEncode(b *testing.B) {
	for name, rows := range map[string]*sql.Rows{
		"sensor": sensorRows(1000, 1_700_000_000_000, 0),
		"jitter": sensorRows(1000, 1_700_000_000_000, 3),
		"noisy":  noisyRows(1000),
		"one":    sensorRows(1, 1_700_000_000_000, 0),
	} {
		b.Run(name, func(b *testing.B) {
			var e encoder
			var dst []byte
			for b.Loop() {
				dst = e.appendBlock(dst[:0], rows, 0, rows.Len(), 1, nil)
			}
			b.ReportMetric(float64(b.N*rows.Len())/b.Elapsed().Seconds()/1e6, "Mrows/s")
			b.ReportMetric(float64(len(dst))/float64(rows.Len()), "B/row")
		})
	}
}

func BenchmarkBlockDecode(b *testing.B) {
	for name, rows := range map[string]*sql.Rows{
		"sensor": sensorRows(1000, 1_700_000_000_000, 0),
		"jitter": sensorRows(1000, 1_700_000_000_000, 3),
		"noisy":  noisyRows(1000),
		"one":    sensorRows(1, 1_700_000_000_000, 0),
	} {
		b.Run(name, func(b *testing.B) {
			src := encode(rows, nil)
			var d blockDecoder
			dst, want := sql.NewRows(sensorColumns, 1000), everything(2)
			for b.Loop() {
				h, err := parseHead(src)
				if err == nil {
					err = d.decode(dst, nil, &h, sensorColumns, want)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*rows.Len())/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
	}
}

// everything is the projection that leaves n columns as they are.
func everything(n int) projection {
	from := make([]int, n)
	for i := range from {
		from[i] = i
	}
	return project(from, n)
}
