package arbitrator

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// campaignTransfer marks the votes of an election that the leader itself asked
// for: a lease does not stand in its way. The library sends it as Context.
var campaignTransfer = []byte("CampaignTransfer")

// raftMessage handles a message of the Raft library: votes and heartbeats. All
// other kinds are dropped: the arbitrator never campaigns, leads or serves
// reads (R6), and its log comes as feeds (R9).
func (m *Machine) raftMessage(now time.Duration, rep *replica, from id.UUID, msg *peer.Message) {
	in := msg.Raft
	if in == nil || in.GetFrom() != uint64(msg.From) || in.GetTo() != uint64(msg.To) || in.GetTerm() == 0 {
		return
	}
	term := id.Term(in.GetTerm())
	switch in.GetType() {
	case raftpb.MsgVote, raftpb.MsgPreVote:
		if u, ok := peer.GoneLeader(in.GetContext()); ok && rep.leaseFrom == u {
			rep.leaseUntil = 0 // R32: its process has ended
		}
		if now < rep.leaseUntil && term > rep.Term && !bytes.Equal(in.GetContext(), campaignTransfer) {
			m.counts.Leased++
			return // R26: the leader is well, says the leader
		}
		m.counts.Votes++
	case raftpb.MsgHeartbeat:
		if term == rep.Term && id.Index(in.GetCommit()) > rep.Last {
			m.taint(rep, "commit", in.GetCommit(), "last", rep.Last)
			m.refuse(rep, from, msg, peer.Tainted)
			return // R25 (3)
		}
		m.counts.Heartbeats++
	default:
		return
	}
	out, err := rep.run(in)
	m.settle(rep, err)
	if err != nil {
		m.refuse(rep, from, msg, peer.Tainted)
		return
	}
	if in.GetType() == raftpb.MsgHeartbeat && term == rep.Term {
		rep.lease(now, m.cfg.Lease, from, msg.Lease)
	}
	for _, o := range out {
		if o.GetTo() == uint64(msg.From) {
			m.answer(rep, from, peer.Message{Kind: peer.KindRaft, Group: msg.Group, From: msg.To, To: msg.From, Raft: o})
		}
	}
}

// feed handles what a leader says about its log, with exactly one answer (R12).
func (m *Machine) feed(now time.Duration, rep *replica, from id.UUID, msg *peer.Message) {
	f := msg.Feed
	if rep.newest.step == m.step && rep.newest.after(f) {
		m.counts.Superseded++
		return // a newer one came in the same batch (R12)
	}
	m.counts.Feeds++
	if m.tooLong(rep, f) {
		m.refuse(rep, from, msg, peer.TooLong)
		return
	}
	if f.Check() != nil {
		return // the decoder would have closed the connection
	}
	out, err := rep.run(rep.fromFeed(f, msg.From)...)
	m.settle(rep, err)
	if err != nil {
		m.refuse(rep, from, msg, peer.Tainted)
		return
	}
	if f.Term == rep.Term {
		rep.lease(now, m.cfg.Lease, from, f.Lease)
	}
	if len(out) == 0 {
		return
	}
	last := out[len(out)-1] // the jump's answer is not for the leader (R12)
	a := &peer.Answer{Seq: f.Seq, Term: id.Term(last.GetTerm()), Reject: last.GetReject()}
	if !a.Reject && a.Term == f.Term {
		a.Last = id.Index(last.GetIndex())
	}
	m.answer(rep, from, peer.Message{Kind: peer.KindAnswer, Group: msg.Group, From: msg.To, To: msg.From, Answer: a})
}

// maxRecordRuns bounds the runs of one record, which must fit the store. Each
// stands for an election that was won and never led to a commit.
const maxRecordRuns = 2048

// tooLong reports whether f is more than the arbitrator is willing to hold
// (R11b).
func (m *Machine) tooLong(rep *replica, f *peer.Feed) bool {
	return f.Last >= f.Base && f.Last-f.Base > peer.MaxFeedEntries ||
		len(rep.Runs)+len(f.Runs) > maxRecordRuns ||
		m.clusters[rep.Cluster].runs+len(f.Runs) > m.cfg.MaxRuns
}

// fromFeed turns a feed into what the leader could have sent as a stock member
// of the group: a jump, where our log does not reach the feed's base and the
// base is committed, and an append of entries without data.
func (r *replica) fromFeed(f *peer.Feed, leader id.Replica) []*raftpb.Message {
	var in []*raftpb.Message
	from, to, term := new(uint64(leader)), new(uint64(r.Replica)), new(uint64(f.Term))
	if f.BaseCommitted && f.Base > r.Commit && !r.holds(f.Base, f.BaseTerm) {
		in = append(in, &raftpb.Message{
			Type: raftpb.MsgSnap.Enum(), From: from, To: to, Term: term,
			Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
				Index: new(uint64(f.Base)), Term: new(uint64(f.BaseTerm)), ConfState: onlyVoter(r.Replica), // R8
			}},
		})
	}
	return append(in, &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: from, To: to, Term: term,
		Index: new(uint64(f.Base)), LogTerm: new(uint64(f.BaseTerm)),
		Entries: entriesOf(f), Commit: new(uint64(f.Commit)),
	})
}

// run builds a RawNode from the record, steps in through it and takes the
// changed state back (R25 (5)). The node lives no longer than the call. After
// an error, which is a panic of the library (R5), the record is as before.
func (r *replica) run(in ...*raftpb.Message) (out []*raftpb.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("raft library: %v", p)
		}
	}()
	node, err := raft.NewRawNode(&raft.Config{
		ID: uint64(r.Replica), Storage: storage{&r.Record},
		ElectionTick: 10, HeartbeatTick: 1, // it never ticks
		PreVote: true, CheckQuorum: true, // so that it answers stale leaders with its term
		MaxInflightMsgs: 1,
		// Committed entries are of no interest: have as few as possible made.
		MaxCommittedSizePerReady: 1,
		Logger:                   quiet{},
	})
	if err != nil {
		return nil, fmt.Errorf("build node: %w", err)
	}
	for _, msg := range in {
		if err := node.Step(msg); err != nil && !errors.Is(err, raft.ErrProposalDropped) {
			return nil, fmt.Errorf("step %v: %w", msg.GetType(), err)
		}
	}
	if !node.HasReady() {
		return nil, nil
	}
	rd := node.Ready()
	r.take(&rd)
	return rd.Messages, nil
}

// take applies what the library wants stored and notes what has changed.
func (r *replica) take(rd *raft.Ready) {
	next := r.Record
	if !raft.IsEmptySnap(rd.Snapshot) {
		at := rd.Snapshot.GetMetadata()
		next.jump(id.Index(at.GetIndex()), id.Term(at.GetTerm()))
		r.changed = mustSync
	}
	if len(rd.Entries) > 0 {
		next.replace(rd.Entries)
		r.changed = mustSync
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		if id.Term(rd.GetTerm()) != r.Term {
			r.leaseUntil = 0 // it was the old leader's
		}
		next.Term, next.Vote = id.Term(rd.GetTerm()), id.Replica(rd.GetVote())
		if next.Term != r.Term || next.Vote != r.Vote {
			r.changed = mustSync
		}
		if c := id.Index(rd.GetCommit()); c > next.Commit {
			next.compact(c)
			r.changed = max(r.changed, lazily)
		}
	}
	r.Record = next
}

// quiet is a logger that says nothing, except when the library finds its own
// state broken: then it panics, and run turns that into an error.
type quiet struct{}

func (quiet) Debug(...any)            {}
func (quiet) Debugf(string, ...any)   {}
func (quiet) Info(...any)             {}
func (quiet) Infof(string, ...any)    {}
func (quiet) Warning(...any)          {}
func (quiet) Warningf(string, ...any) {}
func (quiet) Error(...any)            {}
func (quiet) Errorf(string, ...any)   {}

func (quiet) Fatal(v ...any)                 { panic(fmt.Sprint(v...)) }
func (quiet) Fatalf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
func (quiet) Panic(v ...any)                 { panic(fmt.Sprint(v...)) }
func (quiet) Panicf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
