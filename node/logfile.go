package node

import (
	"fmt"
	"os"
	"sync"
)

// maxLogBytes bounds a log file; then it becomes the old one, of which one is
// kept.
const maxLogBytes = 64 << 20

// LogFile is a log of messages that does not fill the disk.
type LogFile struct {
	path string

	// mu is held over the write, which is what it orders.
	mu   sync.Mutex
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

// Write appends one message.
func (l *LogFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(b)) > maxLogBytes && l.size > 0 {
		if err := os.Rename(l.path, l.path+".old"); err == nil {
			l.file.Close()
			if err := l.open(); err != nil {
				return 0, err
			}
		}
	}
	n, err := l.file.Write(b)
	l.size += int64(n)
	return n, err
}
