package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// maxLogBytes bounds a log file; then it becomes the old one, of which one is
// kept.
const maxLogBytes = 64 << 20

// LogFile is a log of messages that does not fill the disk. It belongs to one
// goroutine, which waits for the disk: that of a logqueue.Writer.
type LogFile struct {
	path string
	file *os.File
	size int64
}

// OpenLogFile opens a log for appending.
func OpenLogFile(path string) (*LogFile, error) {
	l := &LogFile{path: path}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// open begins or goes on with the file at path. If it can't, l is what it was.
func (l *LogFile) open() error {
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log file: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("open log file: %w", err)
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Write appends messages. The file that they would make too large is put aside
// first.
func (l *LogFile) Write(b []byte) (int, error) {
	if l.size+int64(len(b)) > maxLogBytes && l.size > 0 {
		l.rotate()
	}
	n, err := l.file.Write(b)
	l.size += int64(n)
	return n, err
}

// rotate begins a new file. While that is impossible the one that is open is
// written on: nobody would read of it elsewhere.
func (l *LogFile) rotate() {
	err := os.Rename(l.path, l.path+".old")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	old := l.file
	if l.open() == nil {
		old.Close()
	}
}
