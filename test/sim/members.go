package main

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// config is who votes in a group: the incoming half and, while a change is under
// way, the outgoing one. The checker makes it from the log, not from what a
// machine says.
type config struct {
	at       id.Index // of the entry that made it
	in, out  []id.Replica
	learners []id.Replica
}

func (c *config) joint() bool { return len(c.out) > 0 }

// change returns the configuration after the membership entry data at index i,
// by the rules of Raft's joint consensus.
func (c *config) change(i id.Index, e *entry) (*config, error) {
	var v2 raftpb.ConfChangeV2
	if raftpb.EntryType(e.kind) == raftpb.EntryConfChange {
		var v1 raftpb.ConfChange
		if err := proto.Unmarshal(e.data, &v1); err != nil {
			return nil, err
		}
		v2.Changes = v1.AsV2().Changes
	} else if err := proto.Unmarshal(e.data, &v2); err != nil {
		return nil, err
	}
	next := &config{at: i, in: slices.Clone(c.in), out: slices.Clone(c.out), learners: slices.Clone(c.learners)}
	if v2.LeaveJoint() {
		next.out = nil
		return next, nil
	}
	if c.joint() {
		return nil, errJoint
	}
	if _, joint := v2.EnterJoint(); joint {
		next.out = slices.Clone(c.in)
	}
	for _, ch := range v2.Changes {
		r := id.Replica(ch.GetNodeId())
		next.in = without(next.in, r)
		next.learners = without(next.learners, r)
		switch ch.GetType() {
		case raftpb.ConfChangeAddNode:
			next.in = append(next.in, r)
		case raftpb.ConfChangeAddLearnerNode:
			next.learners = append(next.learners, r)
		}
	}
	slices.Sort(next.in)
	return next, nil
}

type constError string

func (e constError) Error() string { return string(e) }

const errJoint = constError("a membership change entered while another is under way")

func without(list []id.Replica, r id.Replica) []id.Replica {
	return slices.DeleteFunc(list, func(x id.Replica) bool { return x == r })
}

// quorum reports whether those for whom has holds are a majority of every half.
func (c *config) quorum(has func(id.Replica) bool) bool {
	for _, half := range [][]id.Replica{c.in, c.out} {
		n := 0
		for _, r := range half {
			if has(r) {
				n++
			}
		}
		if len(half) > 0 && n <= len(half)/2 {
			return false
		}
	}
	return true
}

// voters lists everyone with a vote.
func (c *config) voters() []id.Replica {
	all := slices.Clone(c.in)
	for _, r := range c.out {
		if !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	return all
}
