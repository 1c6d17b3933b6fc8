package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// maxLogBytes bounds a log file; then it becomes the old one, of which one is
// kept.
const maxLogBytes = 64 << 20

// logName is the log in the directory of logs.
const logName = "tnode.log"

// openWithin is how long a start waits for the disk of its log.
const openWithin = 2 * time.Second

// LogFile is a log of messages that does not fill the disk. It belongs to one
// goroutine, which waits for the disk: that of a logqueue.Writer.
type LogFile struct {
	path   string
	opened chan struct{} // closed once what follows is set
	failed error         // why there is no file
	file   *os.File
	size   int64
}

// OpenLog opens the log in a directory, which is made if there is none. It does
// not wait long for a disk that does not answer, so that a host can start
// without: then it is late, and the first Write waits.
func OpenLog(dir string) (l *LogFile, late bool, err error) {
	l = &LogFile{path: filepath.Join(dir, logName), opened: make(chan struct{})}
	answered := within(openWithin, func() {
		defer close(l.opened)
		if l.failed = os.MkdirAll(dir, 0o700); l.failed != nil {
			l.failed = fmt.Errorf("make logDir: %w", l.failed)
			return
		}
		l.failed = l.open()
	})
	if !answered {
		return l, true, nil
	}
	return l, false, l.failed
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
	<-l.opened
	if l.failed != nil {
		return 0, l.failed
	}
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
