package wal

import "github.com/tarbitrator/tarbitrator/internal/id"

// Entry is one entry of one group's log. Type is the caller's; the log keeps it.
type Entry struct {
	Index id.Index
	Term  id.Term
	Type  uint8
	Data  []byte
}

// HardState is what a replica must remember before it says anything about it.
type HardState struct {
	Term   id.Term
	Vote   id.Replica // zero: none in this term
	Commit id.Index
}

// Position is a place in a group's log.
type Position struct {
	Index id.Index
	Term  id.Term
}

// Op is one change of one group's log. All Ops of one Append reach the disk
// together or, after a crash, none of them or a prefix of them, in order.
// Within an Op the fields take effect in the order in which they stand here.
type Op struct {
	Group   id.Group
	Drop    bool       // forget the group and everything in it
	Start   *Position  // the log now starts after this position; entries before and after are gone
	Hard    *HardState // nil: unchanged
	Meta    []byte     // nil: unchanged; the caller's record of the group, at most MaxMeta bytes
	Entries []Entry    // contiguous; replaces the log from Entries[0].Index on
	Mark    id.Index   // zero: unchanged; the state machine survives a power cut up to here
	Cut     id.Index   // zero: unchanged; entries up to here are no longer needed by anyone
}

// MaxMeta bounds Op.Meta, in bytes.
const MaxMeta = 64 << 10

// GroupState is what the log knows about one group.
type GroupState struct {
	Group id.Group
	Hard  HardState
	Start Position // the log starts after it (moved by Start and by Cut)
	Last  Position // last entry; equals Start in an empty log
	Mark  id.Index
	Meta  []byte
}
