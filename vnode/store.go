package vnode

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

const (
	// memtableBytes is the size of a memtable. Larger ones write less and use
	// more memory; at 64 MiB a store grew to a gigabyte under load.
	memtableBytes = 16 << 20
	// memtables is how many may wait to be written out before writes wait.
	memtables = 3
	// valueLogBytes is the size of a value log file. Values stay in the tree,
	// so it holds nothing.
	valueLogBytes = 8 << 20
)

// openStore opens the Badger instance of a replica.
func openStore(dir string, log *slog.Logger) (*badger.DB, error) {
	if err := removeEmptyLogs(dir); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	db, err := badger.Open(storeOptions(dir, log))
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	return db, nil
}

func storeOptions(dir string, log *slog.Logger) badger.Options {
	opts := badger.DefaultOptions(dir)
	opts.SyncWrites = false // Checkpoint is what makes things durable
	opts.DetectConflicts = false
	opts.Compression = options.None // blocks are packed already
	opts.BlockCacheSize = 0         // and files are mapped
	opts.MetricsEnabled = false
	opts.MemTableSize = memtableBytes
	opts.NumMemtables = memtables
	opts.NumCompactors = 2
	opts.ValueThreshold = maxBlockBytes + 1
	opts.ValueLogFileSize = valueLogBytes
	opts.NumGoroutines = 2
	opts.Logger = &badgerLog{log: log}
	return opts
}

// badgerLog hands Badger's own messages on: what it calls information is noise
// to an operator, and what it repeats at each try is said once.
type badgerLog struct {
	log  *slog.Logger
	last atomic.Pointer[string] // complaint
}

func (l *badgerLog) Errorf(f string, a ...any)   { l.complain(slog.LevelError, f, a) }
func (l *badgerLog) Warningf(f string, a ...any) { l.complain(slog.LevelWarn, f, a) }
func (l *badgerLog) Infof(f string, a ...any)    { l.say(slog.LevelDebug, f, a) }
func (l *badgerLog) Debugf(string, ...any)       {}

func (l *badgerLog) complain(level slog.Level, format string, args []any) {
	text := fmt.Sprintf(format, args...)
	if was := l.last.Swap(&text); was != nil && *was == text {
		level = slog.LevelDebug
	}
	l.say(level, format, args)
}

func (l *badgerLog) say(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "store says", "text", strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

// removeEmptyLogs removes the logs of length zero in a store that nobody has
// open: Badger refuses to open a store with one. It makes a log empty and then
// stretches it, and cuts one to nothing before it removes it, so a process that
// dies in between leaves one behind. Nothing was ever in it, or a table that was
// synced has it.
func removeEmptyLogs(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list store: %w", err)
	}
	for _, name := range names {
		if !isLog(name.Name()) {
			continue
		}
		info, err := name.Info()
		if err == nil && info.Size() == 0 {
			err = os.Remove(filepath.Join(dir, name.Name()))
		}
		if err != nil {
			return fmt.Errorf("remove empty log: %w", err)
		}
	}
	return nil
}

// isLog reports whether a file of a store is the log of a memtable or a value
// log.
func isLog(name string) bool {
	ext := filepath.Ext(name)
	return ext == ".mem" || ext == ".vlog"
}

// syncStore makes everything that was committed before the call survive a
// power cut. Badger's own Sync leaves out memtables that wait to be written
// out, so a newer one could survive an older one; here every log of a memtable
// is synced. One that goes away meanwhile has become a table, which Badger has
// synced before.
func syncStore(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list store: %w", err)
	}
	for _, name := range names {
		if !isLog(name.Name()) {
			continue
		}
		if err := syncFile(filepath.Join(dir, name.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sync store: %w", err)
		}
	}
	return syncFile(dir)
}

// syncFiles makes a store that nobody has open survive a power cut as it is.
func syncFiles(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list store: %w", err)
	}
	for _, name := range names {
		if err := syncFile(filepath.Join(dir, name.Name())); err != nil {
			return fmt.Errorf("sync store: %w", err)
		}
	}
	return syncFile(dir)
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// batch writes in transactions that Badger accepts: what does not fit into one
// goes to the next. A crash between two of them leaves a part, which is no harm
// to what is idempotent.
type batch struct {
	db   *badger.DB
	txn  *badger.Txn
	keys []byte // memory of keys, until the commit
	// What was set and deleted since the batch was made:
	records int
	bytes   int // of keys and values
}

func newBatch(db *badger.DB) *batch { return &batch{db: db, txn: db.NewTransaction(true)} }

// key starts a key in the batch's memory.
func (b *batch) key() []byte {
	const most = 64 // keys of notes are longer and get memory of their own
	if cap(b.keys)-len(b.keys) < most {
		b.keys = make([]byte, 0, 4096)
	}
	start := len(b.keys)
	b.keys = b.keys[:start+most]
	return b.keys[start : start : start+most]
}

// set puts a value. key and value must not change until the commit.
func (b *batch) set(key, value []byte) error {
	b.bytes += len(key) + len(value)
	b.records++
	return b.retry(func() error { return b.txn.Set(key, value) })
}

func (b *batch) delete(key []byte) error {
	b.bytes += len(key)
	b.records++
	return b.retry(func() error { return b.txn.Delete(key) })
}

func (b *batch) retry(do func() error) error {
	err := do()
	if !errors.Is(err, badger.ErrTxnTooBig) {
		return err
	}
	if err := b.txn.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	b.txn = b.db.NewTransaction(true)
	return do()
}

func (b *batch) commit() error {
	if err := b.txn.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// discard gives the batch up; it may follow commit.
func (b *batch) discard() { b.txn.Discard() }
