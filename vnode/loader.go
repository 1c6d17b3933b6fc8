package vnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/dgraph-io/ristretto/v2/z"
	"google.golang.org/protobuf/proto"

	"github.com/tarbitrator/tarbitrator/internal/checkfile"
)

const (
	// loadTableBytes is the size of the tables that a loader makes. Each takes one
	// of the mappings that a process may have, 65,530 by default.
	loadTableBytes = 16 << 20
	// loadVersion is what Badger calls the age of a record. What is written to the
	// store later is younger.
	loadVersion = 1
)

// loader makes a store of records that come in the order of their keys, on a
// level of its own. Through transactions each byte would be written four times,
// into logs, small tables and larger ones, with as many syncs. Badger's own
// StreamWriter writes a table and syncs it at once: for as long every other sync
// on that disk would wait, among them those of the log.
//
//	add ──▶ table in memory ──cut──▶ 000007.sst, in small pieces ──▶ durable
//	                                         finish: MANIFEST names them all
//
// A directory with tables and without a manifest is no store yet. One table is
// on its way to the disk at a time, by a goroutine that cut starts.
type loader struct {
	dir     string
	opts    table.Options  // its AllocPool is this loader's own
	lowest  int            // level of the store
	table   *table.Builder // the next one; nil: nothing was added to it
	bytes   int            // of its keys and values
	key     []byte         // with version, memory of add
	tables  uint32         // begun; their names are 1 to tables
	content []byte         // of the table under way, or memory for the next
	under   *loading       // under way; nil: none is
	reached loaded
	failed  error // of a table: nothing can follow it
}

// loaded is what of a copy is durable, except for the names of its tables.
type loaded struct {
	tables uint32 // 1 to this
	after  []byte // the position behind the last of them
}

// loading is a table on its way to the disk.
type loading struct {
	loaded            // once it is there
	done   chan error // capacity 1
}

// newLoader goes on with a directory that holds the tables 1 to tables, and
// nothing else of a store.
func newLoader(dir string, opts badger.Options, tables uint32) *loader {
	return &loader{dir: dir, tables: tables, lowest: opts.MaxLevels - 1, opts: table.Options{
		TableSize:          loadTableBytes,
		BlockSize:          opts.BlockSize,
		BloomFalsePositive: opts.BloomFalsePositive,
		Compression:        opts.Compression,
		AllocPool:          z.NewAllocatorPool(1), // one table is built at a time
	}}
}

// add takes a record. It keeps neither key nor value.
func (l *loader) add(key, value []byte) error {
	if l.table == nil {
		l.table = table.NewTableBuilder(l.opts)
	}
	l.key = append(l.key[:0], key...)
	l.key = binary.BigEndian.AppendUint64(l.key, ^uint64(loadVersion)) // as y.KeyWithTs
	l.table.Add(l.key, y.ValueStruct{Value: value}, 0)
	l.bytes += len(key) + len(value)
	return nil
}

// full reports whether what was added is enough for a table.
func (l *loader) full() bool { return l.bytes >= loadTableBytes }

// cut makes a table of what was added, if there is anything. after is the
// position behind it. It waits for the table before, and lets this one be under
// way when it returns.
func (l *loader) cut(after []byte) error {
	if l.table == nil {
		return nil
	}
	if err := l.wait(); err != nil {
		return err
	}
	done := l.table.Done()
	if cap(l.content) < done.Size {
		l.content = make([]byte, done.Size)
	}
	l.content = l.content[:done.Size]
	done.Copy(l.content)
	l.table.Close()
	l.table, l.bytes = nil, 0

	l.tables++
	u := &loading{loaded: loaded{l.tables, after}, done: make(chan error, 1)}
	l.under = u
	go func() { u.done <- writeGently(table.NewFilename(uint64(u.tables), l.dir), l.content) }()
	return nil
}

// wait waits for the table under way.
func (l *loader) wait() error {
	if u := l.under; u != nil {
		l.under = nil
		if err := <-u.done; err != nil {
			l.failed = fmt.Errorf("write table: %w", err)
		} else {
			l.reached = u.loaded
		}
	}
	return l.failed
}

// durable is what is durable by now; zero: no table of this loader.
func (l *loader) durable() loaded {
	if l.under != nil && len(l.under.done) > 0 {
		_ = l.wait() // the next cut or finish returns its error
	}
	return l.reached
}

// finish makes a store of everything that was cut. Nothing may be added
// afterwards.
func (l *loader) finish() error {
	if err := l.wait(); err != nil {
		return err
	}
	if l.tables == 0 {
		return nil // Badger makes an empty store by itself
	}
	if err := l.writeManifest(); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

// close gives up what was not cut, and ends what is under way.
func (l *loader) close() {
	_ = l.wait() // nobody needs it
	if l.table != nil {
		l.table.Close()
		l.table = nil
	}
	l.opts.AllocPool.Release()
}

// Badger's manifest, as its version 4 writes it: the magic, a number for its user
// (0), that of the format, and then sets of changes, each with its length and
// CRC32C before it.
const (
	manifestMagic  = "Bdgr"
	manifestFormat = 8
)

// writeManifest names all tables. They are the whole store and lie in the order
// of their keys.
func (l *loader) writeManifest() error {
	var set pb.ManifestChangeSet
	for i := range l.tables {
		set.Changes = append(set.Changes, &pb.ManifestChange{
			Id: uint64(i) + 1, Op: pb.ManifestChange_CREATE, Level: uint32(l.lowest),
			Compression: uint32(l.opts.Compression), EncryptionAlgo: pb.EncryptionAlgo_aes,
		})
	}
	changes, err := proto.Marshal(&set)
	if err != nil {
		return err
	}
	b := binary.BigEndian.AppendUint16([]byte(manifestMagic), 0)
	b = binary.BigEndian.AppendUint16(b, manifestFormat)
	b = binary.BigEndian.AppendUint32(b, uint32(len(changes)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(changes, crc32.MakeTable(crc32.Castagnoli)))
	return checkfile.Replace(filepath.Join(l.dir, badger.ManifestFilename), append(b, changes...))
}

// gentlePiece is how much of a table is written before the disk has it. It is
// what a sync of somebody else may find in front of it.
const gentlePiece = 64 << 10

// writeGently makes a file durable, except for its name, in pieces that the disk
// takes one after the other.
func writeGently(path string, content []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for at := 0; at < len(content); at += gentlePiece {
		n, err := f.Write(content[at:min(at+gentlePiece, len(content))])
		if err != nil {
			return err
		}
		if err := writeOut(f, at, n); err != nil {
			return err
		}
	}
	return f.Sync()
}
