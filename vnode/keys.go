package vnode

import (
	"encoding/binary"

	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// The keys of the store; docs/format/vnode.md describes them with their values.
// Numbers in keys are big-endian, so that keys sort as they do.
const (
	keyApplied  = 'a' // how far the log is applied
	keyObject   = 'c' // id: a table or super table
	keyBlock    = 'd' // table, first timestamp, version: a block
	keyNote     = 'n' // key: a note
	keyMark     = 'm' // up to where everything survives a power cut
	keyRemember = 'r' // index: the statement ids of an entry (R46)
	keySpan     = 'w' // table, class: there may be a block of this length
	keyDropped  = 'x' // id: a dropped object whose blocks may still be there
)

// The kinds of block key, the byte behind the timestamp.
const (
	blockLocal   = 0 // stamp: written in this cluster
	blockForeign = 1 // stamp, origin: written in another one
	blockMerged  = 2 // random: rows carry their stamps themselves
)

func appendObjectKey(dst []byte, prefix byte, of objectID) []byte {
	return binary.BigEndian.AppendUint64(append(dst, prefix), uint64(of))
}

// appendSpanKey appends the key that says how long blocks of a table may be.
func appendSpanKey(dst []byte, table objectID, class uint32) []byte {
	return append(appendObjectKey(dst, keySpan, table), byte(class))
}

// sortable maps timestamps to numbers that sort alike without a sign.
func sortable(ts int64) uint64 { return uint64(ts) ^ 1<<63 }

// appendTimeKey appends where the blocks of a table that start at ts begin.
func appendTimeKey(dst []byte, table objectID, ts int64) []byte {
	return binary.BigEndian.AppendUint64(appendObjectKey(dst, keyBlock, table), sortable(ts))
}

// appendBlockKey appends the key of a block as it was written. A block that is
// written again, by a replay, has the same key.
func appendBlockKey(dst []byte, table objectID, first int64, v version, local id.Cluster) []byte {
	dst = appendTimeKey(dst, table, first)
	if v.origin == local {
		return binary.BigEndian.AppendUint64(append(dst, blockLocal), uint64(v.stamp))
	}
	dst = binary.BigEndian.AppendUint64(append(dst, blockForeign), uint64(v.stamp))
	return binary.BigEndian.AppendUint64(dst, uint64(v.origin))
}

// appendMergedKey appends the key of a merged block. It can't be that of any
// other block: a replay may write the blocks that it was merged from once more.
func appendMergedKey(dst []byte, table objectID, first int64, random uint64) []byte {
	dst = append(appendTimeKey(dst, table, first), blockMerged)
	return binary.BigEndian.AppendUint64(dst, random)
}

const (
	tableKeyBytes = 1 + 8         // a block key up to its table
	timeKeyBytes  = 1 + 8 + 8     // up to its first timestamp
	blockKeyBytes = 1 + 8 + 8 + 9 // of a block of this cluster
)

// blockKey is what a block's key says.
type blockKey struct {
	table   objectID
	first   int64
	kind    byte
	version version // not of merged blocks
	random  uint64  // of merged blocks
}

// parseBlockKey reads the key of a block.
func parseBlockKey(key []byte, local id.Cluster) (blockKey, error) {
	if len(key) < blockKeyBytes || key[0] != keyBlock {
		return blockKey{}, corruptf("block key %x", key)
	}
	k := blockKey{
		table: objectID(binary.BigEndian.Uint64(key[1:])),
		first: int64(binary.BigEndian.Uint64(key[tableKeyBytes:]) ^ 1<<63),
		kind:  key[timeKeyBytes],
	}
	rest := key[timeKeyBytes+1:]
	switch {
	case k.kind == blockLocal && len(rest) == 8:
		k.version = version{stamp: hlc.Stamp(binary.BigEndian.Uint64(rest)), origin: local}
	case k.kind == blockForeign && len(rest) == 16:
		k.version = version{
			stamp:  hlc.Stamp(binary.BigEndian.Uint64(rest)),
			origin: id.Cluster(binary.BigEndian.Uint64(rest[8:])),
		}
	case k.kind == blockMerged && len(rest) == 8:
		k.random = binary.BigEndian.Uint64(rest)
	default:
		return blockKey{}, corruptf("block key %x", key)
	}
	return k, nil
}
