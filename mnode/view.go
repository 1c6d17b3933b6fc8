package mnode

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// View is the metadata as it was after one entry of the log. It is never
// changed once published, so it may be kept and read without a lock. All its
// slices are ordered by their key; iteration is the same on every host.
type View struct {
	Index   id.Index // the last entry that it holds
	Term    id.Term  // of that entry
	Cluster Cluster
	// Arbitrator is the one in force, zero if none.
	Arbitrator Arbitrator
	// Former are arbitrators that have been replaced and are still a member of
	// some group: until they are not, hosts stay connected to them.
	Former    []Arbitrator `json:",omitempty"`
	Dnodes    []Dnode      // by ID; dropped ones stay as tombstones (A28)
	Users     []User       // by Name
	Databases []Database   // by Name
	Groups    []Group      // by ID; the mnode's own is the first
	NextDnode id.Host      // never handed out yet
	NextGroup id.Group     // never handed out yet
	Recent    []Recent     // the newest answers, oldest first (R46)
	// Failovers are the newest changes of master, in the order in which they
	// became known.
	Failovers []Failover `json:",omitempty"`
}

// Cluster is what never changes after birth.
type Cluster struct {
	ID      id.Cluster
	Name    string
	Secret  Secret
	Created time.Time
}

// Secret authenticates the members of a cluster to each other and to the
// arbitrator. It is never printed.
type Secret [32]byte

// String hides the secret.
func (Secret) String() string { return "(secret)" }

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// MarshalText writes the secret itself: only files and the wire use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(s[:])), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Secret) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil || len(raw) != len(s) {
		return fmt.Errorf("cluster secret: want %d hexadecimal digits", 2*len(s))
	}
	copy(s[:], raw)
	return nil
}

// Proof is the hash of a token that only one host knows. A host that knocks again
// is told the cluster's secret again, and that takes more than its UUID, which
// every connection tells.
type Proof [sha256.Size]byte

// ProofOf is the proof of a token; zero for none.
func ProofOf(token Secret) Proof {
	if token == (Secret{}) {
		return Proof{}
	}
	return sha256.Sum256(token[:])
}

// MarshalText writes hexadecimal digits.
func (p Proof) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(p[:])), nil }

// UnmarshalText reads what MarshalText wrote.
func (p *Proof) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil || len(raw) != len(p) {
		return fmt.Errorf("proof of a host: want %d hexadecimal digits", 2*len(p))
	}
	copy(p[:], raw)
	return nil
}

// Arbitrator is the vote-only member that the cluster may use.
type Arbitrator struct {
	EndPoint string
	UUID     id.UUID   // zero: it has never answered
	Since    time.Time // when this UUID was first seen
	// Configured is what the configuration of all hosts named when the cluster
	// last followed it. It differs from EndPoint after ALTER CLUSTER ARBITRATOR.
	Configured string `json:",omitempty"`
}

// Dnode is one data host.
type Dnode struct {
	ID       id.Host
	EndPoint string
	UUID     id.UUID // zero: admitted, has never reported
	// Proof is that of the host that was let in with UUID; zero: nobody can be let
	// in with it once more.
	Proof    Proof `json:",omitzero"`
	Created  time.Time
	Dropped  bool // tombstone: neither the number nor the directory comes back
	Dropping bool // leaves as soon as nothing of it is needed
	// Restoring: its directory is gone, and the next empty one that reports from
	// its end point becomes this dnode.
	Restoring bool `json:",omitempty"`
	// OfflineSince is when it was last heard of, zero while it is, or may only
	// have stumbled.
	OfflineSince time.Time `json:",omitzero"`
}

// User may log in.
type User struct {
	Name    string
	Hash    string // argon2id in PHC form
	Super   bool
	Default bool // still has the password that everybody knows
	Created time.Time
}

// Database is a name, its options and, through Group.Database, its shards.
type Database struct {
	Name    string
	Options Options
	Created time.Time
	Ready   bool       // every shard has been formed once
	Groups  []id.Group // its shards in the order in which tables are dealt over them
}

// GroupState says how far a group's life has come (R40).
type GroupState uint8

// The states of a group, the cautious one first.
const (
	Creating GroupState = iota // members create their replicas, all of them passive
	Formed                     // every member has confirmed: the replicas may take part
	Dropping                   // members remove their replicas
)

func (s GroupState) String() string {
	return [...]string{"creating", "ready", "dropping"}[s]
}

// Group is one replicated log: the mnode's own, or a shard of a database.
type Group struct {
	ID       id.Group
	Database string // empty for the mnode's own group
	State    GroupState
	Epoch    uint64 // log index of its creation: tells two births apart (R40)
	Doomed   uint64 // log index of its drop, zero until then
	Members  []Member
	// Founders is the initial record from which every replica of this group
	// starts, also one that joins later.
	Founders    []Member
	NextReplica id.Replica // never handed out yet (R38)
}

// Member binds a replica id to a directory for ever (R38).
type Member struct {
	Replica id.Replica
	Dnode   id.Host   `json:",omitzero"` // zero for the arbitrator
	UUID    id.UUID   // zero: the arbitrator, before it has ever answered
	Witness bool      `json:",omitzero"`
	Joining bool      `json:",omitzero"` // allocated, not yet a voter
	Leaving bool      `json:",omitzero"` // no voter any more; its replica or record is yet to be removed
	Created time.Time `json:",omitzero"`
}

// Request names one request of one gateway, so that a repeated one is answered
// and not run again (R46). The zero Request is never remembered.
type Request struct {
	Boot uint64
	Seq  uint64
}

// Recent is the remembered answer to a Request.
type Recent struct {
	Request Request
	Result  Result
}

// Dnode returns the data host with this number, tombstones included.
func (v *View) Dnode(n id.Host) (Dnode, bool) {
	i, ok := slices.BinarySearchFunc(v.Dnodes, n, func(d Dnode, n id.Host) int { return cmp.Compare(d.ID, n) })
	if !ok {
		return Dnode{}, false
	}
	return v.Dnodes[i], true
}

// DnodeAt returns the member with this end point.
func (v *View) DnodeAt(endPoint string) (Dnode, bool) {
	for _, d := range v.Dnodes {
		if !d.Dropped && d.EndPoint == endPoint {
			return d, true
		}
	}
	return Dnode{}, false
}

// DnodeOf returns the data host whose directory this is, tombstones included.
func (v *View) DnodeOf(u id.UUID) (Dnode, bool) {
	for _, d := range v.Dnodes {
		if !u.IsZero() && d.UUID == u {
			return d, true
		}
	}
	return Dnode{}, false
}

// gone reports whether the directory that a member is bound to will never come
// back: its dnode has another one now, or none.
func (v *View) gone(m Member) bool {
	d, ok := v.Dnode(m.Dnode)
	return !m.Witness && (!ok || d.Dropped || d.UUID != m.UUID)
}

// departs reports whether a data member is to leave its group as soon as others
// have taken over.
func (v *View) departs(m Member) bool {
	d, _ := v.Dnode(m.Dnode)
	return !m.Witness && (d.Dropping || v.gone(m))
}

// wanted is how many data replicas a group should have; zero for the mnode's
// own, which has as many as there is room for.
func (v *View) wanted(g Group) int {
	db, _ := v.Database(g.Database)
	return db.Options.Replica
}

// Live returns the members that have not been dropped.
func (v *View) Live() []Dnode {
	return slices.DeleteFunc(slices.Clone(v.Dnodes), func(d Dnode) bool { return d.Dropped })
}

// User returns the user of this name.
func (v *View) User(name string) (User, bool) {
	i, ok := slices.BinarySearchFunc(v.Users, name, func(u User, n string) int { return cmp.Compare(u.Name, n) })
	if !ok {
		return User{}, false
	}
	return v.Users[i], true
}

// Database returns the database of this name.
func (v *View) Database(name string) (Database, bool) {
	i, ok := slices.BinarySearchFunc(v.Databases, name, func(d Database, n string) int { return cmp.Compare(d.Name, n) })
	if !ok {
		return Database{}, false
	}
	return v.Databases[i], true
}

// Group returns the group with this number.
func (v *View) Group(g id.Group) (Group, bool) {
	i, ok := slices.BinarySearchFunc(v.Groups, g, func(x Group, g id.Group) int { return cmp.Compare(x.ID, g) })
	if !ok {
		return Group{}, false
	}
	return v.Groups[i], true
}

// Vgroups returns the shards of one database, or of all with an empty name,
// ordered by group; those that are being dropped are left out.
func (v *View) Vgroups(database string) []Group {
	var out []Group
	for _, g := range v.Groups {
		if g.Database != "" && g.State != Dropping && (database == "" || g.Database == database) {
			out = append(out, g)
		}
	}
	return out
}

// Mnodes returns the data members of the mnode's own group, learners included.
func (v *View) Mnodes() []Member {
	g, _ := v.Group(id.Mnode)
	return g.Data()
}

// NeedsArbitrator reports whether any group has the arbitrator as a member: an
// odd group never makes anyone dial it (A39).
func (v *View) NeedsArbitrator() bool {
	return slices.ContainsFunc(v.Groups, func(g Group) bool {
		return slices.ContainsFunc(g.Members, func(m Member) bool { return m.Witness })
	})
}

// Data returns the members that hold data, without those that are leaving.
func (g Group) Data() []Member {
	var out []Member
	for _, m := range g.Members {
		if !m.Witness && !m.Leaving {
			out = append(out, m)
		}
	}
	return out
}

// Witness returns the arbitrator's current membership, voting or joining.
func (g Group) Witness() (Member, bool) {
	for i := len(g.Members) - 1; i >= 0; i-- { // the newest one, while it is being replaced
		if m := g.Members[i]; m.Witness && !m.Leaving {
			return m, true
		}
	}
	return Member{}, false
}

// On returns the membership of one host's directory.
func (g Group) On(u id.UUID) (Member, bool) {
	for _, m := range g.Members {
		if !m.Witness && m.UUID == u {
			return m, true
		}
	}
	return Member{}, false
}

// GoneText is what a host is told whose end point belongs to a member with
// another directory: that one is gone, and coming back as nobody would forget
// what was acknowledged.
func (v *View) GoneText(d Dnode) string {
	helper := "another host"
	for _, other := range v.Live() {
		if other.ID != d.ID && !other.UUID.IsZero() {
			helper = other.EndPoint
			break
		}
	}
	return fmt.Sprintf("this end point is dnode %d of cluster %d, its directory is gone: RESTORE DNODE %d on %s",
		d.ID, v.Cluster.ID, d.ID, helper)
}

// clone copies v so deeply that apply may change the copy.
func (v *View) clone() *View {
	c := *v
	c.Former = slices.Clone(v.Former)
	c.Dnodes = slices.Clone(v.Dnodes)
	c.Users = slices.Clone(v.Users)
	c.Databases = slices.Clone(v.Databases)
	c.Groups = slices.Clone(v.Groups)
	c.Recent = slices.Clone(v.Recent)
	c.Failovers = slices.Clone(v.Failovers)
	for i := range c.Databases {
		c.Databases[i].Groups = slices.Clone(c.Databases[i].Groups)
		c.Databases[i].Options.Others = slices.Clone(c.Databases[i].Options.Others)
	}
	for i := range c.Groups {
		c.Groups[i].Members = slices.Clone(c.Groups[i].Members)
	}
	return &c
}
