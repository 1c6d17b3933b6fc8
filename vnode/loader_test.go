package vnode

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// TestCopyBrokenOffOften: each loader goes on behind the tables of the one
// before, more often than Badger has levels.
func TestCopyBrokenOffOften(t *testing.T) {
	const index, breaks = 120, 18
	from := openTest(t, testConfig(t.TempDir()), nil)
	applyCuts(t, from, 1, index)
	v, n := openTest(t, testConfig(t.TempDir()), nil), mustSnapshot(t, from)
	for i := range breaks {
		c := mustReceive(t, v, 1, index)
		if i > 0 && c.After() == nil {
			t.Fatalf("the copy begins again after break %d", i)
		}
		if pieces(t, n, c, 1) {
			t.Fatalf("the copy is whole after %d pieces", i)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	finish(t, n, mustReceive(t, v, 1, index))
	if err := v.Install(index); err != nil {
		t.Fatal(err)
	}
	applyCuts(t, from, index+1, index+20)
	applyCuts(t, v, index+1, index+20)
	if got, want := mustDigest(t, v), mustDigest(t, from); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestCopyWrittenTwice: tables that were synced and not noted before the process
// died are fetched again.
func TestCopyWrittenTwice(t *testing.T) {
	const index = 120
	from := openTest(t, testConfig(t.TempDir()), nil)
	applyCuts(t, from, 1, index)
	v, n := openTest(t, testConfig(t.TempDir()), nil), mustSnapshot(t, from)
	c := mustReceive(t, v, 1, index)
	in := c.(*incoming)
	pieces(t, n, c, 3)
	for in.kept == nil {
		in.load.bytes = loadTableBytes // so that the next piece ends a table
		pieces(t, n, c, 1)
	}
	in.load.bytes = loadTableBytes
	pieces(t, n, c, 1)
	kept := fmt.Sprintf("%x", in.kept)
	// The tables reach the disk, the note of them does not.
	if err := in.load.finish(); err != nil {
		t.Fatal(err)
	}
	die(t, v, 0, func(left *Vnode) {
		c := mustReceive(t, left, 1, index)
		if got := fmt.Sprintf("%x", c.After()); got != kept {
			t.Errorf("the copy goes on from %s, noted is %s", got, kept)
		}
		finish(t, n, c)
		if err := left.Install(index); err != nil {
			t.Fatal(err)
		}
		if got, want := mustDigest(t, left), mustDigest(t, from); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLoaderStore: Badger takes what a loader makes for a store of its own, and
// what is written to it later is younger.
func TestLoaderStore(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	value := func(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 300+i%7*100) }
	key := func(i int) []byte { return fmt.Appendf(nil, "key %06d", i) }
	const records = 5000
	l := newLoader(dir, storeOptions(dir, log), 0)
	for i := range records {
		must(t, l.add(key(i), value(i)))
		if i%900 == 899 {
			must(t, l.cut(key(i)))
		}
		if i == records/2 { // another goes on
			must(t, l.cut(key(i)))
			must(t, l.wait())
			l.close()
			l = newLoader(dir, storeOptions(dir, log), l.tables)
		}
	}
	must(t, l.cut(key(records-1)))
	must(t, l.finish())
	if got := l.durable(); got.tables != 7 || !bytes.Equal(got.after, key(records-1)) {
		t.Errorf("durable: %d tables, up to %q", got.tables, got.after)
	}
	l.close()

	db, err := openStore(dir, log)
	must(t, err)
	must(t, db.VerifyChecksum())
	must(t, db.Update(func(txn *badger.Txn) error { return txn.Set(key(7), []byte("younger")) }))
	must(t, db.Close())
	db, err = openStore(dir, log)
	must(t, err)
	defer db.Close()
	if got := len(db.Tables()); got < 7 {
		t.Errorf("%d tables, want 7 and that of what was written later", got)
	}
	seen := 0
	must(t, db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			want := value(seen)
			if seen == 7 {
				want = []byte("younger")
			}
			if got, err := it.Item().ValueCopy(nil); err != nil || !bytes.Equal(it.Item().Key(), key(seen)) || !bytes.Equal(got, want) {
				t.Fatalf("record %d is %q with %d bytes, %v", seen, it.Item().Key(), len(got), err)
			}
			seen++
		}
		return nil
	}))
	if seen != records {
		t.Errorf("%d records, want %d", seen, records)
	}
}

// TestLoaderFails: a table that can't be written is an error once and for all,
// and what was durable before stays so.
func TestLoaderFails(t *testing.T) {
	dir := t.TempDir()
	l := newLoader(dir, storeOptions(dir, slog.New(slog.DiscardHandler)), 0)
	defer l.close()
	must(t, os.WriteFile(filepath.Join(dir, "000002.sst"), nil, 0o600))
	for _, key := range []string{"a", "b"} {
		must(t, l.add([]byte(key), []byte("value")))
		must(t, l.cut([]byte("after "+key)))
	}
	eventually(t, "the second table is given up", func() bool { l.durable(); return l.under == nil })
	must(t, l.add([]byte("c"), []byte("value")))
	for _, err := range []error{l.cut([]byte("after c")), l.cut([]byte("after c")), l.finish()} {
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("got %v, want %v", err, fs.ErrExist)
		}
	}
	if got := l.durable(); got.tables != 1 || string(got.after) != "after a" {
		t.Errorf("durable: %d tables, up to %q", got.tables, got.after)
	}
	if _, err := os.Stat(filepath.Join(dir, badger.ManifestFilename)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a manifest: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// BenchmarkLoad is a table, from its records to the disk.
func BenchmarkLoad(b *testing.B) {
	dir := b.TempDir()
	l := newLoader(dir, storeOptions(dir, slog.New(slog.DiscardHandler)), 0)
	defer l.close()
	value := bytes.Repeat([]byte("value "), 4000)
	for i := 0; b.Loop(); i++ {
		for j := 0; !l.full(); j++ {
			_ = l.add(fmt.Appendf(nil, "%08d%08d", i, j), value) // never fails
		}
		b.SetBytes(int64(l.bytes))
		if err := errors.Join(l.cut(nil), l.wait()); err != nil {
			b.Fatal(err)
		}
	}
}
