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
