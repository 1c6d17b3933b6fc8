package arbitrator

import (
	"fmt"
	"math"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Check reports the first broken invariant of r. The store calls it on what it
// reads; behind that gate the machine trusts its records.
func (r *Record) Check() error {
	switch {
	case r.Cluster == 0 || r.Group == 0 || !usable(r.Replica):
		return fmt.Errorf("record of cluster %d, group %d, replica %d: no such name", r.Cluster, r.Group, r.Replica)
	case r.Commit > r.Last:
		return fmt.Errorf("record commits %d above its last entry %d", r.Commit, r.Last)
	case (r.Commit == 0) != (r.CommitTerm == 0) || r.CommitTerm > r.Term:
		return fmt.Errorf("record of term %d commits %d of term %d", r.Term, r.Commit, r.CommitTerm)
	case (len(r.Runs) == 0) != (r.Commit == r.Last):
		return fmt.Errorf("record of entries %d to %d has %d runs", r.Commit, r.Last, len(r.Runs))
	case r.Retired && (r.Term != 0 || r.Vote != 0 || r.Last != 0 || r.Tainted):
		return fmt.Errorf("retired record of replica %d is not empty", r.Replica)
	}
	at, term := r.Commit, r.CommitTerm
	for i, run := range r.Runs {
		if run.First <= at || run.First > r.Last || (i == 0 && run.First != at+1) {
			return fmt.Errorf("record run %d starts at %d after %d", i, run.First, at)
		}
		if run.Term < term || (i > 0 && run.Term == term) || run.Term > r.Term || run.Term == 0 {
			return fmt.Errorf("record run %d has term %d after %d in term %d", i, run.Term, term, r.Term)
		}
		at, term = run.First, run.Term
	}
	return nil
}

// usable reports whether the Raft library takes r for the id of a replica: zero
// is nobody and the two highest are its own storage threads.
func usable(r id.Replica) bool { return r != 0 && r < math.MaxUint64-1 }

// termAt returns the term of entry i, which must be within Commit..Last.
func (r *Record) termAt(i id.Index) id.Term {
	for k := len(r.Runs) - 1; k >= 0; k-- {
		if r.Runs[k].First <= i {
			return r.Runs[k].Term
		}
	}
	return r.CommitTerm
}

// holds reports whether entry i of that term is in the record's log.
func (r *Record) holds(i id.Index, term id.Term) bool {
	return r.Commit <= i && i <= r.Last && r.termAt(i) == term
}

// jump makes the log start after a committed entry that it does not hold.
func (r *Record) jump(to id.Index, term id.Term) {
	r.Commit, r.CommitTerm, r.Last, r.Runs = to, term, to, nil
}

// replace makes entries the end of the log. They follow each other without a
// gap, and the first of them is above Commit and at most Last+1.
func (r *Record) replace(entries []*raftpb.Entry) {
	first := id.Index(entries[0].GetIndex())
	kept := 0
	for kept < len(r.Runs) && r.Runs[kept].First < first {
		kept++
	}
	runs := append([]peer.Run(nil), r.Runs[:kept]...)
	for _, e := range entries {
		if term := id.Term(e.GetTerm()); len(runs) == 0 || runs[len(runs)-1].Term != term {
			runs = append(runs, peer.Run{First: id.Index(e.GetIndex()), Term: term})
		}
	}
	r.Runs, r.Last = runs, id.Index(entries[len(entries)-1].GetIndex())
}

// compact moves Commit up to i, which is in the log, and forgets what is below.
func (r *Record) compact(i id.Index) {
	term := r.termAt(i)
	var runs []peer.Run
	if i < r.Last {
		runs = append(runs, peer.Run{First: i + 1, Term: r.termAt(i + 1)})
		for _, run := range r.Runs {
			if run.First > i+1 {
				runs = append(runs, run)
			}
		}
	}
	r.Commit, r.CommitTerm, r.Runs = i, term, runs
}

// storage shows a Record to the Raft library. It is read only: what the library
// wants written comes back through Ready.
type storage struct{ rec *Record }

// InitialState names no member: votes and appends look at no configuration, so
// the arbitrator needs none (R8), and one that is none can't campaign (R6).
func (s storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return &raftpb.HardState{
		Term: new(uint64(s.rec.Term)), Vote: new(uint64(s.rec.Vote)), Commit: new(uint64(s.rec.Commit)),
	}, &raftpb.ConfState{}, nil
}

// onlyVoter is the configuration in a jump: the library takes a snapshot only if
// it names whoever it is for.
func onlyVoter(r id.Replica) *raftpb.ConfState {
	return &raftpb.ConfState{Voters: []uint64{uint64(r)}}
}

// Entries returns at least one entry; how many bytes of them does not matter,
// because nobody reads them.
func (s storage) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	if id.Index(lo) <= s.rec.Commit {
		return nil, raft.ErrCompacted
	}
	if id.Index(hi) > s.rec.Last+1 {
		return nil, raft.ErrUnavailable
	}
	const entryBytes = 16 // about what the library counts for one without data
	n := min(hi-lo, max(1, maxBytes/entryBytes))
	s2 := newSlab(int(n))
	for i := lo; i < lo+n; i++ {
		s2.add(id.Index(i), s.rec.termAt(id.Index(i)))
	}
	return s2.entries, nil
}

func (s storage) Term(i uint64) (uint64, error) {
	switch at := id.Index(i); {
	case at < s.rec.Commit:
		return 0, raft.ErrCompacted
	case at > s.rec.Last:
		return 0, raft.ErrUnavailable
	default:
		return uint64(s.rec.termAt(at)), nil
	}
}

func (s storage) LastIndex() (uint64, error)  { return uint64(s.rec.Last), nil }
func (s storage) FirstIndex() (uint64, error) { return uint64(s.rec.Commit) + 1, nil }

// Snapshot is asked for by leaders only, which the arbitrator never is.
func (s storage) Snapshot() (*raftpb.Snapshot, error) {
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

// slab makes entries without data in three allocations, however many they are.
type slab struct {
	entries []*raftpb.Entry
	values  []raftpb.Entry
	numbers []uint64
}

func newSlab(n int) *slab {
	return &slab{
		entries: make([]*raftpb.Entry, 0, n),
		values:  make([]raftpb.Entry, n),
		numbers: make([]uint64, 2*n),
	}
}

func (s *slab) add(i id.Index, term id.Term) {
	k := len(s.entries)
	e, n := &s.values[k], s.numbers[2*k:2*k+2]
	n[0], n[1] = uint64(i), uint64(term)
	e.Index, e.Term = &n[0], &n[1]
	s.entries = append(s.entries, e)
}

// entriesOf spells a feed's runs out.
func entriesOf(f *peer.Feed) []*raftpb.Entry {
	s := newSlab(int(f.Last - f.Base))
	for k, run := range f.Runs {
		end := f.Last + 1
		if k+1 < len(f.Runs) {
			end = f.Runs[k+1].First
		}
		for i := run.First; i < end; i++ {
			s.add(i, run.Term)
		}
	}
	return s.entries
}
