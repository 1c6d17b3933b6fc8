package node

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLogFileIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tnode.log")
	l, err := OpenLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l.size = maxLogBytes // as if it were full
	for range 2 {
		if _, err := l.Write([]byte("message\n")); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "message\nmessage\n" {
		t.Errorf("new file holds %q, %v", b, err)
	}
	if _, err := os.Stat(path + ".old"); err != nil {
		t.Error(err)
	}
}

// A file that can't be begun costs no message: the old one is written on, and a
// new one is begun as soon as that is possible.
func TestLogFileGoesOnWithTheOldOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tnode.log")
	l, err := OpenLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	moved := dir + ".moved"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	l.size = maxLogBytes
	if _, err := l.Write([]byte("one\n")); err != nil {
		t.Errorf("with no directory to begin a file in: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Write([]byte("two\n")); err != nil {
		t.Error(err)
	}
	for file, want := range map[string]string{filepath.Join(moved, "tnode.log"): "one\n", path: "two\n"} {
		if b, err := os.ReadFile(file); err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v; want %q", file, b, err, want)
		}
	}
}
