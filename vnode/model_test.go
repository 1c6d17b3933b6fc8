package vnode

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// More seeds: go test ./vnode -run TestModel -first 100 -seeds 50.
var (
	firstSeed = flag.Uint64("first", 0, "first seed of TestModel")
	seeds     = flag.Uint64("seeds", 8, "how many seeds TestModel runs")
)

// model is what a shard should hold, kept as simply as can be.
type model struct {
	tables  map[string]map[int64]modelRow
	stables map[string][]string
	columns map[string][]sql.Column // of tables and super tables
}

type modelRow struct {
	v      version
	values map[string]sql.Value
}

// generator makes random statements for a shard and keeps the model in step.
type generator struct {
	t   testing.TB
	rng *rand.Rand
	v   *Vnode
	model
	added int
}

var modelColumns = []sql.Column{
	{Name: "a", Type: sql.TypeDouble}, {Name: "b", Type: sql.TypeBigInt}, {Name: "c", Type: sql.TypeVarchar, Length: 30},
}

func newGenerator(t testing.TB, seed uint64, v *Vnode) *generator {
	return &generator{t: t, rng: rand.New(rand.NewPCG(seed, 99)), v: v, model: model{
		tables: map[string]map[int64]modelRow{}, stables: map[string][]string{}, columns: map[string][]sql.Column{},
	}}
}

// columnsOf is the columns of a table.
func (m *model) columnsOf(table string) []sql.Column {
	for stable, children := range m.stables {
		if slices.Contains(children, table) {
			return m.columns[stable]
		}
	}
	return m.columns[table]
}

func (g *generator) step() {
	switch n := g.rng.IntN(100); {
	case n < 2:
		g.createStable()
	case n < 4:
		g.drop()
	case n < 6:
		g.alter()
	case n < 10:
		g.createChild()
	case n < 12:
		name := []string{"plain0", "plain1", "child1", "st1"}[g.rng.IntN(4)]
		if _, err := g.v.Write(g.t.Context(), Statement{Op: CreateTable{Name: name, Columns: tableColumns(modelColumns...)}}); err == nil {
			g.tables[name], g.columns[name] = map[int64]modelRow{}, modelColumns
		} else if !errors.Is(err, ErrTableExists) && !errors.Is(err, ErrStableExists) {
			g.t.Fatal(err)
		}
	default:
		g.insert()
	}
}

func (g *generator) createStable() {
	name := fmt.Sprint("st", g.rng.IntN(2))
	op := CreateStable{Name: name, Columns: tableColumns(modelColumns...), Tags: []sql.Column{{Name: "tag", Type: sql.TypeInt}}}
	_, err := g.v.Write(g.t.Context(), Statement{Op: op})
	_, exists := g.stables[name]
	if exists = exists || g.tables[name] != nil; exists != (err != nil) {
		g.t.Fatalf("create %s: got %v, exists is %v", name, err, exists)
	}
	if err == nil {
		g.columns[name], g.stables[name] = modelColumns, nil
	}
}

func (g *generator) createChild() {
	stables := slices.Sorted(maps.Keys(g.stables))
	if len(stables) == 0 {
		return
	}
	stable, name := stables[g.rng.IntN(len(stables))], fmt.Sprint("child", g.rng.IntN(3))
	op := CreateChild{Name: name, Using: Using{Stable: stable, Tags: []sql.Value{{}}}}
	_, err := g.v.Write(g.t.Context(), Statement{Op: op})
	if exists := g.tables[name] != nil; exists != errors.Is(err, ErrTableExists) {
		g.t.Fatalf("create %s: got %v, exists is %v", name, err, exists)
	}
	if err == nil {
		g.tables[name] = map[int64]modelRow{}
		g.stables[stable] = append(g.stables[stable], name)
	}
}

func (g *generator) drop() {
	if len(g.stables) > 0 && g.rng.IntN(4) == 0 {
		name := slices.Sorted(maps.Keys(g.stables))[0]
		write(g.t, g.v, DropStable{Name: name})
		for _, child := range g.stables[name] {
			delete(g.tables, child)
		}
		delete(g.stables, name)
		delete(g.columns, name)
		return
	}
	if len(g.tables) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(g.tables))
	name := names[g.rng.IntN(len(names))]
	write(g.t, g.v, DropTable{Name: name})
	delete(g.tables, name)
	for stable, children := range g.stables {
		g.stables[stable] = slices.DeleteFunc(children, func(c string) bool { return c == name })
	}
	delete(g.columns, name)
}

func (g *generator) alter() {
	names := slices.Sorted(maps.Keys(g.columns))
	if len(names) == 0 {
		return
	}
	name := names[g.rng.IntN(len(names))]
	columns := g.columns[name]
	if g.rng.IntN(2) == 0 && len(columns) > 2 {
		gone := columns[g.rng.IntN(len(columns))].Name
		write(g.t, g.v, DropColumn{Name: name, Column: gone})
		g.columns[name] = slices.DeleteFunc(slices.Clone(columns), func(c sql.Column) bool { return c.Name == gone })
		tables := g.stables[name]
		if g.tables[name] != nil {
			tables = []string{name}
		}
		for _, table := range tables {
			for _, row := range g.tables[table] {
				delete(row.values, gone) // a column added under the same name is another one
			}
		}
		return
	}
	c := modelColumns[g.rng.IntN(3)]
	if slices.ContainsFunc(columns, func(o sql.Column) bool { return o.Name == c.Name }) {
		g.added++
		c.Name = fmt.Sprint("x", g.added%4)
		if slices.ContainsFunc(columns, func(o sql.Column) bool { return o.Name == c.Name }) {
			return
		}
	}
	write(g.t, g.v, AddColumn{Name: name, Column: c})
	g.columns[name] = append(slices.Clone(columns), c)
}

func (g *generator) insert() {
	var in TableRows
	stables := slices.Sorted(maps.Keys(g.stables))
	if len(stables) > 0 && g.rng.IntN(2) == 0 {
		stable := stables[g.rng.IntN(len(stables))]
		in.Table = fmt.Sprint("child", g.rng.IntN(3))
		in.Using = &Using{Stable: stable, Tags: []sql.Value{{Type: sql.TypeInt, Int: g.rng.Int64N(9)}}}
		if g.tables[in.Table] == nil {
			g.tables[in.Table] = map[int64]modelRow{}
			g.stables[stable] = append(g.stables[stable], in.Table)
		}
	} else {
		names := slices.Sorted(maps.Keys(g.tables))
		if len(names) == 0 {
			return
		}
		in.Table = names[g.rng.IntN(len(names))]
	}
	if g.rng.IntN(5) == 0 {
		in.Stamp, in.Origin = hlc.At(testNow)+hlc.Stamp(g.rng.Int64N(1<<32))-1<<31, testCluster+1+id.Cluster(g.rng.IntN(2))
	}
	in.Rows = g.rows(g.columnsOf(in.Table))
	write(g.t, g.v, Insert{Tables: []TableRows{in}})
	v := version{in.Stamp, in.Origin}
	if in.Origin == 0 {
		v = version{g.v.position().stamp, testCluster}
	}
	table := g.tables[in.Table]
	for i, ts := range in.Rows.Timestamps {
		if old, ok := table[ts]; ok && old.v.above(v) {
			continue
		}
		row := modelRow{v: v, values: map[string]sql.Value{}}
		for j := range in.Rows.Columns {
			row.values[in.Rows.Columns[j].Name] = in.Rows.Columns[j].Value(i)
		}
		table[ts] = row
	}
}

// rows makes a few or many rows that overlap others, some of the columns.
func (g *generator) rows(columns []sql.Column) *sql.Rows {
	columns = slices.DeleteFunc(slices.Clone(columns), func(sql.Column) bool { return g.rng.IntN(8) == 0 })
	n := 1
	if g.rng.IntN(3) == 0 {
		n = 1 + g.rng.IntN(700)
	}
	r := sql.NewRows(columns, n)
	ts := testNow.UnixMilli() + g.rng.Int64N(20_000)
	for range n {
		r.Timestamps = append(r.Timestamps, ts)
		if ts += 1 + g.rng.Int64N(40); g.rng.IntN(50) == 0 {
			ts -= g.rng.Int64N(100) // out of order, and twice
		}
		for j := range r.Columns {
			if g.rng.IntN(6) == 0 {
				r.Columns[j].AppendNull()
				continue
			}
			v := sql.Value{Type: columns[j].Type, Int: g.rng.Int64N(1000), Float: float64(g.rng.IntN(1000)) / 10, Text: fmt.Sprint(g.rng.IntN(50))}
			r.Columns[j].AppendValue(v)
		}
	}
	return r
}

// lines is what a scan of a table should give.
func (m *model) lines(table string, span Range, descending bool) []string {
	var lines []string
	times := slices.Sorted(maps.Keys(m.tables[table]))
	if descending {
		slices.Reverse(times)
	}
	for _, ts := range times {
		if ts < span.From || ts >= span.To {
			continue
		}
		line := fmt.Sprintf("%s %d", table, ts-testNow.UnixMilli())
		for _, c := range m.columnsOf(table) {
			line += " " + valueText(m.tables[table][ts].values[c.Name])
		}
		lines = append(lines, line)
	}
	return lines
}

// check compares everything that can be read with the model.
func (g *generator) check(v *Vnode) {
	g.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(g.tables)) {
		from := testNow.UnixMilli() + g.rng.Int64N(30_000)
		spans := []Range{{From: math.MinInt64, To: math.MaxInt64}, {From: from, To: from + 1 + g.rng.Int64N(5000)}}
		for _, span := range spans {
			for _, descending := range []bool{false, true} {
				want := g.lines(name, span, descending)
				got := scanText(g.t, v, ScanRequest{Table: name, Range: span, Descending: descending})
				if i := firstDifference(got, want); i >= 0 {
					g.t.Fatalf("table %s, %+v, descending %v: %d rows, want %d, first difference at %d:\n%v\n%v", name, span, descending,
						len(got), len(want), i, got[min(i, len(got)):min(i+3, len(got))], want[min(i, len(want)):min(i+3, len(want))])
				}
			}
			g.checkAggregate(v, name, span)
		}
	}
}

func firstDifference(got, want []string) int {
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			return i
		}
	}
	return -1
}

func (g *generator) checkAggregate(v *Vnode, name string, span Range) {
	g.t.Helper()
	columns := g.columnsOf(name)
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	const width = 1000
	window := func(ts int64) (int64, int64) { return ts / width * width, ts/width*width + width }
	groups, err := v.Aggregate(g.t.Context(), AggregateRequest{Table: name, Range: span, Columns: names, Window: window})
	if err != nil {
		g.t.Fatal(err)
	}
	want := map[int64]*Window{}
	for _, ts := range slices.Sorted(maps.Keys(g.tables[name])) {
		if ts < span.From || ts >= span.To {
			continue
		}
		start, end := window(ts)
		w := want[start]
		if w == nil {
			w = &Window{Start: start, End: end, Columns: make([]Aggregate, len(columns))}
			want[start] = w
		}
		w.Rows++
		for j, c := range columns {
			x := g.tables[name][ts].values[c.Name]
			if x.IsNull() {
				continue
			}
			one := Aggregate{Type: c.Type, Count: 1, FirstTime: ts, LastTime: ts, SumInt: x.Int, SumFloat: x.Float, min: scalar{x.Int, x.Float, x.Text}}
			one.max, one.first, one.last = one.min, one.min, one.min
			w.Columns[j].Merge(&one)
		}
	}
	got := 0
	for _, group := range groups {
		for _, w := range group.Windows {
			got++
			o := want[w.Start]
			if o == nil || o.Rows != w.Rows || o.End != w.End {
				g.t.Fatalf("table %s window %d: got %d rows, want %+v", name, w.Start, w.Rows, o)
			}
			for j := range columns {
				a, b := &w.Columns[j], &o.Columns[j]
				if a.Count != b.Count || a.Min() != b.Min() || a.Max() != b.Max() || a.First() != b.First() || a.Last() != b.Last() ||
					columns[j].Type == sql.TypeBigInt && a.SumInt != b.SumInt || math.Abs(a.SumFloat-b.SumFloat) > 1e-6 {
					g.t.Fatalf("table %s window %d column %s: got %+v, want %+v", name, w.Start, columns[j].Name, *a, *b)
				}
			}
		}
	}
	if got != len(want) {
		g.t.Fatalf("table %s: got %d windows, want %d", name, got, len(want))
	}
}

// mergeAll merges every table, whether it is due or not.
func mergeAll(t testing.TB, v *Vnode) {
	t.Helper()
	if !v.current.Load().settled() {
		return
	}
	if err := v.current.Load().tidy.work(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, table := range v.current.Load().catalog.all() {
		if err := v.current.Load().tidy.merge(context.Background(), table.id); err != nil {
			t.Fatal(err)
		}
	}
}

func mustDigest(t testing.TB, v *Vnode) Digest {
	t.Helper()
	d, err := v.Digest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestModel compares a shard with the model while blocks are merged at random
// moments, and with replicas that applied the same log in other portions, with
// other merges, replayed, and with holes such as a power cut leaves.
func TestModel(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			v, l := leader(t, testConfig(t.TempDir()))
			g := newGenerator(t, seed, v)
			for range 300 {
				g.step()
				if g.rng.IntN(40) == 0 {
					mergeAll(t, v)
				}
			}
			g.check(v)
			mergeAll(t, v)
			g.check(v)
			want := mustDigest(t, v)

			cfg := testConfig(t.TempDir())
			follower := openTest(t, cfg, nil)
			feed(t, g.rng, follower, l.entries)
			if got := mustDigest(t, follower); got != want {
				t.Errorf("a follower has %+v, want %+v", got, want)
			}
			if err := follower.Close(); err != nil {
				t.Fatal(err)
			}
			follower = openTest(t, cfg, nil)
			from := g.rng.IntN(len(l.entries))
			feed(t, g.rng, follower, l.entries[from:])
			if got := mustDigest(t, follower); got != want {
				t.Errorf("replayed from %d: %+v, want %+v", from, got, want)
			}
			g.check(follower)
			for range 3 {
				testHole(t, g, l.entries, want)
			}
			testCopy(t, g, l.entries, want)
		})
	}
}

// feed applies entries in portions of random size, with merges in between.
func feed(t testing.TB, rng *rand.Rand, v *Vnode, entries []consensus.Entry) {
	t.Helper()
	for len(entries) > 0 {
		n := min(len(entries), 1+rng.IntN(30))
		if _, err := v.Apply(entries[:n]); err != nil {
			t.Fatal(err)
		}
		entries = entries[n:]
		if rng.IntN(8) == 0 {
			mergeAll(t, v)
		}
	}
}

// testHole loses the effects of some entries, keeps those of later ones, opens
// the store again and replays from the checkpoint.
func testHole(t *testing.T, g *generator, entries []consensus.Entry, want Digest) {
	t.Helper()
	cfg := testConfig(t.TempDir())
	v := openTest(t, cfg, nil)
	cuts := []int{g.rng.IntN(len(entries)), g.rng.IntN(len(entries)), g.rng.IntN(len(entries)), g.rng.IntN(len(entries))}
	slices.Sort(cuts)
	feed(t, g.rng, v, entries[:cuts[0]])
	for range 2 { // so that a replay can't start earlier
		if _, err := v.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	feed(t, g.rng, v, entries[cuts[0]:cuts[1]])
	a := applier{state: v.current.Load(), b: newBatch(v.current.Load().db), at: v.position()}
	for _, e := range entries[cuts[1]:cuts[2]] {
		if _, err := a.entry(e); err != nil {
			t.Fatal(err)
		}
	}
	a.b.discard() // lost
	v.current.Load().setPosition(a.at)
	feed(t, g.rng, v, entries[cuts[2]:cuts[3]])
	// The mark that Close leaves would say that all is well.
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = openTest(t, cfg, nil)
	v.current.Load().whole = false
	if cuts[3] > cuts[2] {
		if _, err := v.Digest(t.Context()); !errors.Is(err, ErrReplaying) {
			t.Errorf("digest of a store with holes: got %v, want %v", err, ErrReplaying)
		}
	}
	feed(t, g.rng, v, entries[cuts[0]:])
	if got := mustDigest(t, v); got != want {
		t.Errorf("with a hole at %v: %+v, want %+v", cuts, got, want)
	}
	g.check(v)
}

// TestCheckpointSurvivesACopy: what a checkpoint promised is there when only
// the files as they were then are left.
func TestCheckpointSurvivesACopy(t *testing.T) {
	v, l := leader(t, testConfig(t.TempDir()))
	g := newGenerator(t, 77, v)
	for range 100 {
		g.step()
	}
	n, err := v.Checkpoint(t.Context())
	if err != nil || int(n) != len(l.entries) {
		t.Fatalf("got checkpoint %d, %v, want %d", n, err, len(l.entries))
	}
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(v.cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(copied, filepath.Base(v.current.Load().dir), "LOCK")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	cfg := v.cfg
	cfg.Dir = copied
	other := openTest(t, cfg, nil)
	feed(t, g.rng, other, l.entries[n-1:])
	if got, want := mustDigest(t, other), mustDigest(t, v); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
