package node

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func openLog(t *testing.T, dir string) *LogFile {
	t.Helper()
	l, late, err := OpenLog(dir)
	if err != nil || late {
		t.Fatalf("late %v, %v", late, err)
	}
	return l
}

func TestLogFileIsBounded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	path := filepath.Join(dir, "tnode.log")
	l := openLog(t, dir)
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
	path := filepath.Join(dir, "tnode.log")
	l := openLog(t, dir)
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

// A disk that does not answer at start is not waited for; the first message is
// written when it does. Here it is a named pipe, whose opening waits for a
// reader.
func TestLogFileThatIsLate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tnode.log")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	l, late, err := OpenLog(dir)
	if err != nil || !late {
		t.Fatalf("late %v, %v", late, err)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := l.Write([]byte("message\n"))
		wrote <- err
	}()
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if n, err := reader.Read(b); err != nil || string(b[:n]) != "message\n" {
		t.Errorf("read %q, %v", b[:n], err)
	}
}

// A log that can't be had is an error at start.
func TestLogFileThatCanNotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, late, err := OpenLog(file); err == nil || late {
		t.Errorf("late %v, %v; want an error", late, err)
	}
}
