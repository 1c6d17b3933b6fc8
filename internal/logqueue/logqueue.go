// Package logqueue writes a program's messages without making the program wait
// for them: a disk that hangs, a full pipe or a reader that is gone costs
// messages, never an election.
//
// It formats and filters nothing: it is what a slog.Handler writes to.
package logqueue

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Bounds of what may wait while a destination takes nothing; as much again is
// on its way there. A host that is well says a few lines an hour, and one in
// trouble some tens: this keeps the beginning of long trouble, which explains
// it.
const (
	maxBytes = 1 << 20
	maxLines = 4096
)

// keepBytes is the largest buffer that is kept for the next lines.
const keepBytes = 64 << 10

// closeWithin bounds Close. A destination that takes nothing for so long is not
// waited for: the program ends without its last messages.
const closeWithin = time.Second

// Writer queues lines for one destination and writes them from a goroutine of
// its own, at once when it has nothing else to write. Writes never wait and
// never fail. When the queue is full the newest line is lost, and so are those
// after it until the queue has been written; the lines that follow stand behind
// one that says how many are missing.
//
// A process that is killed loses what is in the queue: nothing, or the lines of
// the last moment, unless the destination hangs.
type Writer struct {
	dst  io.Writer
	wake chan struct{} // one token: there is something to write, or it is time to end
	done chan struct{} // closed once the goroutine has returned

	mu struct {
		sync.Mutex
		queue  []byte // whole lines
		lines  int    // in queue
		lost   int    // since the queue was taken the last time
		closed bool
	}

	// ---- owned by run ----
	lost int   // lines that the destination does not know are missing
	err  error // why the last of them could not be written; nil: the queue was full
	torn bool  // the destination has taken a part of a line
}

// Start returns a Writer whose goroutine runs until it is closed. Nobody else writes to
// dst, which needs no lock.
func Start(dst io.Writer) *Writer {
	w := &Writer{dst: dst, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w
}

// Write queues one line, or several, with their ends. It keeps no part of line.
// After Close it does nothing.
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch n := countLines(line); {
	case w.mu.closed:
	case w.mu.lost > 0 || len(w.mu.queue)+len(line) > maxBytes || w.mu.lines+n > maxLines:
		w.mu.lost += n
	default:
		w.mu.queue = append(w.mu.queue, line...)
		w.mu.lines += n
	}
	w.signal()
	return len(line), nil
}

// Close ends writers: it waits, for a second at most, until what they have
// queued is written. One whose destination does not let it go is left behind.
// Close may be called from anywhere, and again.
func Close(writers ...*Writer) {
	late := time.NewTimer(closeWithin)
	defer late.Stop()
	for _, w := range writers {
		w.mu.Lock()
		w.mu.closed = true
		w.mu.Unlock()
		w.signal()
	}
	for _, w := range writers {
		select {
		case <-w.done:
		case <-late.C:
			return
		}
	}
}

// Say writes a program's last words. It waits for them as Close does.
func Say(dst io.Writer, words string) {
	w := Start(dst)
	fmt.Fprintln(w, words)
	Close(w)
}

func (w *Writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run writes what is queued. It holds two buffers: one that is being written and
// one that fills up.
func (w *Writer) run() {
	defer close(w.done)
	var batch []byte
	for {
		var lost int
		var closed bool
		batch, lost, closed = w.take(batch)
		if len(batch) == 0 && lost == 0 {
			if closed {
				w.sayLost()
				return
			}
			<-w.wake
			continue
		}
		w.sayLost()
		w.write(batch)
		if lost > 0 { // they came after the batch
			w.lost += lost
			w.sayLost()
		}
	}
}

// take empties the queue, and gives it an empty buffer to fill.
func (w *Writer) take(empty []byte) (batch []byte, lost int, closed bool) {
	if cap(empty) > keepBytes {
		empty = nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	batch, lost = w.mu.queue, w.mu.lost
	w.mu.queue, w.mu.lines, w.mu.lost = empty[:0], 0, 0
	return batch, lost, w.mu.closed
}

// write hands lines to the destination and counts those that it does not take.
// It reports whether it has taken all.
func (w *Writer) write(lines []byte) bool {
	if len(lines) == 0 {
		return true
	}
	if w.torn { // what follows begins on a line of its own
		if _, err := w.dst.Write([]byte("\n")); err != nil {
			w.lost, w.err = w.lost+countLines(lines), err
			return false
		}
		w.torn = false
	}
	n, err := w.dst.Write(lines)
	if err == nil {
		return true
	}
	w.torn = n > 0 && lines[n-1] != '\n'
	w.lost, w.err = w.lost+countLines(lines[n:]), err
	return false
}

// sayLost writes, where lines are missing, that they are.
func (w *Writer) sayLost() {
	if w.lost == 0 {
		return
	}
	lost := w.lost
	args := []any{"lines", lost}
	if w.err != nil {
		args = append(args, "err", w.err)
	}
	var line bytes.Buffer
	slog.New(slog.NewTextHandler(&line, nil)).Warn("messages are missing here: they could not be written", args...)
	if w.write(line.Bytes()) {
		w.lost, w.err = 0, nil
	} else {
		w.lost = lost // the line that says so is none of them
	}
}

func countLines(b []byte) int { return bytes.Count(b, []byte("\n")) }
