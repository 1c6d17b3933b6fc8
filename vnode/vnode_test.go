package vnode

import (
	"context"
	"errors"
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

const (
	testCluster id.Cluster = 7
	testGroup   id.Group   = 2
)

// testNow is the wall clock of tests.
var testNow = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

// testLog is a group of one member: it keeps the entries and applies each at
// once.
type testLog struct {
	mu      sync.Mutex
	v       *Vnode
	entries []consensus.Entry
	fail    func(n int) error // called before entry n (from 1) is appended
	after   func(n int) error // called when it is applied
}

func (l *testLog) Propose(_ context.Context, group id.Group, data []byte) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.entries) + 1
	if l.fail != nil {
		if err := l.fail(n); err != nil {
			return nil, err
		}
	}
	e := consensus.Entry{Index: id.Index(n), Term: 1, Data: data}
	l.entries = append(l.entries, e)
	results, err := l.v.Apply([]consensus.Entry{e})
	if err != nil {
		return nil, err
	}
	if l.after != nil {
		if err := l.after(n); err != nil {
			return nil, err
		}
	}
	return results[0], nil
}

func (l *testLog) Read(context.Context, id.Group) error { return nil }

func testConfig(dir string) Config {
	return Config{Dir: dir, Group: testGroup, Cluster: testCluster}
}

// openTest opens a replica that does nothing by itself.
func openTest(t testing.TB, cfg Config, rep Replicator) *Vnode {
	t.Helper()
	v, err := Open(cfg, 0, rep, func() time.Time { return testNow }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// leader opens a replica that leads a group of one and takes statements.
func leader(t testing.TB, cfg Config) (*Vnode, *testLog) {
	t.Helper()
	l := &testLog{}
	v := openTest(t, cfg, l)
	l.v = v
	lead(t, v)
	return v, l
}

// lead lets v lead, with a batcher but without a tidy worker.
func lead(t testing.TB, v *Vnode) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { v.batcher.run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	v.LeaderChanged(1, id.UUID{1}, true)
}

func write(t testing.TB, v *Vnode, op Op) Result {
	t.Helper()
	r, err := v.Write(t.Context(), Statement{Op: op})
	if err != nil {
		t.Fatalf("%#v: %v", op, err)
	}
	return r
}

var timeColumn = sql.Column{Name: "ts", Type: sql.TypeTimestamp, Length: 8}

func tableColumns(columns ...sql.Column) []sql.Column {
	return append([]sql.Column{timeColumn}, columns...)
}

// numbers makes rows (ts, v DOUBLE, n INT) from triples.
func numbers(triples ...float64) *sql.Rows {
	r := sql.NewRows(sensorColumns, len(triples)/3)
	for i := 0; i < len(triples); i += 3 {
		r.Timestamps = append(r.Timestamps, testNow.UnixMilli()+int64(triples[i]))
		r.Columns[0].Floats = append(r.Columns[0].Floats, triples[i+1])
		r.Columns[1].Ints = append(r.Columns[1].Ints, int64(triples[i+2]))
	}
	return r
}

// scanText is what a scan gives, one line a row, times relative to testNow.
func scanText(t testing.TB, v *Vnode, req ScanRequest) []string {
	t.Helper()
	var lines []string
	err := v.Scan(t.Context(), req, func(table *Table, rows *sql.Rows) error {
		for i, ts := range rows.Timestamps {
			line := fmt.Sprintf("%s %d", table.Name, ts-testNow.UnixMilli())
			for j := range rows.Columns {
				line += " " + valueText(rows.Columns[j].Value(i))
			}
			lines = append(lines, line)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func valueText(v sql.Value) string {
	switch {
	case v.IsNull():
		return "NULL"
	case v.Type.Storage() == sql.StoreFloats:
		return fmt.Sprint(v.Float)
	case v.Type.Storage() == sql.StoreInts:
		return fmt.Sprint(v.Int)
	}
	return v.Text
}

func wantLines(t testing.TB, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

func TestWriteAndScan(t *testing.T) {
	v, _ := leader(t, testConfig(t.TempDir()))
	write(t, v, CreateTable{Name: "d1", Columns: tableColumns(sensorColumns...)})
	if r := write(t, v, Insert{Tables: []TableRows{{Table: "d1", Rows: numbers(20, 2.5, 2, 10, 1.5, 1)}}}); r.Rows != 2 {
		t.Errorf("got %d rows, want 2", r.Rows)
	}
	write(t, v, Insert{Tables: []TableRows{{Table: "d1", Rows: numbers(20, 9, 9)}}})
	wantLines(t, scanText(t, v, ScanRequest{Table: "d1"}), "d1 10 1.5 1", "d1 20 9 9")
	wantLines(t, scanText(t, v, ScanRequest{Table: "d1", Descending: true, Columns: []string{"n"}, Limit: 1}), "d1 20 9")
}

func TestSuperTable(t *testing.T) {
	v, _ := leader(t, testConfig(t.TempDir()))
	tags := []sql.Column{{Name: "site", Type: sql.TypeVarchar, Length: 8}, {Name: "floor", Type: sql.TypeInt}}
	write(t, v, CreateStable{Name: "st", Columns: tableColumns(sensorColumns...), Tags: tags})
	north, south := sql.Value{Type: sql.TypeVarchar, Text: "north"}, sql.Value{Type: sql.TypeVarchar, Text: "south"}
	write(t, v, CreateChild{Name: "b", Using: Using{Stable: "st", TagNames: []string{"site"}, Tags: []sql.Value{north}}})
	write(t, v, Insert{Tables: []TableRows{
		{Table: "b", Rows: numbers(1, 1, 1)},
		{Table: "a", Rows: numbers(2, 2, 2), Using: &Using{Stable: "st", Tags: []sql.Value{south, {Type: sql.TypeInt, Int: 3}}}},
	}})
	wantLines(t, scanText(t, v, ScanRequest{Table: "st"}), "a 2 2 2", "b 1 1 1")
	onlyNorth := func(t *Table) bool { return t.Tags()[0] == north }
	wantLines(t, scanText(t, v, ScanRequest{Table: "st", Tables: onlyNorth}), "b 1 1 1")

	write(t, v, AddColumn{Name: "st", Column: sql.Column{Name: "s", Type: sql.TypeVarchar, Length: 4}})
	write(t, v, DropColumn{Name: "st", Column: "v"})
	wantLines(t, scanText(t, v, ScanRequest{Table: "b"}), "b 1 1 NULL")
	write(t, v, SetTags{Table: "b", Names: []string{"floor"}, Tags: []sql.Value{{Type: sql.TypeInt, Int: 5}}})
	if got := v.Table("b").Tags(); got[0] != north || got[1].Int != 5 {
		t.Errorf("got tags %v", got)
	}

	write(t, v, DropTable{Name: "a"})
	if _, err := v.Write(t.Context(), Statement{Op: DropTable{Name: "a"}}); !errors.Is(err, ErrNoTable) {
		t.Errorf("got %v, want %v", err, ErrNoTable)
	}
	write(t, v, DropStable{Name: "st"})
	if tables, stables := v.Counts(); tables != 0 || stables != 0 {
		t.Errorf("got %d tables and %d super tables, want none", tables, stables)
	}
}

func TestStatementErrors(t *testing.T) {
	v, _ := leader(t, testConfig(t.TempDir()))
	write(t, v, CreateTable{Name: "d1", Columns: tableColumns(sensorColumns...)})
	old := numbers(0, 1, 1)
	old.Timestamps[0] -= int64(3651 * 24 * time.Hour / time.Millisecond)
	long := sql.NewRows([]sql.Column{{Name: "s", Type: sql.TypeVarchar}}, 1)
	long.Timestamps = append(long.Timestamps, testNow.UnixMilli())
	long.Columns[0].AppendBytes([]byte("too long"))
	write(t, v, CreateTable{Name: "texts", Columns: tableColumns(sql.Column{Name: "s", Type: sql.TypeVarchar, Length: 4})})
	for _, c := range []struct {
		name string
		op   Op
		want error
	}{
		{"unknown table", Insert{Tables: []TableRows{{Table: "d2", Rows: numbers(1, 1, 1)}}}, ErrNoTable},
		{"unknown super table", CreateChild{Name: "c", Using: Using{Stable: "st"}}, ErrNoStable},
		{"exists", CreateTable{Name: "d1", Columns: tableColumns(sensorColumns...)}, ErrTableExists},
		{"too old", Insert{Tables: []TableRows{{Table: "d1", Rows: old}}}, ErrOutOfRange},
		{"too long", Insert{Tables: []TableRows{{Table: "texts", Rows: long}}}, ErrTooLong},
		{"unknown column", Insert{Tables: []TableRows{{Table: "d1", Rows: long}}}, ErrNoColumn},
		{"no columns", CreateTable{Name: "x", Columns: tableColumns()}, ErrBadStatement},
		{"column twice", AddColumn{Name: "d1", Column: sensorColumns[0]}, ErrColumnExists},
		{"drop what is not there", DropStable{Name: "st"}, ErrNoStable},
	} {
		if _, err := v.Write(t.Context(), Statement{Op: c.op}); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	if r := write(t, v, CreateTable{Name: "d1", Columns: tableColumns(sensorColumns...), IfNotExists: true}); !r.Existed {
		t.Errorf("got %+v, want an existing table", r)
	}
}

// TestInsertSeveralTables: tables that one statement creates are different
// ones, and rows for the same table are put together.
func TestInsertSeveralTables(t *testing.T) {
	v, _ := leader(t, testConfig(t.TempDir()))
	write(t, v, CreateStable{Name: "st", Columns: tableColumns(sensorColumns...), Tags: []sql.Column{{Name: "x", Type: sql.TypeInt}}})
	using := &Using{Stable: "st", Tags: []sql.Value{{}}}
	r := write(t, v, Insert{Tables: []TableRows{
		{Table: "a", Using: using, Rows: numbers(1, 1, 1, 2, 2, 2)},
		{Table: "b", Using: using, Rows: numbers(1, 3, 3)},
		{Table: "a", Using: using, Rows: numbers(1, 4, 4)},
	}})
	if r.Rows != 3 {
		t.Errorf("got %d rows, want 3", r.Rows)
	}
	wantLines(t, scanText(t, v, ScanRequest{Table: "st"}), "a 1 4 4", "a 2 2 2", "b 1 3 3")
}

// TestForeignRows: rows of another cluster keep their stamps, and what is
// written here later wins even if the other clock is ahead.
func TestForeignRows(t *testing.T) {
	v, _ := leader(t, testConfig(t.TempDir()))
	write(t, v, CreateTable{Name: "d", Columns: tableColumns(sensorColumns...)})
	foreign := func(ahead time.Duration, x float64) Op {
		return Insert{Tables: []TableRows{{Table: "d", Rows: numbers(1, x, 0), Origin: 9, Stamp: hlc.At(testNow.Add(ahead))}}}
	}
	write(t, v, foreign(time.Minute, 1))
	write(t, v, Insert{Tables: []TableRows{{Table: "d", Rows: numbers(1, 2, 0)}}})
	wantLines(t, scanText(t, v, ScanRequest{Table: "d"}), "d 1 2 0")
	write(t, v, foreign(-time.Minute, 3))
	wantLines(t, scanText(t, v, ScanRequest{Table: "d"}), "d 1 2 0")
	if _, err := v.Write(t.Context(), Statement{Op: foreign(2*time.Hour, 4)}); !errors.Is(err, ErrOutOfRange) {
		t.Errorf("a clock two hours ahead: got %v, want %v", err, ErrOutOfRange)
	}
}

// TestStatementIDs: a statement that is proposed twice takes effect once (R46).
func TestStatementIDs(t *testing.T) {
	dir := t.TempDir()
	v, _ := leader(t, testConfig(dir))
	write(t, v, CreateTable{Name: "d", Columns: tableColumns(sensorColumns...)})
	insert := func(seq uint64, x float64) Statement {
		return Statement{ID: StatementID{9, seq}, Op: Insert{Tables: []TableRows{{Table: "d", Rows: numbers(1, x, 0)}}}}
	}
	for _, s := range []Statement{insert(1, 1), insert(2, 2), insert(1, 1)} {
		if r, err := v.Write(t.Context(), s); err != nil || r.Rows != 1 {
			t.Fatalf("got %+v, %v", r, err)
		}
	}
	wantLines(t, scanText(t, v, ScanRequest{Table: "d"}), "d 1 2 0")
	drop := Statement{ID: StatementID{9, 3}, Op: DropTable{Name: "d"}}
	for range 2 {
		if _, err := v.Write(t.Context(), drop); err != nil {
			t.Fatalf("got %v, want the first result", err)
		}
	}
}

// TestStatementIDsSurvive: a new leader knows the ids of the log's last 30
// seconds, and no older ones.
func TestStatementIDsSurvive(t *testing.T) {
	cfg := testConfig(t.TempDir())
	v, l := leader(t, cfg)
	write(t, v, CreateTable{Name: "d", Columns: tableColumns(sensorColumns...)})
	insert := func(seq uint64, x float64) Statement {
		return Statement{ID: StatementID{9, seq}, Op: Insert{Tables: []TableRows{{Table: "d", Rows: numbers(1, x, 0)}}}}
	}
	for seq := range uint64(3) {
		if _, err := v.Write(t.Context(), insert(seq, float64(seq))); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = openTest(t, cfg, l)
	now := testNow
	v.now = func() time.Time { return now }
	l.v = v
	lead(t, v)
	if _, err := v.Write(t.Context(), insert(0, 0)); err != nil {
		t.Fatal(err)
	}
	wantLines(t, scanText(t, v, ScanRequest{Table: "d"}), "d 1 2 0")
	const more = 32
	for seq := range uint64(more) { // a leap of the clock alone makes nothing old
		now = now.Add(RememberFor / (more - 2))
		if _, err := v.Write(t.Context(), insert(10+seq, 7)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := v.Write(t.Context(), insert(0, 0)); err != nil {
		t.Fatal(err)
	}
	wantLines(t, scanText(t, v, ScanRequest{Table: "d"}), "d 1 0 0")
	for range 2 {
		if _, err := v.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	write(t, v, Note{Key: "k"})
	if n := v.current.Load().memory.Len(); n != more {
		t.Errorf("got %d ids in memory, want %d", n, more)
	}
}

// TestWaitingStatements: what was not proposed is dropped with its caller and
// refused with its leader; what was proposed has an unknown outcome.
func TestWaitingStatements(t *testing.T) {
	v, l := leader(t, testConfig(t.TempDir()))
	write(t, v, CreateTable{Name: "d", Columns: tableColumns(sensorColumns...)})
	insert := func(x float64) Statement {
		return Statement{Op: Insert{Tables: []TableRows{{Table: "d", Rows: numbers(x, x, 0)}}}}
	}
	hang, hanging := make(chan struct{}), make(chan struct{})
	l.after = func(int) error { close(hanging); <-hang; return nil }
	ctx, cancel := context.WithCancelCause(t.Context())
	errs := make(chan error, 3)
	go func() { _, err := v.Write(ctx, insert(1)); errs <- err }()
	<-hanging
	l.after = nil
	gone, cancelGone := context.WithCancel(t.Context())
	cancelGone()
	if _, err := v.Write(gone, insert(2)); !errors.Is(err, context.Canceled) || errors.Is(err, consensus.ErrUnknownOutcome) {
		t.Errorf("a statement not proposed: got %v", err)
	}
	cause := errors.New("client gone")
	cancel(cause)
	if err := <-errs; !errors.Is(err, consensus.ErrUnknownOutcome) || !errors.Is(err, cause) {
		t.Errorf("a statement under way: got %v", err)
	}
	go func() { _, err := v.Write(t.Context(), insert(3)); errs <- err }()
	for waits := false; !waits; {
		v.batcher.mu.Lock()
		waits = len(v.batcher.mu.queue) == 2
		v.batcher.mu.Unlock()
	}
	other := id.UUID{2}
	v.LeaderChanged(2, other, false)
	var notLeader *consensus.NotLeaderError
	if err := <-errs; !errors.As(err, &notLeader) || notLeader.Leader != other {
		t.Errorf("a statement of a deposed leader: got %v", err)
	}
	if _, err := v.Write(t.Context(), insert(4)); !errors.As(err, &notLeader) {
		t.Errorf("a statement at a follower: got %v", err)
	}
	close(hang)
	v.LeaderChanged(3, id.UUID{1}, true)
	write(t, v, insert(5).Op)
	wantLines(t, scanText(t, v, ScanRequest{Table: "d"}), "d 1 1 0", "d 5 5 0")
}

// TestBatching: statements that wait go into one entry.
func TestBatching(t *testing.T) {
	v, l := leader(t, testConfig(t.TempDir()))
	write(t, v, CreateTable{Name: "d", Columns: tableColumns(sensorColumns...)})
	hang, hanging := make(chan struct{}), make(chan struct{})
	l.after = func(n int) error {
		if n == 2 {
			close(hanging)
			<-hang
		}
		return nil
	}
	const writers = 50
	errs := make(chan error, writers+1)
	insert := func(x float64) {
		_, err := v.Write(t.Context(), Statement{Op: Insert{Tables: []TableRows{{Table: "d", Rows: numbers(x, x, 0)}}}})
		errs <- err
	}
	go insert(0)
	<-hanging
	for i := range writers {
		go insert(float64(i + 1))
	}
	for waiting := 0; waiting < writers; {
		v.batcher.mu.Lock()
		waiting = len(v.batcher.mu.queue)
		v.batcher.mu.Unlock()
	}
	close(hang)
	for range writers + 1 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if len(l.entries) != 3 {
		t.Errorf("got %d entries, want 3", len(l.entries))
	}
	if got := len(scanText(t, v, ScanRequest{Table: "d"})); got != writers+1 {
		t.Errorf("got %d rows, want %d", got, writers+1)
	}
}

// TestKeep: what is older than KEEP at the moment of the log does not exist,
// and goes away.
func TestKeep(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Keep = time.Hour
	v, _ := leader(t, cfg)
	now := testNow
	v.now = func() time.Time { return now }
	write(t, v, CreateTable{Name: "d", Columns: tableColumns(sensorColumns...)})
	write(t, v, Insert{Tables: []TableRows{{Table: "d", Rows: numbers(0, 1, 1)}}})
	now = now.Add(time.Hour + time.Minute)
	wantLines(t, scanText(t, v, ScanRequest{Table: "d"}), "d 0 1 1")
	write(t, v, Insert{Tables: []TableRows{{Table: "d", Rows: numbers(3_600_000, 2, 2)}}})
	wantLines(t, scanText(t, v, ScanRequest{Table: "d"}), "d 3600000 2 2")
	before, err := v.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := v.current.Load().tidy.work(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := v.Digest(t.Context())
	if err != nil || before != after {
		t.Errorf("got %+v, %v after rows went away, want %+v", after, err, before)
	}
	if n := countKeys(t, v, keyBlock); n != 1 {
		t.Errorf("got %d blocks, want 1", n)
	}
}

func countKeys(t testing.TB, v *Vnode, prefix byte) int {
	t.Helper()
	txn := v.current.Load().db.NewTransaction(false)
	defer txn.Discard()
	n := 0
	if err := walk(txn, []byte{prefix}, func(_, _ []byte) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestDroppedTablesGo: the blocks of dropped tables are removed, and the marks
// of that once it lasts.
func TestDroppedTablesGo(t *testing.T) {
	cfg := testConfig(t.TempDir())
	v, l := leader(t, cfg)
	write(t, v, CreateStable{Name: "st", Columns: tableColumns(sensorColumns...), Tags: []sql.Column{{Name: "x", Type: sql.TypeInt}}})
	using := &Using{Stable: "st", Tags: []sql.Value{{}}}
	for _, name := range []string{"a", "b", "c"} {
		write(t, v, Insert{Tables: []TableRows{{Table: name, Using: using, Rows: numbers(1, 1, 1, 2, 2, 2)}}})
	}
	write(t, v, DropTable{Name: "a"})
	write(t, v, DropStable{Name: "st"})
	if err := v.Close(); err != nil { // the rest is found again
		t.Fatal(err)
	}
	v = openTest(t, cfg, l)
	if err := v.current.Load().tidy.work(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := countKeys(t, v, keyBlock) + countKeys(t, v, keyObject); n != 0 {
		t.Errorf("got %d blocks and tables, want none", n)
	}
	if n := countKeys(t, v, keyDropped); n != 4 {
		t.Errorf("got %d marks before the checkpoint, want 4", n)
	}
	for range 2 {
		if _, err := v.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := countKeys(t, v, keyDropped) + len(v.current.Load().catalog.dead) + len(v.current.Load().catalog.graves); n != 0 {
		t.Errorf("got %d graves after two checkpoints, want none", n)
	}
}
