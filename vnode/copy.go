package vnode

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4/table"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/checkfile"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// progressName is the file in a copy that says of what it is, and how far.
const progressName = "progress"

var progressMagic = checkfile.Magic{'T', 'A', 'R', 'C', 'O', 'P', 'Y', '3'}

// progress says what of a snapshot is in a copy, durably.
type progress struct {
	snapshot consensus.SnapshotID
	index    id.Index
	tables   uint32 // that hold it, named 1 to tables
	after    []byte // every record up to this key
}

func (p progress) append(dst []byte) []byte {
	dst = append(dst, p.snapshot[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.index))
	dst = binary.AppendUvarint(dst, uint64(p.tables))
	return appendBytes(dst, p.after)
}

func parseProgress(src []byte) (progress, error) {
	d := decoder{src: src}
	var p progress
	copy(p.snapshot[:], d.take(len(p.snapshot)))
	p.index = id.Index(d.uint64())
	tables := d.uvarint()
	if tables > math.MaxUint32 {
		return p, corruptf("a copy of %d tables", tables)
	}
	p.tables = uint32(tables)
	p.after = bytes.Clone(d.bytes())
	return p, d.end()
}

// readProgress is how far the copy in a directory is; errNoCopy if there is none
// that could go on.
func readProgress(dir string) (progress, error) {
	content, err := checkfile.Read(filepath.Join(dir, progressName), progressMagic)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, checkfile.ErrCorrupt) {
		return progress{}, errNoCopy
	}
	if err != nil {
		return progress{}, err
	}
	p, err := parseProgress(content)
	if err != nil {
		return progress{}, errNoCopy
	}
	return p, nil
}

// errNoCopy says that there is nothing that a copy could go on from.
var errNoCopy = errors.New("no such copy here")

// incoming is a copy on its way in: what becomes a store of its own, beside that
// of the current state.
type incoming struct {
	v   *Vnode
	dir string
	progress
	load   *loader // nil: nothing can be written any more
	kept   []byte  // position that is noted in the directory
	failed error   // it can't go on; Receive may, from what is kept
}

// Receive implements consensus.Snapshotter.
func (v *Vnode) Receive(snapshot consensus.SnapshotID, index id.Index) (consensus.Copy, error) {
	if err := v.home.receive(index); err != nil {
		return nil, fmt.Errorf("receive copy of group %d at entry %d: %w", v.cfg.Group, index, err)
	}
	c := &incoming{v: v, dir: v.home.copy(), progress: progress{snapshot: snapshot, index: index}}
	err := c.resume()
	if errors.Is(err, errNoCopy) {
		err = c.begin()
	}
	if err != nil {
		err = errors.Join(err, v.home.leave())
		return nil, fmt.Errorf("receive copy of group %d at entry %d: %w", v.cfg.Group, index, err)
	}
	c.load = newLoader(c.dir, storeOptions(c.dir, v.log), c.tables)
	return c, nil
}

// resume takes the copy up where it was left.
func (c *incoming) resume() error {
	p, err := readProgress(c.dir)
	if err != nil {
		return err
	}
	if p.snapshot != c.snapshot || p.index != c.index {
		return errNoCopy
	}
	if err := keepTables(c.dir, p.tables); err != nil { // nothing that is worth a repair: it is fetched again
		c.v.log.Warn("copy can't go on and begins again", "index", c.index, "err", err)
		return errNoCopy
	}
	c.progress, c.kept = p, p.after
	return nil
}

// keepTables removes from a copy what is neither its progress nor one of its
// tables: some that were under way, or all else of a store that was complete.
func keepTables(dir string, tables uint32) error {
	keep := map[string]bool{progressName: true}
	for i := range tables {
		name := table.IDToFilename(uint64(i) + 1)
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return err
		}
		keep[name] = true
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if keep[name.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name.Name())); err != nil {
			return err
		}
	}
	return nil
}

// begin makes an empty copy in place of what is there.
func (c *incoming) begin() error {
	if err := c.v.home.discardCopy(); err != nil {
		return err
	}
	return os.Mkdir(c.dir, 0o700)
}

// After implements consensus.Copy.
func (c *incoming) After() []byte { return c.after }

// Write implements consensus.Copy.
func (c *incoming) Write(piece, next []byte) error {
	if c.failed != nil {
		return c.failed
	}
	err := eachRecord(piece, c.after, c.load.add)
	if err == nil {
		c.after = bytes.Clone(next)
		if c.load.full() {
			err = c.cut()
		}
	}
	return c.fail(err)
}

// fail notes that the copy can't go on, if err says so.
func (c *incoming) fail(err error) error {
	if err == nil {
		return nil
	}
	c.failed = fmt.Errorf("copy of group %d at entry %d: %w", c.v.cfg.Group, c.index, err)
	return c.failed
}

// cut makes a table of what was written, and notes what lasts by now.
func (c *incoming) cut() error {
	if c.v.cfg.Room != nil {
		if err := c.v.cfg.Room(); err != nil {
			return err
		}
	}
	if err := c.load.cut(c.after); err != nil {
		return err
	}
	return c.keep(c.load.durable())
}

// sync makes everything durable that was written, and notes it.
func (c *incoming) sync() error {
	if err := c.cut(); err != nil {
		return err
	}
	if err := c.load.wait(); err != nil {
		return err
	}
	return c.keep(loaded{c.load.tables, c.after})
}

// keep notes what of the copy is durable, except for the names of its tables.
func (c *incoming) keep(reached loaded) error {
	if len(reached.after) == 0 || bytes.Equal(reached.after, c.kept) {
		return nil
	}
	if err := checkfile.SyncDir(c.dir); err != nil {
		return err
	}
	at := c.progress
	at.tables, at.after = reached.tables, reached.after
	if err := checkfile.Write(filepath.Join(c.dir, progressName), progressMagic, at.append(nil)); err != nil {
		return err
	}
	c.kept = reached.after
	return nil
}

// Finish implements consensus.Copy.
func (c *incoming) Finish(ctx context.Context, digest []byte) error {
	err := c.failed
	if err == nil {
		err = c.fail(c.complete(ctx, digest))
	}
	if ctx.Err() != nil {
		return err // nothing is wrong with it
	}
	if err != nil {
		c.end()
		err = errors.Join(err, c.v.home.discardCopy())
	}
	return err
}

// complete compares what is in the store with the digest, makes it last, and
// gives it its name.
func (c *incoming) complete(ctx context.Context, digest []byte) error {
	if err := c.sync(); err != nil { // so that a finished copy can be taken up again
		return err
	}
	if err := c.load.finish(); err != nil {
		return err
	}
	c.end()
	if err := c.check(ctx, digest); err != nil {
		return err
	}
	if err := syncFiles(c.dir); err != nil {
		return err
	}
	return c.v.home.keep()
}

// checkTurn is how long a check works before it rests for as long: it has time,
// and those who write to this host have none.
const checkTurn = 2 * time.Millisecond

// check reads back everything that was written, and that it can be a state: once
// the log has named the copy there is no other.
func (c *incoming) check(ctx context.Context, digest []byte) (err error) {
	db, err := openStore(c.dir, c.v.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	r := newPieceReader(db)
	defer r.close()
	var piece []byte
	sum, since := newSummary(), time.Now()
	for !sum.whole {
		if worked := time.Since(since); worked >= checkTurn {
			if err := rest(ctx, worked); err != nil {
				return err
			}
			since = time.Now()
		}
		read, next, err := r.piece(sum.after, piece)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		sum.add(sum.after, read, next, err)
		piece = read
	}
	if got := sum.hash.Sum(nil); !bytes.Equal(got, digest) {
		return corruptf("the copy has digest %x, the original %x", got, digest)
	}
	s := newState(c.v.cfg, db, c.dir, c.index, c.v.log)
	if err := s.load(); err != nil {
		return err
	}
	if at := s.position().index; at > c.index {
		return corruptf("a copy at entry %d holds entry %d", c.index, at)
	}
	return nil
}

// rest waits for d, or until ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close implements consensus.Copy.
func (c *incoming) Close() error {
	var err error
	if c.load != nil && c.failed == nil {
		err = c.sync()
	}
	c.end()
	if err = errors.Join(err, c.v.home.leave()); err != nil {
		return fmt.Errorf("close copy of group %d: %w", c.v.cfg.Group, err)
	}
	return nil
}

// end gives up what was not synced.
func (c *incoming) end() {
	if c.load != nil {
		c.load.close()
		c.load = nil
	}
}
