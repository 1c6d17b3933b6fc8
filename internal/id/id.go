// Package id names the things that must never be mixed up: clusters, hosts,
// groups, replicas, data directories, log indexes and terms.
//
// It holds no state and decides nothing: each name is a type of its own so that
// the compiler refuses a mix-up.
package id

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

type (
	// Cluster names one cluster for its life. It is drawn at random when the
	// cluster is born, is positive as a signed 64-bit number (SQL shows it as
	// BIGINT), and is never zero.
	Cluster uint64
	// Host is a dnode's number: given by the mnode when the dnode is admitted,
	// counted from 1 and never reused. Zero is the arbitrator's row in SHOW
	// DNODES, or "not admitted yet".
	Host uint32
	// Group names one replicated log for the life of the cluster: 1 is the
	// mnode, larger ones are vgroups. Zero names no group.
	Group uint32
	// Replica is the Raft id of one member of one group. A group's ids are
	// counted from 1 and never reused, nor handed to another directory (R38).
	Replica uint64
	// Index counts the entries of one group's log from 1. Zero means none.
	Index uint64
	// Term counts the elections of one group. It never goes back.
	Term uint64
)

// Mnode is the group of the cluster's metadata.
const Mnode Group = 1

// UUID names one data directory, of a host or of an arbitrator, for the life of
// that directory. Wiping a directory makes a new UUID: identity is the
// directory, never the address (R29, R31).
type UUID [16]byte

// NewUUID draws a UUID at random.
func NewUUID() UUID {
	var u UUID
	rand.Read(u[:]) // never fails (crypto/rand, Go 1.24)
	return u
}

// ParseUUID reads the form that String writes.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(u) {
		return u, fmt.Errorf("identity %q: want %d hexadecimal digits", s, 2*len(u))
	}
	copy(u[:], b)
	return u, nil
}

// IsZero reports whether u names no directory.
func (u UUID) IsZero() bool { return u == UUID{} }

// String is the whole identity as 32 hexadecimal digits.
func (u UUID) String() string { return hex.EncodeToString(u[:]) }

// Short is the first 8 digits, for logs and status lines.
func (u UUID) Short() string { return hex.EncodeToString(u[:4]) }

// MarshalText makes JSON and logs show what String shows.
func (u UUID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (u *UUID) UnmarshalText(b []byte) error {
	v, err := ParseUUID(string(b))
	if err == nil {
		*u = v
	}
	return err
}
