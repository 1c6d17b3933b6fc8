package vnode

import (
	"bytes"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"
)

const (
	// loadTableBytes is the size of the tables that a loader makes. Each is
	// written and synced at once, in some milliseconds, which is how long another
	// sync may wait behind it; and each takes one of the mappings that a process
	// may have, 65,530 by default.
	loadTableBytes = 16 << 20
	// loadVersion is what Badger calls the age of a record. What is written to the
	// store later is younger.
	loadVersion = 1
)

// loader fills a store with records that come in the order of their keys. It
// makes tables of them directly: through transactions each byte would be written
// four times, into logs, small tables and larger ones, with as many syncs.
//
// The store must be empty, or hold what loaders have put there and nothing else.
// Nobody else writes to it.
type loader struct {
	db     *badger.DB
	writer *badger.StreamWriter // nil before the first table
	buf    *z.Buffer            // records of the next table, as Badger wants them
	bytes  int                  // of their keys and values
	last   []byte               // key
	tables uint32               // handed over
	others uint64               // Badger's number of the last table that is not its own
	// pending is what was handed over and is not known to be durable, in order.
	// Badger has no more than 16 tables under way.
	pending []loading
}

// loading is a table on its way to the disk.
type loading struct {
	last  []byte // key in it
	after []byte // the position behind it
}

func newLoader(db *badger.DB) *loader {
	return &loader{db: db, buf: z.NewBuffer(loadTableBytes+loadTableBytes/8, "copy")}
}

// loaderOptions makes a table large enough for what a loader puts into one:
// Badger ends one at 95 of 100.
func loaderOptions(opts badger.Options) badger.Options {
	opts.BaseTableSize = loadTableBytes + loadTableBytes/4
	opts.TableSizeMultiplier = 1 // on all levels
	return opts
}

// add takes a record. It keeps neither key nor value.
func (l *loader) add(key, value []byte) error {
	badger.KVToBuffer(&pb.KV{Key: key, Value: value, Version: loadVersion, StreamId: l.tables}, l.buf)
	l.bytes += len(key) + len(value)
	l.last = append(l.last[:0], key...)
	return nil
}

// full reports whether what was added is enough for a table.
func (l *loader) full() bool { return l.bytes >= loadTableBytes }

// cut makes a table of what was added, if there is anything. after is the
// position behind it. The table may be under way when cut returns.
func (l *loader) cut(after []byte) error {
	if l.bytes == 0 {
		return nil
	}
	if l.writer == nil {
		l.writer = l.db.NewStreamWriter()
		if err := l.writer.PrepareIncremental(); err != nil {
			return fmt.Errorf("prepare store: %w", err)
		}
		for _, t := range l.db.Tables() {
			l.others = max(l.others, t.ID)
		}
	}
	// A stream of its own ends the table here and nowhere else: where Badger ends
	// one by itself, an error is a panic.
	badger.KVToBuffer(&pb.KV{StreamId: l.tables, StreamDone: true}, l.buf)
	if err := l.writer.Write(l.buf); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	l.pending = append(l.pending, loading{last: bytes.Clone(l.last), after: after})
	l.buf.Reset()
	l.bytes = 0
	l.tables++
	return nil
}

// durable is the position behind the last of the tables that are all durable,
// except for their names; nil if there is no other than at the last call.
func (l *loader) durable() (after []byte) {
	if len(l.pending) == 0 {
		return nil
	}
	there := make(map[string]bool)
	for _, t := range l.db.Tables() { // Badger adds them when they are synced
		if t.ID > l.others {
			there[string(t.Right[:len(t.Right)-versionBytes])] = true
		}
	}
	for len(l.pending) > 0 && there[string(l.pending[0].last)] {
		after = l.pending[0].after
		l.pending = l.pending[1:]
	}
	return after
}

// versionBytes is what Badger appends to a key.
const versionBytes = 8

// flush makes everything durable that was cut, and lets others write. Nothing may
// be added afterwards.
func (l *loader) flush() error {
	if l.writer == nil {
		return nil
	}
	w := l.writer
	l.writer, l.pending = nil, nil
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write tables: %w", err)
	}
	return nil
}

// close gives up what was not flushed.
func (l *loader) close() {
	if l.writer != nil {
		l.writer.Cancel()
		l.writer = nil
	}
	_ = l.buf.Release() // memory, which can't fail
}
