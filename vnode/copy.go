package vnode

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/checkfile"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// progressName is the file in a copy that says of what it is, and how far.
const progressName = "progress"

var progressMagic = checkfile.Magic{'T', 'A', 'R', 'C', 'O', 'P', 'Y', '2'}

// progress says what of a snapshot is in a copy, durably.
type progress struct {
	snapshot consensus.SnapshotID
	index    id.Index
	after    []byte // every record up to this key
}

func (p progress) append(dst []byte) []byte {
	dst = append(dst, p.snapshot[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.index))
	return appendBytes(dst, p.after)
}

func parseProgress(src []byte) (progress, error) {
	d := decoder{src: src}
	var p progress
	copy(p.snapshot[:], d.take(len(p.snapshot)))
	p.index = id.Index(d.uint64())
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

// incoming is a copy on its way in: a store of its own, beside that of the
// current state.
type incoming struct {
	v   *Vnode
	dir string
	progress
	db     *badger.DB
	load   *loader
	kept   []byte // position that is noted in the directory
	failed error  // it can't go on; Receive may, from what is kept
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
	c.load = newLoader(c.db)
	return c, nil
}

// resume opens the copy where it was left.
func (c *incoming) resume() error {
	p, err := readProgress(c.dir)
	if err != nil {
		return err
	}
	if p.snapshot != c.snapshot || p.index != c.index {
		return errNoCopy
	}
	db, err := openCopyStore(c.dir, c.v.log)
	if err != nil { // nothing that is worth a repair: it is fetched again
		c.v.log.Warn("copy can't go on and begins again", "index", c.index, "err", err)
		return errNoCopy
	}
	c.db, c.progress, c.kept = db, p, p.after
	return nil
}

// begin opens an empty copy in place of what is there.
func (c *incoming) begin() error {
	if err := c.v.home.discardCopy(); err != nil {
		return err
	}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return err
	}
	db, err := openCopyStore(c.dir, c.v.log)
	c.db = db
	return err
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

// cut hands what was written to the store, and notes what of it lasts by now.
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

// sync makes everything that was written last, and notes it. Nothing can be
// written afterwards.
func (c *incoming) sync() error {
	if err := c.cut(); err != nil {
		return err
	}
	if err := c.load.flush(); err != nil {
		return err
	}
	return c.keep(c.after)
}

// keep notes a position that the store has durably reached.
func (c *incoming) keep(after []byte) error {
	if len(after) == 0 || bytes.Equal(after, c.kept) {
		return nil
	}
	if err := checkfile.SyncDir(c.dir); err != nil { // the names of its tables
		return err
	}
	at := c.progress
	at.after = after
	if err := checkfile.Write(filepath.Join(c.dir, progressName), progressMagic, at.append(nil)); err != nil {
		return err
	}
	c.kept = after
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
		err = errors.Join(err, c.closeStore(), c.v.home.discardCopy())
	}
	return err
}

// complete compares what is in the store with the digest, makes it last, and
// gives it its name.
func (c *incoming) complete(ctx context.Context, digest []byte) error {
	if err := c.sync(); err != nil { // so that a finished copy can be taken up again
		return err
	}
	if err := c.check(ctx, digest); err != nil {
		return err
	}
	if err := c.closeStore(); err != nil {
		return err
	}
	if err := syncFiles(c.dir); err != nil {
		return err
	}
	return c.v.home.keep()
}

// check reads back everything that was written, and that it can be a state: once
// the log has named the copy there is no other.
func (c *incoming) check(ctx context.Context, digest []byte) error {
	txn := c.db.NewTransaction(false)
	defer txn.Discard()
	sum := newSummary()
	for !sum.whole {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		piece, next, err := readPiece(txn, sum.after)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		sum.add(sum.after, piece, next, err)
	}
	if got := sum.hash.Sum(nil); !bytes.Equal(got, digest) {
		return corruptf("the copy has digest %x, the original %x", got, digest)
	}
	s := newState(c.v.cfg, c.db, c.dir, c.index, c.v.log)
	if err := s.load(); err != nil {
		return err
	}
	if at := s.position().index; at > c.index {
		return corruptf("a copy at entry %d holds entry %d", c.index, at)
	}
	return nil
}

// Close implements consensus.Copy.
func (c *incoming) Close() error {
	var err error
	if c.db != nil && c.failed == nil {
		err = c.sync()
	}
	if err = errors.Join(err, c.closeStore(), c.v.home.leave()); err != nil {
		return fmt.Errorf("close copy of group %d: %w", c.v.cfg.Group, err)
	}
	return nil
}

func (c *incoming) closeStore() error {
	if c.db == nil {
		return nil
	}
	c.load.close()
	err := c.db.Close()
	c.db = nil
	return err
}
