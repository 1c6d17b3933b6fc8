package vnode

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"slices"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// Digest says what a replica holds. Two replicas of a group with the same
// Applied have the same digest.
type Digest struct {
	Applied id.Index
	Tables  int
	Rows    int64
	Sum     [sha256.Size]byte
}

// Digest reads all rows and sums them up: tables by name with their columns and
// tags, rows in order of time with their values. How rows are laid out in
// blocks, and which rows were overwritten, makes no difference. It is a
// snapshot: rows, tables and Applied belong together. While the replica is
// replaying its log it fails with ErrReplaying.
func (v *Vnode) Digest(ctx context.Context) (Digest, error) {
	s, err := v.enter()
	if err != nil {
		return Digest{}, err
	}
	defer s.leave()
	if !s.settled() {
		return Digest{}, ErrReplaying
	}
	ctx, done := s.during(ctx)
	defer done()
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	p, err := readPosition(txn)
	if err != nil {
		return Digest{}, err
	}
	tables, _, err := loadCatalog(txn) // that of the view
	if err != nil {
		return Digest{}, err
	}
	rows, err := s.newScan(ctx, txn, &ScanRequest{}, nil)
	if err != nil {
		return Digest{}, err
	}
	defer rows.close()
	d := digester{hash: sha256.New()}
	list := tables.all()
	slices.SortFunc(list, func(a, b *Table) int { return cmp.Compare(a.Name, b.Name) })
	for _, t := range list {
		schema := t.Schema()
		d.table(t, schema)
		rows.r.want(schema, schema.liveColumns())
		err := rows.forward(t, rows.span, func(r run) error {
			d.rows(r.block.rows, r.lo, r.hi)
			return nil
		})
		if err != nil {
			return Digest{}, fmt.Errorf("digest of group %d: %w", v.cfg.Group, err)
		}
		d.flush()
	}
	sum := Digest{Applied: p.index, Tables: len(list), Rows: d.count}
	d.hash.Sum(sum.Sum[:0])
	return sum, nil
}

// digester hashes tables and rows, each in a form of its own that no other
// content can take.
type digester struct {
	hash  hash.Hash
	buf   []byte
	count int64
}

func (d *digester) table(t *Table, s *Schema) {
	d.buf = append(d.buf, 't')
	d.buf = appendBytes(d.buf, t.Name)
	d.buf = appendColumns(d.buf, s.All())
	if t.Stable != nil {
		d.buf = appendBytes(d.buf, t.Stable.Name)
		d.buf = appendColumns(d.buf, t.Stable.Tags)
		d.buf = appendValues(d.buf, t.Tags())
	}
	d.flush()
}

func (d *digester) rows(rows *sql.Rows, lo, hi int) {
	d.count += int64(hi - lo)
	for i := lo; i < hi; i++ {
		d.buf = binary.BigEndian.AppendUint64(append(d.buf, 'r'), uint64(rows.Timestamps[i]))
		for j := range rows.Columns {
			c := &rows.Columns[j]
			switch {
			case c.Nulls.Get(i):
				d.buf = append(d.buf, 0)
			case c.Type.Storage() == sql.StoreInts:
				d.buf = binary.BigEndian.AppendUint64(append(d.buf, 1), uint64(c.Ints[i]))
			case c.Type.Storage() == sql.StoreFloats:
				d.buf = binary.BigEndian.AppendUint64(append(d.buf, 1), math.Float64bits(c.Floats[i]))
			default:
				d.buf = appendBytes(append(d.buf, 1), c.Bytes(i))
			}
		}
		if len(d.buf) > 32<<10 {
			d.flush()
		}
	}
}

func (d *digester) flush() {
	d.hash.Write(d.buf)
	d.buf = d.buf[:0]
}
