// Package wal keeps the logs of all groups of a host in one sequence of
// segment files, with one sync for all of them.
//
// It knows nothing about Raft: who may append, truncate or cut is its caller's
// business.
package wal
