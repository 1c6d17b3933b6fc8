package consensus

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// Remains is what the log of a stopped host holds of one group (R35).
type Remains struct {
	Group   id.Group
	Replica id.Replica
	Members []Member // ordered by replica
	Formed  bool
	Mark    id.Index     // the state machine holds everything up to here
	Commit  id.Index     // known to be committed; more may be
	Last    wal.Position // the last entry
	Term    id.Term      // the last one that the replica took part in
}

// ReadRemains lists the groups that a log holds, ordered by group.
func ReadRemains(log LogReader) ([]Remains, error) {
	var list []Remains
	for _, s := range log.Groups() {
		g := &group{id: s.Group, members: map[id.Replica]Member{}}
		cs, err := g.decodeMeta(s.Meta)
		if err != nil {
			return nil, fmt.Errorf("read the record of group %d: %w", s.Group, err)
		}
		g.setConf(cs)
		r := Remains{
			Group: s.Group, Replica: g.self, Formed: g.formed, Mark: max(s.Mark, s.Start.Index), Last: s.Last, Term: s.Hard.Term,
		}
		r.Commit = max(min(s.Hard.Commit, s.Last.Index), r.Mark, g.confIndex)
		for _, mem := range g.members {
			r.Members = append(r.Members, mem)
		}
		slices.SortFunc(r.Members, func(a, b Member) int { return int(a.Replica) - int(b.Replica) })
		list = append(list, r)
	}
	return list, nil
}

// Missing returns how many entries an arbitrator's record, which ends at a
// position, knows of and this log lacks: at least and at most. Nothing that was
// ever acknowledged is missing besides: a leader that could not count on this
// replica told the arbitrator first.
//
// Two logs that have an entry of one index and term are equal up to it. So if
// the record ends in this log's last term, the difference is exact; if it ends
// in a later one, only what is committed is known to be common.
func (r Remains) Missing(record wal.Position) (least, most id.Index) {
	switch {
	case record.Term < r.Last.Term, record.Index <= r.Commit:
		return 0, 0
	case record.Term == r.Last.Term:
		exact := record.Index - min(record.Index, r.Last.Index)
		return exact, exact
	}
	return record.Index - min(record.Index-1, r.Last.Index), record.Index - r.Commit
}

// Only returns the change of the log that makes the replica, under a new id, the
// only member of its group, with everything that its log holds. Under the old id
// nothing reaches it any more. data, if there are any, become the last entries.
//
// Invariant: the new id was never given to anybody, and the change is durable
// before the host says anything to anyone.
func (r Remains) Only(as id.Replica, directory id.UUID, data ...[]byte) wal.Op {
	term := r.Term + 1 // of which nobody has heard under this id
	op := wal.Op{Group: r.Group}
	last := r.Last.Index
	for _, d := range data {
		last++
		op.Entries = append(op.Entries, wal.Entry{Index: last, Term: term, Data: d})
	}
	// The log's own changes of membership are history from here on.
	g := &group{id: r.Group, self: as, formed: true, confIndex: last, members: map[id.Replica]Member{as: {Replica: as, UUID: directory}}}
	op.Meta = g.encodeMeta(&raftpb.ConfState{Voters: []uint64{uint64(as)}})
	op.Hard = &wal.HardState{Term: term, Vote: as, Commit: last}
	return op
}
