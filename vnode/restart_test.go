package vnode

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// TestEmptyStoreFiles opens a store in which a process died between two system
// calls: Badger makes a log with length zero and then stretches it, and cuts one
// to length zero before it removes it.
func TestEmptyStoreFiles(t *testing.T) {
	cfg := testConfig(t.TempDir())
	v := openTest(t, cfg, nil)
	applyCuts(t, v, 1, 3)
	want := mustDigest(t, v)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"00009.mem", "000009.vlog"} {
		if err := os.WriteFile(filepath.Join(v.current.Load().dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := mustDigest(t, openTest(t, cfg, nil)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// applyCuts applies entries first to last of the log of cutEntry.
func applyCuts(t testing.TB, v *Vnode, first, last id.Index) {
	t.Helper()
	for index := first; index <= last; index++ {
		if _, err := v.Apply([]consensus.Entry{cutEntry(index)}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCheckpointOfHalfAReplay makes a checkpoint while a replay has taken
// entries that are not in the store yet: they don't count.
func TestCheckpointOfHalfAReplay(t *testing.T) {
	cfg := testConfig(t.TempDir())
	v := openTest(t, cfg, nil)
	applyCuts(t, v, 1, 10)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	forgetMark(t, v.current.Load().dir)
	v = openTest(t, cfg, nil)
	applyCuts(t, v, 1, 4)
	broken := consensus.Entry{Index: 11, Term: 1, Data: []byte{0xff}}
	if _, err := v.Apply([]consensus.Entry{cutEntry(5), cutEntry(10), broken}); err == nil {
		t.Fatal("a broken entry was applied")
	}
	if v.current.Load().settled() {
		t.Error("the replica takes itself for replayed")
	}
	if n, err := v.Checkpoint(context.Background()); n != 4 || err != nil {
		t.Errorf("got checkpoint %d, %v, want 4", n, err)
	}
}

// forgetMark makes a store look as if it had not been closed.
func forgetMark(t *testing.T, dir string) {
	t.Helper()
	db, err := openStore(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b := newBatch(db)
	if err := b.delete([]byte{keyMark}); err != nil {
		t.Fatal(err)
	}
	if err := b.commit(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestInsertBehindADrop applies rows that were proposed by a table's id just
// before it was dropped: they are not stored, and the answer says so, on every
// replica, whether or not it still has the grave.
func TestInsertBehindADrop(t *testing.T) {
	v := openTest(t, testConfig(t.TempDir()), nil)
	create := CreateTable{Name: "t", Columns: tableColumns(sensorColumns...)}
	insert := appendInsertTable([]byte{1}, &insertTable{id: 1 << positionBits, blocks: 1})
	insert = appendBytes(insert, new(encoder).appendBlock(nil, noisyRows(1), 0, 1, 1, nil))
	drop := DropTable{Name: "t"}
	statements := []struct {
		kind opKind
		body []byte
		want fault
	}{
		{create.kind(), appendOp(nil, create), faultNone},
		{opInsert, insert, faultNone},
		{drop.kind(), appendOp(nil, drop), faultNone},
		{opInsert, insert, faultNoTable},
	}
	for i, s := range statements {
		index := id.Index(i + 1)
		head := entryHead{first: hlc.At(testNow) + hlc.Stamp(index)<<stampShift, origin: testCluster, count: 1}
		data := appendStatement(appendEntryHead(nil, head), s.kind, StatementID{}, s.body)
		results, err := v.Apply([]consensus.Entry{{Index: index, Term: 1, Data: data}})
		if err != nil {
			t.Fatal(err)
		}
		if out := results[0].([]outcome)[0]; out.fault != s.want {
			t.Errorf("statement %d: got %+v, want fault %d", i+1, out, s.want)
		}
	}
}

// TestDigestBesideApply takes digests while a batch is applied that is too long
// for one transaction: what they show are whole entries.
func TestDigestBesideApply(t *testing.T) {
	v := openTest(t, testConfig(t.TempDir()), nil)
	applyCuts(t, v, 1, 60)
	wants := map[id.Index]Digest{60: mustDigest(t, v)}
	var entries []consensus.Entry
	reference := openTest(t, testConfig(t.TempDir()), nil)
	applyCuts(t, reference, 1, 60)
	for index := id.Index(61); index <= 100; index++ {
		entries = append(entries, cutEntry(index))
		applyCuts(t, reference, index, index)
		wants[index] = mustDigest(t, reference)
	}
	done := make(chan error, 1)
	go func() {
		_, err := v.Apply(entries)
		done <- err
	}()
	for at := id.Index(0); at < 100; {
		got := mustDigest(t, v)
		if at = got.Applied; got != wants[at] {
			t.Fatalf("got %+v, want %+v", got, wants[at])
		}
		if len(done) > 0 && mustDigest(t, v).Applied != 100 {
			break
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestInsertStoredInPart: one of two tables is dropped while an insert is on its
// way. The rows of the other are stored, and the error says so.
func TestInsertStoredInPart(t *testing.T) {
	var v *Vnode
	l := &testLog{}
	v = openTest(t, testConfig(t.TempDir()), l)
	l.v = v
	go func() { _ = v.Run(t.Context()) }()
	v.LeaderChanged(1, id.UUID{1}, true)
	for _, name := range []string{"a", "b"} {
		write(t, v, CreateTable{Name: name, Columns: tableColumns(sensorColumns...)})
	}
	l.fail = func(n int) error { // the entry is made, and the drop gets before it
		l.fail = nil
		op := DropTable{Name: "a"}
		head := entryHead{first: v.position().stamp + 1, origin: testCluster, count: 1}
		data := appendStatement(appendEntryHead(nil, head), op.kind(), StatementID{}, appendOp(nil, op))
		e := consensus.Entry{Index: id.Index(n), Term: 1, Data: data}
		l.entries = append(l.entries, e)
		_, err := v.Apply([]consensus.Entry{e})
		return err
	}
	both := Insert{Tables: []TableRows{{Table: "a", Rows: noisyRows(2)}, {Table: "b", Rows: noisyRows(3)}}}
	_, err := v.Write(t.Context(), Statement{ID: StatementID{5, 5}, Op: both})
	if !errors.Is(err, ErrNoTable) || !strings.Contains(err.Error(), "3 rows") {
		t.Errorf("got %v, want that 3 rows are stored", err)
	}
}
