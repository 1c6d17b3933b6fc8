package mnode

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/checkfile"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

var _ consensus.Snapshotter = (*Mnode)(nil)

// pieceBytes is the length of a piece of a snapshot. Most have one.
const pieceBytes = 64 << 10

// copyPrefix starts the name of a finished copy; the index follows.
const copyPrefix = "copy-"

// snapshot is one View as files and the wire carry it.
type snapshot struct {
	index   id.Index
	encoded []byte
}

// Snapshot implements consensus.Snapshotter.
func (m *Mnode) Snapshot() (consensus.Snapshot, error) {
	v := m.view.Load()
	b, err := EncodeView(v)
	if err != nil {
		return nil, err
	}
	return &snapshot{index: v.Index, encoded: b}, nil
}

func (s *snapshot) Index() id.Index { return s.index }
func (s *snapshot) Bytes() uint64   { return uint64(len(s.encoded)) }
func (s *snapshot) Close() error    { return nil }

// Read implements consensus.Snapshot. A position is how many bytes are before
// it.
func (s *snapshot) Read(after []byte) (piece, next []byte, err error) {
	var from uint64
	if len(after) == 8 {
		from = binary.BigEndian.Uint64(after)
	} else if len(after) > 0 {
		return nil, nil, fmt.Errorf("read metadata snapshot: bad position %x", after)
	}
	if from >= uint64(len(s.encoded)) {
		return nil, nil, io.EOF
	}
	piece = s.encoded[from:]
	piece = piece[:min(len(piece), pieceBytes)]
	return piece, binary.BigEndian.AppendUint64(nil, from+uint64(len(piece))), nil
}

// Digest implements consensus.Snapshot.
func (s *snapshot) Digest(context.Context) ([]byte, error) {
	sum := sha256.Sum256(s.encoded)
	return sum[:], nil
}

// incoming is a copy on its way in. It is small: one that is broken off begins
// again.
type incoming struct {
	m       *Mnode
	index   id.Index
	after   []byte
	encoded []byte
}

// Receive implements consensus.Snapshotter.
func (m *Mnode) Receive(_ consensus.SnapshotID, index id.Index) (consensus.Copy, error) {
	return &incoming{m: m, index: index}, nil
}

func (c *incoming) After() []byte { return c.after }
func (c *incoming) Close() error  { return nil }

// Write implements consensus.Copy.
func (c *incoming) Write(piece, next []byte) error {
	if len(c.encoded)+len(piece) > checkfile.MaxBytes {
		return fmt.Errorf("copy of metadata at entry %d: larger than %d bytes", c.index, checkfile.MaxBytes)
	}
	c.encoded = append(c.encoded, piece...)
	c.after = bytes.Clone(next)
	return nil
}

// Finish implements consensus.Copy.
func (c *incoming) Finish(_ context.Context, digest []byte) error {
	if sum := sha256.Sum256(c.encoded); !bytes.Equal(sum[:], digest) {
		return fmt.Errorf("copy of metadata at entry %d: it has digest %x, the original %x", c.index, sum, digest)
	}
	v, err := DecodeView(c.encoded)
	if err != nil {
		return fmt.Errorf("copy of metadata at entry %d: %w", c.index, err)
	}
	if v.Index > c.index {
		return fmt.Errorf("copy of metadata at entry %d: it holds entry %d", c.index, v.Index)
	}
	v.Index = c.index // what is between has no commands
	if err := save(c.m.copyPath(c.index), v); err != nil {
		return fmt.Errorf("copy of metadata at entry %d: %w", c.index, err)
	}
	return nil
}

// Install implements consensus.Snapshotter.
func (m *Mnode) Install(index id.Index) error {
	if m.Applied() >= index { // when it was opened
		return nil
	}
	err := m.adopt(index)
	var v *View
	if err == nil {
		v, err = load(m.dir)
	}
	if err != nil {
		return fmt.Errorf("install metadata of entry %d: %w (the log goes on behind it: restart this host, and if that does not help the replica must be replaced)", index, err)
	}
	m.saved.Store(uint64(v.Index))
	m.publish(v)
	return nil
}

// adopt makes the finished copy at index the state.
func (m *Mnode) adopt(index id.Index) error {
	if err := os.Rename(m.copyPath(index), filepath.Join(m.dir, fileName)); err != nil {
		return err
	}
	return errors.Join(checkfile.SyncDir(m.dir), m.removeCopies(index))
}

// settle finds, when the metadata is opened, what the log's mark belongs to: a
// finished copy, if the log has named it, or the state at index. It removes
// other copies.
//
// A checkpoint that has reached a copy is in the state, and has moved the mark
// only after that. So a copy up to the mark and above the state was named.
func (m *Mnode) settle(index, mark id.Index) (named bool, err error) {
	copies, err := m.copies()
	if err != nil {
		return false, err
	}
	for _, i := range slices.Backward(copies) {
		if i > index && i <= mark {
			if err := m.adopt(i); err != nil {
				return false, err
			}
			named = true
			break
		}
	}
	return named, m.removeCopies(math.MaxUint64)
}

func (m *Mnode) copyPath(index id.Index) string {
	return filepath.Join(m.dir, fmt.Sprintf("%s%020d", copyPrefix, index))
}

// copies is the indexes of the finished copies, rising.
func (m *Mnode) copies() ([]id.Index, error) {
	names, err := os.ReadDir(m.dir) // sorted
	if err != nil {
		return nil, err
	}
	var list []id.Index
	for _, name := range names {
		digits, ok := strings.CutPrefix(name.Name(), copyPrefix)
		if index, err := strconv.ParseUint(digits, 10, 64); ok && err == nil {
			list = append(list, id.Index(index))
		}
	}
	return list, nil
}

// removeCopies removes the finished copies before index.
func (m *Mnode) removeCopies(index id.Index) error {
	list, err := m.copies()
	for _, i := range list {
		if i < index {
			err = errors.Join(err, os.Remove(m.copyPath(i)))
		}
	}
	return err
}
