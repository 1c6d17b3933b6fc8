package consensus

import (
	"time"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// Event is one thing that happened to this host. A shell hands events to
// Machine.Step in the order in which they happened.
type Event interface{ event() }

// The events.
type (
	// Tick says that one tick has passed. After a freeze the shell sends one,
	// never several to make up for the lost time (pitfall 6).
	Tick struct{}

	// Received holds messages from the directory From, as one frame brought
	// them. The shell has checked who From is.
	Received struct {
		From     id.UUID
		Messages []peer.Message
	}

	// Link says what is known about the connection to a directory.
	Link struct {
		Peer  id.UUID
		State LinkState
	}

	// Written says that every Write up to and including Seq is durable.
	Written struct{ Seq uint64 }

	// Applied says that the state machine of Group has applied everything up to
	// Index.
	Applied struct {
		Group id.Group
		Index id.Index
	}

	// Checkpointed says that the state machine of Group survives a power cut
	// up to Index.
	Checkpointed struct {
		Group id.Group
		Index id.Index
	}

	// Propose asks to append entries to the group's log; one ticket for each.
	// Every ticket gets exactly one Accepted or Refused.
	Propose struct {
		Group   id.Group
		Tickets []uint64
		Data    [][]byte
	}

	// Read asks for an index that a linearizable read must have applied. The
	// ticket gets exactly one ReadReady or Refused.
	Read struct {
		Group  id.Group
		Ticket uint64
	}

	// Create opens a new replica from the initial record (R40).
	Create struct{ Spec GroupSpec }

	// Attach starts a replica that the log already holds, once its state
	// machine is ready. Until then the group is silent.
	Attach struct{ Group id.Group }

	// Form says that the mnode has committed the group as formed: the replica
	// may take part (R40).
	Form struct{ Group id.Group }

	// Drop removes the replica and its log.
	Drop struct{ Group id.Group }

	// ChangeMembers proposes a membership change; the ticket gets Accepted or
	// Refused, the change itself shows in Status once applied.
	ChangeMembers struct {
		Group  id.Group
		Ticket uint64
		Change Change
	}

	// Transfer asks the leader to hand the group to a data voter. No answer:
	// watch Status.
	Transfer struct {
		Group id.Group
		To    id.Replica
	}

	// EnrollWitness asks the arbitrator Witness to keep a record for replica
	// To of Group (Retire: to drop it for ever). The ticket gets Enrolled or
	// Refused once the arbitrator has answered; an unanswered one is repeated
	// every second.
	EnrollWitness struct {
		Group   id.Group
		To      id.Replica
		Witness id.UUID
		Retire  bool
		Ticket  uint64
	}

	// Forget gives up a ticket of EnrollWitness or Read.
	Forget struct{ Ticket uint64 }

	// DiskSpace says whether the disk has room for entries. While it has none,
	// proposals are refused, appended entries are dropped and leadership is
	// offered to the other hosts; votes and truncation go on from the log's
	// reserve.
	DiskSpace struct{ Full bool }

	// AskCopy says that directory For wants a copy of the group's state that goes
	// beyond entry Above. The ticket gets exactly one Capture or Refused.
	AskCopy struct {
		Group  id.Group
		For    id.UUID
		Above  id.Index
		Ticket uint64
	}

	// Release says that For has not read the capture of Index for a good while,
	// so the log behind it may go.
	Release struct {
		Group id.Group
		For   id.UUID
		Index id.Index
	}

	// Fetched ends a Fetch. Without an error the copy of Image is complete,
	// checked and durable beside the state.
	Fetched struct {
		Group   id.Group
		Attempt uint64
		Image   Image
		Err     error
	}

	// Failed says that the state machine of Group has returned an error: the
	// group stops (R5).
	Failed struct {
		Group id.Group
		Err   error
	}

	// Stopping says that this host is about to stop: the groups that it leads
	// are handed over (R33).
	Stopping struct{}

	// Leaving says that this host stops now: goodbye is said, so that others
	// need not wait for its silence (R32).
	Leaving struct{}
)

func (Tick) event()          {}
func (Received) event()      {}
func (Link) event()          {}
func (Written) event()       {}
func (Applied) event()       {}
func (Checkpointed) event()  {}
func (Propose) event()       {}
func (Read) event()          {}
func (Create) event()        {}
func (Attach) event()        {}
func (Form) event()          {}
func (Drop) event()          {}
func (ChangeMembers) event() {}
func (Transfer) event()      {}
func (EnrollWitness) event() {}
func (Forget) event()        {}
func (DiskSpace) event()     {}
func (AskCopy) event()       {}
func (Release) event()       {}
func (Fetched) event()       {}
func (Failed) event()        {}
func (Stopping) event()      {}
func (Leaving) event()       {}

// LinkState is what a shell knows about the way to a peer.
type LinkState uint8

// The states of a link. Silence is not one of them: the machine measures it.
const (
	LinkDown    LinkState = iota // lost; nothing more is known
	LinkUp                       // connected and identified
	LinkRefused                  // reset, and an immediate redial was refused: the process is gone (R15, R32)
)

// Effect is one thing that the shell must do. Effects of one Step are in the
// order in which they must begin: writes, sends, applies, answers, reports.
type Effect interface{ effect() }

// The effects.
type (
	// Write appends to the log. The shell answers with Written{Seq} once it is
	// durable. Seq counts from 1 without gaps.
	Write struct {
		Seq uint64
		Ops []wal.Op
	}

	// Send hands messages to the carrier as one frame. It may be lost.
	Send struct {
		To       id.UUID
		Class    peer.Class
		Messages []peer.Message
	}

	// Apply hands committed entries to the state machine of Group. Entries
	// without data for it (new leader, membership) are left out, so Entries
	// may be empty; the shell answers Applied{Group, Index} all the same.
	Apply struct {
		Group   id.Group
		Entries []Entry
		Index   id.Index
	}

	// Capture opens what the state machine of Group holds for a host that wants
	// to copy it. It stands among the Apply effects: what has been applied when
	// its turn comes is the state of Image. The shell says Release once For has
	// stopped reading.
	Capture struct {
		Group  id.Group
		Ticket uint64
		For    id.UUID
		Image  Image
	}

	// Install makes the copy that was fetched the state of Group. It stands among
	// the Apply effects; the shell answers Applied{Group, Index}.
	Install struct {
		Group id.Group
		Index id.Index
	}

	// Fetch gets a copy of the group's state from directory From, beside the
	// state that is there, while Apply goes on. The shell answers exactly one
	// Fetched, unless the group is halted or dropped.
	Fetch struct {
		Group   id.Group
		Attempt uint64
		From    id.UUID
		Above   id.Index // an older copy is of no use
	}

	// Halt says that the group has stopped for good (R5): whoever waits for what
	// its state machine does waits in vain.
	Halt struct{ Group id.Group }

	// Accepted says where the leader put a proposal. It is committed if and
	// only if the entry that is applied at Index has this Term.
	Accepted struct {
		Group  id.Group
		Ticket uint64
		Index  id.Index
		Term   id.Term
	}

	// Refused says that nothing was proposed or read for this ticket.
	Refused struct {
		Ticket uint64
		Err    error
	}

	// ReadReady says that a read may be served once Index is applied.
	ReadReady struct {
		Group  id.Group
		Ticket uint64
		Index  id.Index
	}

	// Enrolled says that the arbitrator's record is durable (or gone, for
	// Retire).
	Enrolled struct{ Ticket uint64 }

	// Report says that something an operator may ask about has changed.
	Report struct {
		Group id.Group
		What  string // a constant message, for the log
		Args  []any  // slog pairs
		Bad   bool   // someone must come
	}

	// LeaderChange tells the state machine who leads (StateMachine.LeaderChanged).
	LeaderChange struct {
		Group  id.Group
		Term   id.Term
		Leader id.UUID
		Self   bool
	}
)

func (Write) effect()        {}
func (Send) effect()         {}
func (Apply) effect()        {}
func (Capture) effect()      {}
func (Install) effect()      {}
func (Fetch) effect()        {}
func (Halt) effect()         {}
func (Accepted) effect()     {}
func (Refused) effect()      {}
func (ReadReady) effect()    {}
func (Enrolled) effect()     {}
func (Report) effect()       {}
func (LeaderChange) effect() {}

// LogReader reads what the log holds. *wal.Log is one.
type LogReader interface {
	// Groups returns the state of every group, ordered by group.
	Groups() []wal.GroupState
	// Entries returns entries lo..hi-1 of a group, at least one and then as
	// many as fit in maxBytes.
	Entries(g id.Group, lo, hi id.Index, maxBytes uint64) ([]wal.Entry, error)
	// Term returns the term of entry i of a group.
	Term(g id.Group, i id.Index) (id.Term, error)
	// Spare returns the last entry of a group that may go if keepBytes of its
	// log are to stay, or zero. It does no I/O.
	Spare(g id.Group, keepBytes uint64) id.Index
}

// Config holds the timing and the bounds of Raft on one host. Fixed after New.
type Config struct {
	Tick         time.Duration // unit of Raft's timing; default 50 ms (R1)
	ElectionTick int           // default 10 (R1)
	SilentAfter  time.Duration // D_open: a silent data replica opens the feed; default 250 ms (R18)
	StallAfter   time.Duration // D_stall: an uncommitted durable entry opens it; default 500 ms (R18)
	HealthyFor   time.Duration // H: answering this long before the feed closes; default 250 ms (R18)
	OpenAtLeast  time.Duration // a feed stays open this long; default 500 ms (R18)
	CloseWithin  time.Duration // closing that takes longer opens again; default 150 ms (R17)
	PulseEvery   time.Duration // R19; default 5 s
	HungAfter    time.Duration // D_hang: the oldest unsynced write; default 500 ms (R43)
	CalmFor      time.Duration // R44: no move of leadership before this calm; default 5 s

	MaxUncommittedBytes     uint64 // per group; default 32 MiB
	MaxHostUncommittedBytes uint64 // all groups together; default 64 MiB (R11b)

	// KeepForReplicaBytes is how much of a group's log is kept for a replica that
	// lacks it; with more it gets a copy. Default 1 GiB.
	KeepForReplicaBytes uint64
	// CopyBytesPerSecond bounds what this host sends as copies, all together. It
	// sends less while that makes writes slower. Default 30 MB/s.
	CopyBytesPerSecond uint64
}

// DefaultConfig holds the values that were simulated (QUORUM rules R1, R18).
func DefaultConfig() Config {
	return Config{
		Tick: 50 * time.Millisecond, ElectionTick: 10,
		SilentAfter: 250 * time.Millisecond, StallAfter: 500 * time.Millisecond,
		HealthyFor: 250 * time.Millisecond, OpenAtLeast: 500 * time.Millisecond,
		CloseWithin: 150 * time.Millisecond, PulseEvery: 5 * time.Second,
		HungAfter: 500 * time.Millisecond, CalmFor: 5 * time.Second,
		MaxUncommittedBytes: 32 << 20, MaxHostUncommittedBytes: 64 << 20,
		KeepForReplicaBytes: 1 << 30, CopyBytesPerSecond: 30_000_000,
	}
}
