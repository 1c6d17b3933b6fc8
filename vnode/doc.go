// Package vnode is one replica of one shard of a database: a state machine that
// consensus feeds with log entries, over a Badger store of its own.
//
// It does not parse SQL, know other shards or talk to other hosts: whoever calls
// it picks the shard by the table's name, takes the read barrier and forwards
// what another host leads.
//
// The life of a write: Write turns rows into blocks in the caller's goroutine,
// the batcher packs the statements that wait into one log entry, Apply stores
// the very same block bytes on every replica.
//
// The life of a row: a block is named by table, first timestamp and stamp. Where
// blocks of a table overlap, the row with the larger (stamp, origin) is the one
// that exists; that is decided on every read, so it does not matter in which
// order blocks arrive or how they were merged since.
//
// Invariants:
//
//   - Apply depends on nothing but the entries: no clock, no random number, no
//     order of a map. Two replicas that applied the same log have the same
//     Digest, however their blocks are laid out.
//   - Apply may meet the effects of later entries (after a power cut the log is
//     replayed over them). What an entry creates is named by its place in the
//     log, so it is known at once whether something is older or newer than the
//     entry at hand.
//   - There is always one whole state that the log's mark belongs to: a copy from
//     another replica grows beside it, and takes its place at once.
//   - Only the tidy worker removes blocks, and only in the transaction that puts
//     the merged one in their place, or once nobody can see them any more.
package vnode
