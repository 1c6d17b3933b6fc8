package peer

import (
	"bytes"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Class says which of the two connections of a host pair carries a message.
type Class uint8

const (
	// Beats carries what must never wait: votes, heartbeats, feeds and their
	// answers. It is a connection of its own, written first.
	Beats Class = iota
	// Bulk carries entries, calls and their answers.
	Bulk
)

// Kind says what a Message holds.
type Kind uint8

// The kinds of message. Their numbers are part of the wire format.
const (
	KindRaft     Kind = 1  // Raft: a message of the Raft library between two replicas
	KindFeed     Kind = 2  // Feed: leader to arbitrator (R11)
	KindAnswer   Kind = 3  // Answer: arbitrator to leader, one per feed (R12)
	KindRefusal  Kind = 4  // Refusal: arbitrator to host, instead of a Raft answer (R25)
	KindHung     Kind = 5  // Term: the leader's disk hangs, please take over (R43)
	KindGoodbye  Kind = 6  // the sender stops now: its groups may campaign at once (R32)
	KindPing     Kind = 7  // host to arbitrator: are you there? (R19)
	KindPong     Kind = 8  // the arbitrator's answer to a ping
	KindEnroll   Kind = 9  // Enroll: mnode leader to arbitrator (R25, pitfall 11)
	KindEnrolled Kind = 10 // Enroll, echoed: the record is durable
	KindRetire   Kind = 11 // Enroll: forget this replica for ever (R24)
	KindRetired  Kind = 12 // Enroll, echoed: the record is gone
	KindHeld     Kind = 13 // Index: every member holds the log up to here; older entries may be cut
	KindPosition Kind = 14 // host to arbitrator: how far does your record reach? Answered in kind: Term, Index (R35)
	KindUnready  Kind = 15 // Term: a replica that was handed the lead could not serve yet; its leader stays (R33)
)

// Message is one thing that a member says to another about one group. From and
// To are replica ids of that group; the identities of the two directories
// belong to the connection, which has checked them.
type Message struct {
	Kind     Kind
	Group    id.Group   // zero for KindGoodbye, KindPing, KindPong
	From, To id.Replica // zero where the kind is about hosts

	Raft *raftpb.Message // KindRaft
	// Lease accompanies a heartbeat to the arbitrator: the leader is well and
	// wants no election for a while (R26). False while its disk hangs (R43).
	Lease   bool
	Feed    *Feed    // KindFeed
	Answer  *Answer  // KindAnswer
	Refusal Refusal  // KindRefusal
	Term    id.Term  // KindHung, KindPosition, KindUnready
	Enroll  *Enroll  // KindEnroll to KindRetired
	Index   id.Index // KindHeld, KindPosition
}

// MaxFeedEntries bounds Last - Base of a Feed (R11b). The arbitrator refuses a
// longer one before it allocates anything for it.
const MaxFeedEntries = 4096

// leaderGone begins the context of a vote request whose sender knows that the
// process of the last leader has ended.
const leaderGone = "LeaderGone"

// LeaderGone is the context of a request for a vote or a pre-vote of a replica
// that knows for certain that the process of its last leader, in directory u, has
// ended (R32): a lease which that host asked the arbitrator for is over (R26).
func LeaderGone(u id.UUID) []byte { return append([]byte(leaderGone), u[:]...) }

// GoneLeader reads what LeaderGone wrote; false: the context says something else.
func GoneLeader(context []byte) (u id.UUID, ok bool) {
	rest, found := bytes.CutPrefix(context, []byte(leaderGone))
	if !found || len(rest) != len(u) {
		return id.UUID{}, false
	}
	return id.UUID(rest), true
}

// Run says that entries First and after it, up to the next run or the end, were
// written in Term.
type Run struct {
	First id.Index
	Term  id.Term
}

// Feed is all that the arbitrator is ever told about a group's log: a position
// and, above it, which entry belongs to which term. It is idempotent: the
// arbitrator may receive it twice, late or never (R11).
//
// Invariants, checked by Check at the decoder's gate:
//
//	Base <= Last <= Base + MaxFeedEntries, Commit <= Last
//	Runs is empty when Last == Base; else Runs[0].First == Base+1
//	Runs[i+1].First > Runs[i].First, Runs[i+1].Term > Runs[i].Term
//	Runs[0].Term >= BaseTerm, last run's Term <= Term
type Feed struct {
	Seq           uint64   // counts feeds of one leader in one term, from 1
	Term          id.Term  // the leader's term
	Base          id.Index // the arbitrator's log may start here
	BaseTerm      id.Term
	BaseCommitted bool // Base <= the leader's commit index: the arbitrator may jump to it
	Runs          []Run
	Last          id.Index // never above what is durable on the leader's disk (R10)
	Commit        id.Index
	Lease         bool // R26
}

// Check reports the first broken invariant of f.
func (f *Feed) Check() error {
	switch {
	case f.Seq == 0 || f.Term == 0:
		return fmt.Errorf("feed %d of term %d: both count from 1", f.Seq, f.Term)
	case f.Last < f.Base || f.Last-f.Base > MaxFeedEntries:
		return fmt.Errorf("feed of entries %d to %d: at most %d", f.Base, f.Last, MaxFeedEntries)
	case f.Commit > f.Last:
		return fmt.Errorf("feed commits %d above its last entry %d", f.Commit, f.Last)
	case (f.Base == 0) != (f.BaseTerm == 0):
		return fmt.Errorf("feed starts after entry %d of term %d: both or none", f.Base, f.BaseTerm)
	case f.BaseTerm > f.Term:
		return fmt.Errorf("feed of term %d starts in later term %d", f.Term, f.BaseTerm)
	case (len(f.Runs) == 0) != (f.Last == f.Base):
		return fmt.Errorf("feed of entries %d to %d has %d runs", f.Base, f.Last, len(f.Runs))
	}
	at, term := f.Base, f.BaseTerm
	for i, r := range f.Runs {
		switch {
		case i == 0 && r.First != f.Base+1, i > 0 && r.First <= at, r.First > f.Last:
			return fmt.Errorf("feed run %d starts at %d after %d", i, r.First, at)
		case r.Term < term || (i > 0 && r.Term == term) || r.Term > f.Term || r.Term == 0:
			return fmt.Errorf("feed run %d has term %d after %d in term %d", i, r.Term, term, f.Term)
		}
		at, term = r.First, r.Term
	}
	return nil
}

// Answer is the arbitrator's one answer to one feed (R12).
type Answer struct {
	Seq        uint64   // of the feed that is answered
	Term       id.Term  // the arbitrator's term; above the feed's: the leader is deposed
	Last       id.Index // everything up to here is durable on the arbitrator
	Reject     bool     // the feed did not fit its log: resend with Base = commit (R13)
	Generation uint64   // counts the arbitrator's syncs; never goes back (R30)
}

// Refusal says why the arbitrator gives no Raft answer. The numbers are part of
// the wire format.
type Refusal uint8

// The refusals of R25 and R11b.
const (
	WrongWitness Refusal = 1 // this replica id was never enrolled in this directory
	UnknownGroup Refusal = 2 // no record of this group: enrol first
	Tainted      Refusal = 3 // the record is behind what it once acknowledged
	TooLong      Refusal = 4 // a feed above MaxFeedEntries
	Retired      Refusal = 5 // the replica was retired for ever
	Full         Refusal = 6 // no room for another record of this cluster
)

func (r Refusal) String() string {
	switch r {
	case WrongWitness:
		return "wrong witness"
	case UnknownGroup:
		return "unknown group"
	case Tainted:
		return "tainted"
	case TooLong:
		return "feed too long"
	case Retired:
		return "retired"
	case Full:
		return "no room"
	}
	return fmt.Sprintf("refusal %d", uint8(r))
}

// Enroll asks the arbitrator to keep a record for one replica id of one group,
// bound to its own directory. Asking twice is harmless; a replica id that is
// bound to another directory, or was retired, is refused.
type Enroll struct {
	Witness id.UUID // the directory that is to vote
}
