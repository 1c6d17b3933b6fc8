package query

import (
	"github.com/cespare/xxhash/v2"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// shardOf is the group that holds a plain or child table: the hash of the
// table's name, as it is after folding, over the groups of its database in the
// order in which the mnode lists them. It is part of the data format: a table
// is found only as long as neither the hash nor that order changes.
func shardOf(table string, groups []id.Group) id.Group {
	return groups[xxhash.Sum64String(table)%uint64(len(groups))]
}
