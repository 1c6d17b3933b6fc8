package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Member is one replica of a group, bound to the directory that holds it. The
// binding is part of the configuration that Raft agrees on (R29, R38).
type Member struct {
	Replica id.Replica
	UUID    id.UUID
	Witness bool // the arbitrator: votes and counts, holds no data
	Learner bool // receives the log, does not count yet
}

// GroupSpec is the initial record of a group (R40): every data member creates
// the same one. The group's log starts after index 1 of term 1, which stands
// for this record.
type GroupSpec struct {
	Group   id.Group
	Replica id.Replica // this host's own
	Members []Member
	// Formed is false until the host has read in the mnode that every member
	// confirmed its creation. A replica that is not formed is passive: it
	// neither ticks, votes, campaigns nor answers (R40).
	Formed bool
}

// Entry is one committed entry, as a state machine sees it. Data is never
// empty and must not be changed or kept without a copy.
type Entry struct {
	Index id.Index
	Term  id.Term
	Data  []byte
}

// StateMachine is what a group replicates. Apply is called with one batch at a
// time; Checkpoint and LeaderChanged may be called while it runs; Close once
// neither Apply nor Checkpoint runs. After an error of Apply only Close follows,
// and LeaderChanged perhaps.
type StateMachine interface {
	Snapshotter
	// Apply applies entries in log order and returns one result for each, which
	// Propose returns on the host that proposed it. After an unclean stop it is
	// called again with entries that it has applied before, so it must be
	// idempotent over a state that already holds later effects. An error stops
	// the group on this host (FAULTY); a statement that can't be carried out is
	// a result, not an error.
	Apply(entries []Entry) (results []any, err error)
	// Checkpoint makes everything applied so far survive a power cut and
	// returns the index it reaches. The host then notes the index in the log,
	// durably before it asks for the next checkpoint: a replay starts at the
	// last one or at the one before it. ErrDiskFull says that nothing has changed
	// and that it may be asked again; any other error stops the group.
	Checkpoint(ctx context.Context) (id.Index, error)
	// LeaderChanged tells who leads now; self is true on the leader's host once
	// it has applied an entry of its own term and may propose. It must not
	// block.
	LeaderChanged(term id.Term, leader id.UUID, self bool)
	// Close releases everything. No method is called after it.
	Close() error
}

// Role is what a replica is to its group, in the words shown to users.
type Role uint8

// The roles. The zero value is the cautious one.
const (
	RoleOffline  Role = iota // not reachable, or stopped
	RoleUnsynced             // lacks something committed a second ago, is a learner, or knows no leader
	RoleSlave                // follower whose log has everything committed in the last second
	RoleMaster               // leader that has applied an entry of its own term
)

func (r Role) String() string {
	return [...]string{"offline", "unsynced", "slave", "master"}[r]
}

// Mode says how safe the data of a group is now. It is derived from Raft's
// progress at every look and never stored (R20).
type Mode uint8

// The modes of R20, the cautious one first.
const (
	ModeUnknown     Mode = iota // no leader known here
	ModeAsync                   // an acknowledged write may be on one data replica only
	ModeSyncRecover             // the other replica is back and catching up
	ModeSync                    // every acknowledged write is on all wanted data replicas
)

func (m Mode) String() string {
	return [...]string{"unknown", "async", "sync-recover", "sync"}[m]
}

// MemberStatus is one member as the asked host sees it.
type MemberStatus struct {
	Member
	Role  Role
	Match id.Index // known on the leader only
	// CopyBytes is about how much of a copy of the state this member is getting,
	// zero if it gets none, and CopyDone how much of it has arrived there. Known
	// to that member and to the host that it copies from.
	CopyBytes, CopyDone uint64
}

// Status is one group as this host sees it.
type Status struct {
	Group   id.Group
	Self    id.Replica
	Role    Role
	Leader  id.UUID // zero: none known
	Term    id.Term
	Commit  id.Index
	Applied id.Index
	Last    id.Index
	Mode    Mode   // ModeUnknown unless this host leads
	Feed    string // "shut", "open", "closing"; empty unless this host leads an even group
	Members []MemberStatus
	Faulty  error // not nil: the group is stopped here (R5), with the reason
	Formed  bool
	// Refusal says why the arbitrator votes no more for this group; zero unless
	// this host leads and was refused.
	Refusal peer.Refusal
	// Unanswered is how long the arbitrator has owed this host an answer; zero
	// unless it leads. A connected arbitrator whose disk hangs gives none.
	Unanswered time.Duration
}

// NotLeaderError says that this host can't take the request and, when it knows,
// who can. Nothing was proposed.
type NotLeaderError struct {
	Group  id.Group
	Leader id.UUID // zero: no leader known
}

func (e *NotLeaderError) Error() string {
	if e.Leader.IsZero() {
		return fmt.Sprintf("group %d has no leader", e.Group)
	}
	return fmt.Sprintf("group %d is led by host %s", e.Group, e.Leader.Short())
}

// The errors that a caller must tell apart.
var (
	// ErrStopped is returned once the host or the group has been stopped.
	// Nothing was proposed.
	ErrStopped = errors.New("group stopped")
	// ErrUnknownOutcome means that the proposal may or may not be in the log
	// for ever: repeat it under the same id (R46).
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrLost means that the proposal is certainly not in the log and never
	// will be.
	ErrLost = errors.New("proposal lost to another leader")
	// ErrBusy means that uncommitted bytes are at their bound. Nothing was
	// proposed; try later (SQL code 0x0917).
	ErrBusy = errors.New("too much is waiting to be committed")
	// ErrNoGroup means that this host has no replica of the group.
	ErrNoGroup = errors.New("no such group on this host")
	// ErrChanging means that another membership change is still under way.
	ErrChanging = errors.New("another membership change is under way")
)

// Change is one change of membership: entered and left as an explicit joint
// change when it touches more than one voter (R22). Removing the current leader
// is refused: transfer first (R21).
type Change struct {
	AddLearner []Member
	AddVoter   []Member // promotes a learner, or adds a witness
	Remove     []id.Replica
}
