package arbitrator

import (
	"cmp"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Config holds the machine's one timing and its bounds. Fixed after NewMachine.
type Config struct {
	// Lease is how long a leader that asked for it is spared elections (R26).
	// Two ticks below the hosts' election timeout; default 400 ms.
	Lease time.Duration
	// MaxReplicas bounds the live records of one cluster; default 4,096.
	MaxReplicas int
	// MaxRetired bounds the tombstones of one cluster; default 65,536. Beyond
	// it those of groups that no longer exist are forgotten first.
	MaxRetired int
	// MaxRuns bounds the runs that all records of one cluster hold together
	// (R11b); default 65,536. A healthy record has one or none.
	MaxRuns int
}

// DefaultConfig holds the lease that was simulated (R26) and bounds far above
// what a cluster of two hosts uses.
func DefaultConfig() Config {
	return Config{Lease: 400 * time.Millisecond, MaxReplicas: 4096, MaxRetired: 65536, MaxRuns: 65536}
}

// Key names one record: the vote of one replica id of one group of one cluster.
type Key struct {
	Cluster id.Cluster
	Group   id.Group
	Replica id.Replica
}

// Compare orders keys by cluster, group and replica.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Cluster, o.Cluster), cmp.Compare(k.Group, o.Group), cmp.Compare(k.Replica, o.Replica))
}

// Record is everything that is remembered of one replica (R27): its vote, and
// its log as positions without data.
//
// Invariants:
//
//	Commit <= Last; Runs is empty when they are equal, else Runs[0].First == Commit+1
//	Runs[i+1].First > Runs[i].First, Runs[i+1].Term > Runs[i].Term, all First <= Last
//	a Retired record holds nothing else
//
// The slice in Runs is never changed once a Record carries it.
type Record struct {
	Key
	Term       id.Term
	Vote       id.Replica // zero: none in Term
	Commit     id.Index   // everything up to here is committed, and forgotten
	CommitTerm id.Term    // of the entry at Commit
	Last       id.Index
	Runs       []peer.Run // the terms of the entries Commit+1..Last
	Tainted    bool       // behind what it once acknowledged: votes no more (R25)
	Retired    bool       // tombstone: this replica id is never enrolled again (R24)
}

// Event is one thing that happened to the arbitrator.
type Event interface{ event() }

// The events.
type (
	// Received holds messages of one cluster, as one frame brought them. The
	// shell has checked that From is a host of the cluster; To is the directory
	// that the sender means, which the machine checks (R25).
	Received struct {
		Cluster  id.Cluster
		From     id.UUID
		To       id.UUID
		Messages []peer.Message
	}

	// Synced says that every Write up to and including Seq is durable.
	Synced struct{ Seq uint64 }

	// RolledBack says that a host of the cluster has seen this directory further
	// than it now is: it is an old copy (R30).
	RolledBack struct{ Cluster id.Cluster }
)

func (Received) event() {}
func (Synced) event()   {}

func (RolledBack) event() {}

// Effect is one thing that the shell must do. Effects of one Step come in this
// order: at most one Write, then sends, then reports.
type Effect interface{ effect() }

// The effects.
type (
	// Write changes the store, all of it or, after a crash, a prefix of it. The
	// shell answers with Synced{Seq}. Seq grows by one over the life of the
	// directory: it is the generation of R30.
	Write struct {
		Seq     uint64
		Records []Record // changed or new; no key twice
		Removed []Key    // forgotten; none of Records
	}

	// Send hands messages to a host as one frame. It may be lost.
	Send struct {
		Cluster  id.Cluster
		To       id.UUID
		Messages []peer.Message
	}

	// Report says that something an operator may ask about has changed.
	Report struct {
		What string // a constant message, for the log
		Args []any  // slog pairs
		Bad  bool   // someone must come
	}
)

func (Write) effect()  {}
func (Send) effect()   {}
func (Report) effect() {}
