package waltest

import (
	"bytes"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// RunFS checks what the log expects of every FS. open returns an empty one.
func RunFS(t *testing.T, open func(t *testing.T) wal.FS) {
	t.Run("lock", func(t *testing.T) {
		fs := open(t)
		lock, err := fs.Lock()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fs.Lock(); err == nil {
			t.Error("the directory was locked twice")
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
		if lock, err = fs.Lock(); err != nil {
			t.Fatalf("lock again: %v", err)
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("names", func(t *testing.T) {
		fs := open(t)
		for _, name := range []string{"b", "a"} {
			create(t, fs, name, name)
		}
		if _, err := fs.Create("a"); err == nil {
			t.Error("a file was created over another")
		}
		if _, err := fs.Open("c"); err == nil {
			t.Error("a file that is not there was opened")
		}
		held := create(t, fs, "c", "c")
		if err := fs.Rename("c", "b"); err != nil {
			t.Fatal(err)
		}
		if _, err := held.WriteAt([]byte("C"), 0); err != nil {
			t.Errorf("write to a file that got another name: %v", err)
		}
		if err := fs.Remove("a"); err != nil {
			t.Fatal(err)
		}
		if err := fs.SyncDir(); err != nil {
			t.Fatal(err)
		}
		if got := list(t, fs); len(got) != 1 || got[0] != (wal.FileInfo{Name: "b", Size: 1}) {
			t.Errorf("got files %v, want b of 1 byte", got)
		}
		if got := content(t, fs, "b", 1); string(got) != "C" {
			t.Errorf("b holds %q, want %q", got, "C")
		}
	})
	t.Run("content", func(t *testing.T) {
		fs := open(t)
		f := create(t, fs, "a", "abc")
		if _, err := f.WriteAt([]byte("xyz"), 5); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if got := content(t, fs, "a", 8); !bytes.Equal(got, []byte("abc\x00\x00xyz")) {
			t.Errorf("got %q", got)
		}
		if n, err := f.ReadAt(make([]byte, 9), 0); n != 8 || err == nil {
			t.Errorf("read behind the end: got %d, %v", n, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

func create(t *testing.T, fs wal.FS, name, content string) wal.File {
	t.Helper()
	f, err := fs.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(content), 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func list(t *testing.T, fs wal.FS) (files []wal.FileInfo) {
	t.Helper()
	all, err := fs.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.Name != "LOCK" {
			files = append(files, f)
		}
	}
	return files
}

func content(t *testing.T, fs wal.FS, name string, size int) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}
