package wal

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// retryEvery is how soon a disk that was full is tried again.
const retryEvery = time.Second

// WriterConfig says whom a Writer tells. Its functions are called by Run, one
// at a time, and must not block.
type WriterConfig struct {
	// Done is called after each sync with the highest number whose Append, and
	// all before it, is durable.
	Done func(seq uint64)
	// Full, if not nil, is called when Log.Full changes.
	Full func(full bool)
	// Log is for messages; nil: none.
	Log *slog.Logger
}

// Writer gives a Log its goroutines: one that writes and syncs what has been
// appended, all of it at once, while the next batch gathers, and one that
// makes segments ahead. It holds no data and decides nothing.
//
// Lock order: Writer.mu, then Log.mu. Neither is held over I/O.
type Writer struct {
	log    *Log
	cfg    WriterConfig
	work   chan struct{} // holds a token once there may be something to write
	upkeep chan struct{} // holds a token once there may be something to maintain

	mu struct {
		sync.Mutex
		seq     uint64     // of the last Append that is in the log
		waiting []appended // found no room; in order
	}

	// ---- owned by Run ----
	done   uint64 // last number told to Done
	stuck  bool   // the last batch met a full disk
	full   bool   // last thing told to Full
	active uint64 // segment at the last look
}

type appended struct {
	seq uint64
	ops []Op
}

// NewWriter returns a Writer that does nothing until Run.
func NewWriter(log *Log, cfg WriterConfig) *Writer {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Writer{log: log, cfg: cfg, work: make(chan struct{}, 1), upkeep: make(chan struct{}, 1)}
}

// Append adds ops to the log under the number seq, which must be larger than
// any before. They can be read at once; Done tells when they are durable. It
// does no I/O and does not wait. How much may wait to be written is the
// caller's bound to keep: nothing here holds a caller back.
//
// An Append without ops is a batch of its own, which tells whether the disk
// still answers.
//
// When the disk is so full that only the reserve is left, an Append of entries
// waits for room, with all that come after it, and keeps ops until then. A
// caller that stops when it is told Full does not get there.
func (w *Writer) Append(seq uint64, ops []Op) {
	w.mu.Lock()
	if len(w.mu.waiting) > 0 || errors.Is(w.log.Append(ops), ErrFull) {
		w.mu.waiting = append(w.mu.waiting, appended{seq: seq, ops: ops})
	} else {
		w.mu.seq = seq
	}
	w.mu.Unlock()
	wake(w.work)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run writes until ctx is done; then it makes durable what was appended and
// returns nil. Any other return means that the log has failed: the process
// must stop, as nobody knows what is on its disk.
func (w *Writer) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	maintained := make(chan error, 1)
	go func() {
		defer stop()
		maintained <- w.maintain(ctx)
	}()
	err := w.write(ctx)
	stop()
	if other := <-maintained; err == nil {
		err = other
	}
	return err
}

// write is the loop of Run.
func (w *Writer) write(ctx context.Context) error {
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return w.batch()
		case <-w.work:
		case <-retry.C:
			if !w.full {
				continue
			}
		}
		if err := w.batch(); err != nil {
			return err
		}
		w.tellFull()
		if n := w.log.activeNumber(); n != w.active {
			w.active = n
			wake(w.upkeep)
		}
	}
}

// batch makes durable everything that is appended by now.
func (w *Writer) batch() error {
	seq := w.admit()
	err := w.log.Flush()
	if err == nil {
		err = w.log.Sync()
	}
	if w.stuck = errors.Is(err, ErrFull); w.stuck {
		return nil
	}
	if err == nil && seq > w.done {
		w.done = seq
		w.cfg.Done(seq)
	}
	return err
}

// admit appends what has been waiting for room, as far as there is some, and
// returns the number of the last Append in the log.
func (w *Writer) admit() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.mu.waiting) > 0 {
		next := w.mu.waiting[0]
		if errors.Is(w.log.Append(next.ops), ErrFull) {
			break
		}
		w.mu.seq = next.seq
		w.mu.waiting[0] = appended{}
		w.mu.waiting = w.mu.waiting[1:]
	}
	return w.mu.seq
}

// tellFull reports a change of Full.
func (w *Writer) tellFull() {
	full := w.stuck || w.log.Full()
	if full == w.full {
		return
	}
	w.full = full
	if full {
		w.cfg.Log.Error("disk full: the log takes no more entries")
	} else {
		w.cfg.Log.Info("disk has space again: the log takes entries")
	}
	if w.cfg.Full != nil {
		w.cfg.Full(full)
	}
}

// maintain makes and frees segments: when the log has moved to another one, and
// otherwise now and then, as cuts give segments free too.
func (w *Writer) maintain(ctx context.Context) error {
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	for {
		for ctx.Err() == nil {
			did, err := w.log.Maintain()
			if err != nil {
				return err
			}
			if !did {
				break
			}
		}
		wake(w.work) // Maintain may have appended, or met a full disk
		select {
		case <-ctx.Done():
			return nil
		case <-w.upkeep:
		case <-retry.C:
		}
	}
}
