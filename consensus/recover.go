package consensus

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

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

	conf *raftpb.ConfState // as of the last entry
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
		if r.conf, err = confAt(log, g, cs, max(r.Mark, g.confIndex), s.Last.Index); err != nil {
			return nil, fmt.Errorf("read the changes of members of group %d: %w", s.Group, err)
		}
		for _, mem := range g.members {
			r.Members = append(r.Members, mem)
		}
		slices.SortFunc(r.Members, func(a, b Member) int { return int(a.Replica) - int(b.Replica) })
		list = append(list, r)
	}
	return list, nil
}

// confAt returns the configuration cs as the entries after from, up to last, have
// changed it.
func confAt(log LogReader, g *group, cs *raftpb.ConfState, from, last id.Index) (_ *raftpb.ConfState, err error) {
	defer func() {
		if p := recover(); p != nil { // the library's word for a change that can't be
			err = fmt.Errorf("broken invariant: %v", p)
		}
	}()
	l := &groupLog{start: wal.Position{Index: 1, Term: 1}, last: wal.Position{Index: 1, Term: 1}, hard: wal.HardState{Term: 1, Commit: 1}, initial: cs}
	node, err := raft.NewRawNode(&raft.Config{
		ID: uint64(g.self), Storage: l, Applied: 1, ElectionTick: 10, HeartbeatTick: 1, MaxInflightMsgs: 1, Logger: panicLogger{},
	})
	for i := from + 1; err == nil && i <= last; {
		var stored []wal.Entry
		if stored, err = log.Entries(g.id, i, last+1, 1<<20); err != nil {
			break
		}
		for _, e := range stored {
			i = e.Index + 1
			if e.Type == uint8(raftpb.EntryNormal) {
				continue
			}
			var cc raftpb.ConfChangeV2
			if err = proto.Unmarshal(e.Data, &cc); err != nil {
				return nil, fmt.Errorf("entry %d: %w", e.Index, err)
			}
			cs = node.ApplyConfChange(&cc)
		}
	}
	return cs, err
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
// nothing reaches it any more. The change is in the log as well, for members that
// join later and learn everything from it; data, if there are any, follow it.
//
// Invariant: the new id was never given to anybody, and the change is durable
// before the host says anything to anyone.
func (r Remains) Only(as id.Replica, directory id.UUID, data ...[]byte) wal.Op {
	term := r.Term + 1 // of which nobody has heard under this id
	op := wal.Op{Group: r.Group}
	last := r.Last.Index
	add := func(kind raftpb.EntryType, data []byte) {
		last++
		op.Entries = append(op.Entries, wal.Entry{Index: last, Term: term, Type: uint8(kind), Data: data})
	}
	member := Member{Replica: as, UUID: directory}
	if len(r.conf.GetVotersOutgoing()) > 0 {
		add(raftpb.EntryConfChangeV2, nil) // ends a joint change
	}
	add(raftpb.EntryConfChangeV2, r.change(member))
	add(raftpb.EntryConfChangeV2, nil)
	for _, d := range data {
		add(raftpb.EntryNormal, d)
	}
	// Here the changes are done: what is up to confIndex is not applied again.
	g := &group{id: r.Group, self: as, formed: true, confIndex: last, members: map[id.Replica]Member{as: member}}
	op.Meta = g.encodeMeta(&raftpb.ConfState{Voters: []uint64{uint64(as)}})
	op.Hard = &wal.HardState{Term: term, Vote: as, Commit: last}
	return op
}

// change is the joint change from everybody whom the log knows to one member.
func (r Remains) change(to Member) []byte {
	cc := &raftpb.ConfChangeV2{
		Transition: raftpb.ConfChangeTransitionJointExplicit.Enum(), Context: encodeMembers(nil, []Member{to}),
		Changes: []*raftpb.ConfChangeSingle{{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(uint64(to.Replica))}},
	}
	gone := slices.Concat(r.conf.GetVoters(), r.conf.GetLearners(), r.conf.GetLearnersNext())
	slices.Sort(gone)
	for _, n := range slices.Compact(gone) {
		cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: proto.Uint64(n)})
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(cc)
	if err != nil {
		panic(fmt.Sprintf("group %d: encode change of members: %v", r.Group, err))
	}
	return b
}
