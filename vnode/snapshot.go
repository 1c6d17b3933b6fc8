package vnode

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

var _ consensus.Snapshotter = (*Vnode)(nil)

// pieceBytes bounds a piece of a snapshot, unless one record is longer.
const pieceBytes = 64 << 10

// snapshot is a view of the store: all of its records, in order of their keys,
// but those that are about this store alone. Apply and the tidy worker go on
// beside it; a view shows nothing of what they do.
//
// It does not keep its state from ending. What is asked after that is refused.
type snapshot struct {
	state *state
	index id.Index
	read  pieceReader
	sum   summary
}

// Snapshot implements consensus.Snapshotter.
func (v *Vnode) Snapshot() (consensus.Snapshot, error) {
	s, err := v.enter()
	if err != nil {
		return nil, err
	}
	defer s.leave()
	if !s.settled() { // it may have holes, and what comes later in the log
		return nil, ErrReplaying
	}
	n := &snapshot{state: s, index: s.position().index, read: newPieceReader(s.db), sum: newSummary()}
	s.use.Lock()
	defer s.use.Unlock()
	s.use.snapshots[n] = struct{}{}
	return n, nil
}

// enter uses the state, until it is left.
func (n *snapshot) enter() error {
	if !n.state.enter() {
		return fmt.Errorf("read snapshot: %w", context.Cause(n.state.life))
	}
	return nil
}

// Index implements consensus.Snapshot.
func (n *snapshot) Index() id.Index { return n.index }

// Bytes implements consensus.Snapshot.
func (n *snapshot) Bytes() uint64 {
	if n.enter() != nil {
		return 0
	}
	defer n.state.leave()
	var tables int64
	for _, level := range n.state.db.Levels() {
		tables += level.Size
	}
	if tables > memtables*memtableBytes {
		return uint64(tables) // and something that is not written out yet
	}
	var all uint64
	it := n.read.txn.NewIterator(badger.IteratorOptions{})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		all += uint64(len(it.Item().Key())) + uint64(it.Item().ValueSize())
	}
	return all
}

// Read implements consensus.Snapshot. A position is the key of the last record
// before it.
func (n *snapshot) Read(after []byte) (piece, next []byte, err error) {
	if err := n.enter(); err != nil {
		return nil, nil, err
	}
	defer n.state.leave()
	piece, next, err = n.read.piece(after, nil)
	n.sum.add(after, piece, next, err)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read snapshot: %w", err)
	}
	return piece, next, err
}

// Digest implements consensus.Snapshot: SHA-256 of all records as they are in
// the pieces, wherever they are cut.
func (n *snapshot) Digest(ctx context.Context) ([]byte, error) {
	for !n.sum.whole {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if _, _, err := n.Read(n.sum.after); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	return n.sum.hash.Sum(nil), nil
}

// summary is the digest of the pieces that were read in order.
type summary struct {
	hash  hash.Hash
	after []byte // the position behind them
	whole bool   // these are all
}

func newSummary() summary { return summary{hash: sha256.New()} }

// add takes what was read after a position, if that is the next one.
func (s *summary) add(after, piece, next []byte, err error) {
	if s.whole || !bytes.Equal(after, s.after) {
		return
	}
	switch {
	case errors.Is(err, io.EOF):
		s.whole = true
	case err == nil:
		s.hash.Write(piece)
		s.after = bytes.Clone(next)
	}
}

// Close implements consensus.Snapshot.
func (n *snapshot) Close() error {
	if n.enter() != nil {
		return nil // with its state
	}
	defer n.state.leave()
	n.read.close()
	n.state.use.Lock()
	defer n.state.use.Unlock()
	delete(n.state.use.snapshots, n)
	return nil
}

// pieceReader reads a view of a store piece by piece.
type pieceReader struct {
	txn *badger.Txn
	// it stands behind the piece that was read last, nil: nothing does. It keeps
	// files that nobody else needs any more, so it is only used for some pieces; it
	// uses its memory again, so there is not one for each.
	it     *badger.Iterator
	at     []byte // key of the last record of that piece
	pieces int    // that it has read
}

// readerPieces is how many pieces one iterator reads.
const readerPieces = 16

func newPieceReader(db *badger.DB) pieceReader { return pieceReader{txn: db.NewTransaction(false)} }

func (r *pieceReader) close() {
	r.rewind()
	r.txn.Discard()
}

func (r *pieceReader) rewind() {
	if r.it != nil {
		r.it.Close()
		r.it, r.pieces = nil, 0
	}
}

// piece returns the records behind the key after, as many as go into a piece, and
// the key of the last of them; io.EOF if there are none. It uses memory if that
// is enough.
func (r *pieceReader) piece(after, memory []byte) (piece, next []byte, err error) {
	if r.it != nil && (r.pieces >= readerPieces || !bytes.Equal(r.at, after)) {
		r.rewind()
	}
	if r.it == nil {
		r.it = r.txn.NewIterator(badger.IteratorOptions{})
		r.it.Seek(append(bytes.Clone(after), 0))
	}
	for piece = memory[:0]; r.it.Valid(); r.it.Next() {
		item := r.it.Item()
		if local(item.Key()) {
			continue
		}
		n := len(item.Key()) + int(item.ValueSize()) + 2*binary.MaxVarintLen32
		if len(piece) > 0 && len(piece)+n > pieceBytes {
			break
		}
		piece = slices.Grow(piece, max(n, pieceBytes-len(piece)))
		err := item.Value(func(value []byte) error {
			piece = appendRecord(piece, item.Key(), value)
			return nil
		})
		if err != nil {
			r.rewind()
			return nil, nil, err
		}
		next = append(next[:0], item.Key()...)
	}
	if len(piece) == 0 {
		r.rewind()
		return nil, nil, io.EOF
	}
	r.at, r.pieces = append(r.at[:0], next...), r.pieces+1
	return piece, next, nil
}

// local reports whether a record is about the store that it is in: how far it is
// synced is of no use elsewhere.
func local(key []byte) bool { return len(key) == 1 && key[0] == keyMark }

func appendRecord(dst, key, value []byte) []byte {
	return appendBytes(appendBytes(dst, key), value)
}

// eachRecord calls do for every record of a piece; key and value are parts of
// it. Keys must rise, from above after.
func eachRecord(piece, after []byte, do func(key, value []byte) error) error {
	d := decoder{src: piece}
	for len(d.src) > 0 {
		key, value := d.bytes(), d.bytes()
		switch {
		case d.err != nil:
			return d.err
		case bytes.Compare(key, after) <= 0 || local(key):
			return corruptf("key %.40x behind key %.40x in a copy", key, after)
		}
		after = key
		if err := do(key, value); err != nil {
			return err
		}
	}
	return nil
}
