// Package wal keeps the logs of all groups of a host in one sequence of
// segment files, with one sync for all of them.
//
// It knows nothing about Raft: who may append, truncate or cut is its caller's
// business.
//
// A Log is synchronous: Append changes memory, Flush writes, Sync makes durable,
// Maintain does the rest. A Writer gives it its goroutines. The way of a record:
//
//	Append ──▶ slab in memory ──▶ Flush ──▶ page cache ──▶ Sync ──▶ disk
//	             ▲ Entries reads here, or from the segment
//
// What makes it fast: one sync for whatever was appended while the one before
// ran, in files that are full of zeros already, or of an earlier use. What makes
// it safe: every record's checksum starts from a seed that no other use of the
// place has had; every batch says which one before it was durable, so a torn end
// and damage are told apart; every segment begins with a checkpoint of every
// group, so the newest one is the root of all that is in the log; and what a
// crash has left in the page cache is written to a fresh segment before it
// counts. docs/format/wal.md has every byte.
package wal
