package vnode

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// openAt opens a replica whose log is durable up to mark.
func openAt(t testing.TB, cfg Config, mark id.Index) *Vnode {
	t.Helper()
	v, err := Open(cfg, mark, nil, func() time.Time { return testNow }, slog.New(slog.DiscardHandler))
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

func mustSnapshot(t testing.TB, v *Vnode) consensus.Snapshot {
	t.Helper()
	n, err := v.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func mustReceive(t testing.TB, v *Vnode, of byte, index id.Index) consensus.Copy {
	t.Helper()
	c, err := v.Receive(consensus.SnapshotID{of}, index)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pieces hands over up to n pieces, all if n is negative. It reports whether the
// copy has everything.
func pieces(t testing.TB, from consensus.Snapshot, to consensus.Copy, n int) (all bool) {
	t.Helper()
	for ; n != 0; n-- {
		piece, next, err := from.Read(to.After())
		if errors.Is(err, io.EOF) {
			return true
		}
		if err == nil {
			err = to.Write(piece, next)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return false
}

// finish completes a copy.
func finish(t testing.TB, from consensus.Snapshot, to consensus.Copy) {
	t.Helper()
	pieces(t, from, to, -1)
	digest, err := from.Digest(t.Context())
	if err == nil {
		err = to.Finish(t.Context(), digest)
	}
	if err = errors.Join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
}

// testCopy copies the state that a replica has after some entries to one that
// has fewer, with broken connections and restarts of the receiver, while the
// sender goes on. Then the receiver is given the rest.
func testCopy(t *testing.T, g *generator, entries []consensus.Entry, want Digest) {
	t.Helper()
	has, sent := g.rng.IntN(len(entries)), 1+g.rng.IntN(len(entries)-1)
	has = min(has, sent)
	sender := openTest(t, testConfig(t.TempDir()), nil)
	feed(t, g.rng, sender, entries[:sent])
	from := mustSnapshot(t, sender)
	cfg := testConfig(t.TempDir())
	receiver := openTest(t, cfg, nil)
	feed(t, g.rng, receiver, entries[:has])
	index := id.Index(sent) + id.Index(g.rng.IntN(3)) // entries without data for Apply
	later := entries[sent:]
	for done := false; !done; {
		to := mustReceive(t, receiver, 7, index)
		done = pieces(t, from, to, 1+g.rng.IntN(8))
		if done {
			finish(t, from, to)
		} else if err := to.Close(); err != nil {
			t.Fatal(err)
		}
		if n := min(len(later), g.rng.IntN(20)); n > 0 {
			feed(t, g.rng, sender, later[:n])
			later = later[n:]
		}
		if !done && g.rng.IntN(4) == 0 {
			if err := receiver.Close(); err != nil {
				t.Fatal(err)
			}
			receiver = openAt(t, cfg, 1)
		}
	}
	if got := receiver.Applied(); got != id.Index(has) {
		t.Errorf("with a copy beside it the state is at %d, want %d", got, has)
	}
	if g.rng.IntN(2) == 0 {
		if err := receiver.Install(index); err != nil {
			t.Fatal(err)
		}
	} else { // it dies before it could, but after the log has named the copy
		if err := receiver.Close(); err != nil {
			t.Fatal(err)
		}
		receiver = openAt(t, cfg, index)
	}
	if got := receiver.Applied(); got != index {
		t.Errorf("with the copy of %d the state is at %d", index, got)
	}
	feed(t, g.rng, receiver, entries[sent:])
	feed(t, g.rng, sender, later)
	for name, v := range map[string]*Vnode{"receiver": receiver, "sender": sender} {
		if got := mustDigest(t, v); got != want {
			t.Errorf("%d entries, copied at %d: %s has %+v, want %+v", has, sent, name, got, want)
		}
	}
	g.check(receiver)
}

// TestCopyRemembers: a statement that was carried out before the copy is
// answered from it, and not carried out again (R46).
func TestCopyRemembers(t *testing.T) {
	v, l := leader(t, testConfig(t.TempDir()))
	write(t, v, CreateTable{Name: "d", Columns: tableColumns(sensorColumns...)})
	once := Statement{ID: StatementID{Boot: 4, Seq: 1}, Op: Insert{Tables: []TableRows{{Table: "d", Rows: numbers(1, 1, 1)}}}}
	if _, err := v.Write(t.Context(), once); err != nil {
		t.Fatal(err)
	}
	to := openTest(t, testConfig(t.TempDir()), nil)
	finish(t, mustSnapshot(t, v), mustReceive(t, to, 1, 2))
	if err := to.Install(2); err != nil {
		t.Fatal(err)
	}
	write(t, v, Insert{Tables: []TableRows{{Table: "d", Rows: numbers(1, 2, 2)}}})
	if _, err := v.Write(t.Context(), once); err != nil { // the client repeats it
		t.Fatal(err)
	}
	feed(t, rand.New(rand.NewPCG(1, 1)), to, l.entries[2:])
	wantLines(t, scanText(t, to, ScanRequest{Table: "d"}), "d 1 2 2")
	if _, known := to.Outcome(once.ID); !known {
		t.Error("the copy does not know the statement")
	}
}

// TestCopyOfNothing copies a replica that has applied nothing yet.
func TestCopyOfNothing(t *testing.T) {
	from, to := openTest(t, testConfig(t.TempDir()), nil), openTest(t, testConfig(t.TempDir()), nil)
	finish(t, mustSnapshot(t, from), mustReceive(t, to, 1, 3))
	if err := to.Install(3); err != nil {
		t.Fatal(err)
	}
	if d := mustDigest(t, to); d.Rows != 0 || to.Applied() != 3 {
		t.Errorf("got %+v at %d", d, to.Applied())
	}
}

// TestSnapshotPieces: pieces are bounded, the same position gives the same
// piece, and the digest does not depend on where they are cut.
func TestSnapshotPieces(t *testing.T) {
	v := openTest(t, testConfig(t.TempDir()), nil)
	applyCuts(t, v, 1, 70)
	n := mustSnapshot(t, v)
	var after, all []byte
	total := 0
	for {
		piece, next, err := n.Read(after)
		if errors.Is(err, io.EOF) {
			break
		}
		again, _, _ := n.Read(after)
		if err != nil || len(next) == 0 || !bytes.Equal(piece, again) {
			t.Fatalf("at %x: %d bytes, then %d, next %x, %v", after, len(piece), len(again), next, err)
		}
		if len(piece) > pieceBytes {
			t.Errorf("at %x: a piece of %d bytes", after, len(piece))
		}
		all, after = append(all, piece...), next
		total++
		applyCuts(t, v, id.Index(70+total), id.Index(70+total)) // the view stays
	}
	if total < 3 {
		t.Fatalf("only %d pieces", total)
	}
	if about := n.Bytes(); about < uint64(len(all))*9/10 || about > uint64(len(all))*11/10 {
		t.Errorf("about %d bytes, there were %d", about, len(all))
	}
	got, err := n.Digest(t.Context())
	sum := newSummary()
	sum.add(nil, all, []byte{0xff}, nil)
	if want := sum.hash.Sum(nil); err != nil || !bytes.Equal(got, want) {
		t.Errorf("digest %x, %v, want %x", got, err, want)
	}
	fresh := &snapshot{state: v.current.Load(), read: n.(*snapshot).read, sum: newSummary()} // read by nobody
	if again, err := fresh.Digest(t.Context()); err != nil || !bytes.Equal(got, again) {
		t.Errorf("digest %x, %v when nothing was read, want %x", again, err, got)
	}
}

// TestNoSnapshotOfHoles: a replica that has not replayed its log has no state
// that anybody else could use.
func TestNoSnapshotOfHoles(t *testing.T) {
	cfg := testConfig(t.TempDir())
	v := openTest(t, cfg, nil)
	applyCuts(t, v, 1, 10)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	forgetMark(t, v.current.Load().dir)
	v = openTest(t, cfg, nil)
	if _, err := v.Snapshot(); !errors.Is(err, ErrReplaying) {
		t.Errorf("got %v, want %v", err, ErrReplaying)
	}
	applyCuts(t, v, 1, 10)
	mustSnapshot(t, v)
}

// TestBrokenCopy: a copy that is not what was sent is refused and removed; the
// replica goes on, and so does the next copy.
func TestBrokenCopy(t *testing.T) {
	from, to := openTest(t, testConfig(t.TempDir()), nil), openTest(t, testConfig(t.TempDir()), nil)
	applyCuts(t, from, 1, 60)
	applyCuts(t, to, 1, 3)
	n := mustSnapshot(t, from)
	digest, err := n.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	piece, next, err := n.Read(nil)
	if err != nil {
		t.Fatal(err)
	}
	short := mustReceive(t, to, 1, 60)
	if err := short.Write(piece, next); err != nil {
		t.Fatal(err)
	}
	if err := short.Finish(t.Context(), digest); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a copy that ends early: got %v", err)
	}
	if err := short.Close(); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string][]byte{
		"cut":       piece[:len(piece)-1],
		"backwards": append(appendRecord(nil, []byte("b"), nil), appendRecord(nil, []byte("a"), nil)...),
		"local":     appendRecord(nil, []byte{keyMark}, make([]byte, 8)),
	} {
		c := mustReceive(t, to, 2, 60)
		if err := c.Write(bad, next); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := c.Write(piece, next); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: a copy that has failed goes on: %v", name, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if early := mustReceive(t, to, 3, 59); true { // it holds entry 60
		pieces(t, n, early, -1)
		if err := early.Finish(t.Context(), digest); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a copy that holds more than its index: got %v", err)
		}
		_ = early.Close()
	}
	if err := to.Install(60); err == nil {
		t.Error("a copy that is not there is installed")
	}
	applyCuts(t, to, 4, 4)
	finish(t, n, mustReceive(t, to, 4, 60))
	if err := to.Install(60); err != nil {
		t.Fatal(err)
	}
	if got, want := mustDigest(t, to), mustDigest(t, from); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestFullDisk: a copy for which there is no room fails, and the old state
// serves; with room it goes on where it was.
func TestFullDisk(t *testing.T) {
	from := openTest(t, testConfig(t.TempDir()), nil)
	applyCuts(t, from, 1, 200)
	n := mustSnapshot(t, from)
	cfg := testConfig(t.TempDir())
	full := errors.New("disk nearly full")
	left := 2 // tables
	cfg.Room = func() error {
		if left--; left < 0 {
			return full
		}
		return nil
	}
	to := openTest(t, cfg, nil)
	applyCuts(t, to, 1, 60)
	want := mustDigest(t, to)
	c := mustReceive(t, to, 1, 200)
	var err error
	for err == nil {
		var piece, next []byte
		c.(*incoming).load.bytes = loadTableBytes // the next piece ends a table
		if piece, next, err = n.Read(c.After()); err == nil {
			err = c.Write(piece, next)
		}
	}
	if !errors.Is(err, full) {
		t.Fatalf("got %v, want %v", err, full)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if got := mustDigest(t, to); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	left = 1 << 20
	finish(t, n, mustReceive(t, to, 1, 200))
	if err := to.Install(200); err != nil {
		t.Fatal(err)
	}
	if got, want := mustDigest(t, to), mustDigest(t, from); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestOvertaken: a finished copy that the log has overtaken is never taken, at
// whatever moment the process dies; a copy that finishes behind a checkpoint is
// refused.
func TestOvertaken(t *testing.T) {
	from := openTest(t, testConfig(t.TempDir()), nil)
	applyCuts(t, from, 1, 60)
	n := mustSnapshot(t, from)
	cfg := testConfig(t.TempDir())
	to := openTest(t, cfg, nil)
	applyCuts(t, to, 1, 50)
	finish(t, n, mustReceive(t, to, 1, 60))
	late := mustReceive(t, to, 2, 60)
	pieces(t, n, late, -1)
	applyCuts(t, to, 51, 80)
	dir := to.home.dir
	to.home.dir = filepath.Join(dir, "nowhere") // the finished copy can't be put out of the way
	if at, err := to.Checkpoint(t.Context()); err == nil || to.current.Load().checkpointed.Load().index != 0 {
		t.Errorf("with a finished copy in the way the checkpoint is %d, %v", at, err)
	}
	to.home.dir = dir
	at, err := to.Checkpoint(t.Context())
	if err != nil || at != 80 {
		t.Fatalf("got checkpoint %d, %v", at, err)
	}
	digest, _ := n.Digest(t.Context())
	if err := late.Finish(t.Context(), digest); !errors.Is(err, errOvertaken) {
		t.Errorf("a copy that comes too late: got %v", err)
	}
	_ = late.Close()
	want := mustDigest(t, to)
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	to = openAt(t, cfg, at)
	if got := mustDigest(t, to); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	wantStates(t, to, 0)
}

// wantStates wants the states with these indexes, and nothing else but what is
// being removed.
func wantStates(t testing.TB, v *Vnode, want ...id.Index) {
	t.Helper()
	names, err := os.ReadDir(v.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, name := range names {
		if !strings.HasPrefix(name.Name(), gonePrefix) {
			got = append(got, name.Name())
		}
	}
	var list []string
	for _, index := range want {
		list = append(list, filepath.Base(v.home.state(index)))
	}
	if strings.Join(got, " ") != strings.Join(list, " ") {
		t.Errorf("the replica has %v, want %v", got, list)
	}
}

// TestReadersOfAnOldState: who reads when a copy is installed is told so, and
// sees nothing of the copy; the old state goes once he has left. So do readers
// of a replica that closes.
func TestReadersOfAnOldState(t *testing.T) {
	from, cfg := openTest(t, testConfig(t.TempDir()), nil), testConfig(t.TempDir())
	applyCuts(t, from, 1, 120)
	to := openTest(t, cfg, nil)
	running := make(chan error, 1)
	go func() { running <- to.Run(t.Context()) }()
	applyCuts(t, to, 1, 60)
	finish(t, mustSnapshot(t, from), mustReceive(t, to, 1, 120))
	old := mustSnapshot(t, to)
	was := mustDigest(t, to)
	scan := func(first func()) (rows int64, err error) {
		err = to.Scan(t.Context(), ScanRequest{Table: "st"}, func(_ *Table, r *sql.Rows) error {
			if rows == 0 {
				first()
			}
			rows += int64(r.Len())
			return nil
		})
		return rows, err
	}
	rows, err := scan(func() {
		if err := to.Install(120); err != nil {
			t.Fatal(err)
		}
		if got, want := mustDigest(t, to), mustDigest(t, from); got != want { // others see it at once
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
	if !errors.Is(err, ErrReplaced) || !errors.Is(err, ErrReplaying) || rows >= was.Rows {
		t.Errorf("a scan that was under way: got %d of %d rows, %v", rows, was.Rows, err)
	}
	if _, _, err := old.Read(nil); !errors.Is(err, ErrReplaced) {
		t.Errorf("a snapshot of the old state: got %v", err)
	}
	eventually(t, "the old state is removed", func() bool {
		names, err := os.ReadDir(cfg.Dir)
		return err == nil && len(names) == 1
	})
	wantStates(t, to, 120)
	if rows, err = scan(func() { go func() { _ = to.Close() }(); <-to.stopped.Done(); <-to.current.Load().life.Done() }); !errors.Is(err, ErrClosed) {
		t.Errorf("a scan of a replica that closes: got %d rows, %v", rows, err)
	}
	if err := <-running; !errors.Is(err, context.Canceled) {
		t.Errorf("run ended with %v", err)
	}
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not yet: %s", what)
		}
	}
}
