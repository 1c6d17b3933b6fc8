package vnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// position is how far a log is applied. It is written in the transaction of
// the entry's effects.
type position struct {
	index    id.Index
	stamp    hlc.Stamp // the largest stamp given to a statement up to here
	remember id.Index  // ids in older entries count no more (R46)
	aged     hlc.Stamp // the moment that says how old rows are (KEEP): see age
}

// longestPause is what the time between two neighbouring entries counts at most
// when rows grow old.
const longestPause = 6 * time.Hour

// age brings aged nearer to the stamp, which was before when the entry began.
//
// Stamps leap when a host leads whose clock is wrong: one that starts years ahead
// and is set right a second later. If rows grew old with them, that second would
// remove everything. So rows do not grow old by more than two pauses at once. A
// log that was not written for longer catches up, at twice the pace.
func (p *position) age(before hlc.Stamp) {
	if before == 0 {
		p.aged = p.stamp
		return
	}
	p.aged = min(p.stamp, p.aged+2*min(p.stamp-before, hlc.Stamp(longestPause)))
}

func (p position) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.index))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.stamp))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.remember))
	return binary.BigEndian.AppendUint64(dst, uint64(p.aged))
}

func parsePosition(src []byte) (position, error) {
	d := decoder{src: src}
	p := position{index: id.Index(d.uint64()), stamp: hlc.Stamp(d.uint64()), remember: id.Index(d.uint64())}
	p.aged = p.stamp
	if len(d.src) > 0 { // the first versions had no more
		p.aged = hlc.Stamp(d.uint64())
	}
	return p, d.end()
}

// readPosition is how far a view of the store is applied.
func readPosition(txn *badger.Txn) (position, error) {
	var p position
	item, err := txn.Get([]byte{keyApplied})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read applied index: %w", err)
	}
	err = item.Value(func(value []byte) (err error) {
		p, err = parsePosition(value)
		return err
	})
	return p, err
}
