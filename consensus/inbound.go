package consensus

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// inbound is the copy of another replica's state that this one receives, because
// its leader's log no longer reaches back to where its own ends.
//
//	       the leader's log      it is complete,      this term's leader      the record
//	       begins too late       durable, checked     offered, all applied    is durable
//	none ─────────────────▶ fetching ──────────▶ fetched ──────────▶ named ──────────▶ installing
//	 ▲                          │ failed            │ not needed                           │
//	 └──────────────────────────┴───────────────────┴──────────────────────────────────────┘
//
// A leader that cannot send entries offers a snapshot, once a second until the
// follower is back in its log: the offer is a small message without state, which
// may be lost or come twice. A replica that needs no copy, or no longer, answers
// with what it holds, so a lost acknowledgement repairs itself.
//
// Named means that one Write makes the log begin after the copy: start, hard
// state, members and mark together. Until it is durable a crash leaves the old
// state and the old log, afterwards the copy and the new log, and only then is
// the entry acknowledged (R3, R4). Vote and term stay what they are.
type inbound struct {
	state    inboundState
	attempt  uint64 // of the Fetch
	image    Image  // from fetched on
	conf     configuration
	offer    *raftpb.Message // the newest, nil: none yet
	offerBy  id.UUID
	failures int // one after the other
	retryAt  time.Duration
}

type inboundState uint8

const (
	inboundNone inboundState = iota
	inboundFetching
	inboundFetched
	inboundNamed
	inboundInstalling
)

// The bounds of copies on one host. Whoever finds no room is offered or asks
// again.
const (
	maxFetches = 2 // that this host receives at once
	maxPins    = 4 // that others read here at once

	retryFetch     = time.Second      // after a failure; doubled with each one after the other
	retryFetchMost = 30 * time.Second // less than whoever serves it keeps what it has opened
)

// Image names what a state machine holds at one moment, with the configuration
// that is in force then. Only Capture makes one.
type Image struct {
	Index id.Index // of the last entry that was handed to the state machine
	Term  id.Term  // of that entry
	// Record is the configuration, encoded: only decodeConf reads it.
	Record []byte
}

// whereLogBegins is an offer as it goes over the wire: the library's, with the
// position after which the sender's log begins in fields that it leaves empty.
// A follower that has this entry needs no copy.
func (g *group) whereLogBegins(msg *raftpb.Message) *raftpb.Message {
	index, term := uint64(g.log.start.Index), uint64(g.log.start.Term)
	return &raftpb.Message{
		Type: msg.Type, From: msg.From, To: msg.To, Term: msg.Term, Snapshot: msg.Snapshot,
		Index: &index, LogTerm: &term,
	}
}

// image is what the state machine will hold once everything handed to it is
// applied. There is none while entries are replayed that are older than the
// configuration.
func (g *group) image() (Image, bool) {
	handed := g.appliedIndex
	if n := len(g.applying); n > 0 {
		handed = g.applying[n-1].last
	}
	if handed < g.confIndex || g.takesCopy() {
		return Image{}, false
	}
	term, err := g.log.term(handed)
	if err != nil {
		return Image{}, false
	}
	return Image{Index: handed, Term: term, Record: g.encodeConf(nil, g.conf)}, true
}

// snapshotMetadata answers raft.Storage.Snapshot: a position and a
// configuration, never data (R3).
func (g *group) snapshotMetadata() (*raftpb.Snapshot, error) {
	image, ok := g.image()
	if !ok {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	index, term := uint64(image.Index), uint64(image.Term)
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: g.conf}}, nil
}

// offered handles a leader's offer of a snapshot.
func (m *Machine) offered(g *group, from id.UUID, msg *raftpb.Message) {
	m.drain(g) // so that the log is the library's
	begins := wal.Position{Index: id.Index(msg.GetIndex()), Term: id.Term(msg.GetLogTerm())}
	g.inbound.offer, g.inbound.offerBy = msg, from
	if in := &g.inbound; in.state == inboundFetched {
		switch {
		case in.image.Index <= g.commit():
			m.out.report(g.id, false, "copy not needed, the log has helped", "index", in.image.Index)
			*in = inbound{}
		case len(g.applying) == 0:
			m.takeImage(g, msg)
			return
		}
	}
	if g.holds(begins) {
		m.stepSnapshot(g, msg, begins, g.conf)
		return
	}
	if g.role == raft.StateFollower && g.leader == id.Replica(msg.GetFrom()) && uint64(g.hardTerm()) == msg.GetTerm() {
		m.fetch(g, from, g.commit())
	}
}

// holds reports whether this replica's log has, or had, the entry at p.
func (g *group) holds(p wal.Position) bool {
	if p.Index <= g.commit() {
		return true
	}
	term, err := g.log.term(p.Index)
	return err == nil && term == p.Term
}

// stepSnapshot hands the library a leader's offer with another position: that of
// the copy, which it takes, or one that this replica holds. To that it answers
// how far it is, after everything that it has yet to write.
func (m *Machine) stepSnapshot(g *group, msg *raftpb.Message, at wal.Position, conf *raftpb.ConfState) {
	index, term := uint64(at.Index), uint64(at.Term)
	_ = g.node.Step(&raftpb.Message{ // of an older term: refused, which is right
		Type: msg.Type, From: msg.From, To: msg.To, Term: msg.Term,
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: conf}},
	})
	m.drain(g)
}

// fetch begins a copy, if there is room for one.
func (m *Machine) fetch(g *group, from id.UUID, above id.Index) {
	if g.inbound.state != inboundNone || m.full || m.stopping || m.now < g.inbound.retryAt || m.fetches() >= maxFetches {
		return
	}
	m.attempts++
	g.inbound.state, g.inbound.attempt = inboundFetching, m.attempts
	m.out.answers = append(m.out.answers, Fetch{Group: g.id, Attempt: m.attempts, From: from, Above: above})
}

func (m *Machine) fetches() (n int) {
	for _, g := range m.groups {
		if g.fault == nil && g.inbound.state == inboundFetching {
			n++
		}
	}
	return n
}

// fetched handles the end of a Fetch.
func (m *Machine) fetched(g *group, e Fetched) {
	in := &g.inbound
	if in.state != inboundFetching || in.attempt != e.Attempt {
		return
	}
	if e.Err != nil { // the shell has said so
		m.later(in)
		return
	}
	conf, err := decodeConf(e.Image.Record)
	if err == nil {
		err = conf.admits(g.self, m.self)
	}
	if err != nil {
		m.unfit(g, err)
		return
	}
	in.conf = conf
	in.state, in.image = inboundFetched, e.Image
	// Of an older term: the next offer decides whether it is still needed.
	if in.offer != nil && in.offer.GetTerm() == uint64(g.hardTerm()) {
		m.offered(g, in.offerBy, in.offer)
	}
}

// later gives a copy up. An offer after a while begins another one.
func (m *Machine) later(in *inbound) {
	wait := min(retryFetch<<min(in.failures, 6), retryFetchMost)
	*in = inbound{failures: in.failures + 1, retryAt: m.now + wait}
}

// unfit gives up a copy that this replica can't use.
func (m *Machine) unfit(g *group, err error) {
	m.out.report(g.id, true, "copy refused", "err", err)
	m.later(&g.inbound)
}

// takeImage hands the library the copy in place of the leader's offer, of which
// it knows no more than that. Any state that was committed and applied will do.
func (m *Machine) takeImage(g *group, msg *raftpb.Message) {
	in := &g.inbound
	m.stepSnapshot(g, msg, wal.Position{Index: in.image.Index, Term: in.image.Term}, in.conf.state)
	if in.state == inboundFetched && uint64(g.hardTerm()) == msg.GetTerm() {
		m.unfit(g, errUnfit)
	}
}

var errUnfit = errors.New("the copy does not fit this replica's log")

// name makes the log begin after the copy.
func (m *Machine) name(g *group, hard wal.HardState, s *raftpb.Snapshot) {
	in := &g.inbound
	at := wal.Position{Index: id.Index(s.GetMetadata().GetIndex()), Term: id.Term(s.GetMetadata().GetTerm())}
	if in.state != inboundFetched || at.Index != in.image.Index || at.Index <= g.appliedIndex {
		panic(fmt.Sprintf("snapshot of entry %d, the copy is of %d (state %d), applied %d",
			at.Index, in.image.Index, in.state, g.appliedIndex))
	}
	in.state = inboundNamed
	for _, mem := range in.conf.members {
		g.members[mem.Replica] = mem
		delete(g.strangers, mem.Replica)
	}
	g.confIndex = in.conf.index
	g.setConf(in.conf.state)
	m.noteWitnesses(g)
	m.write(g, wal.Op{Start: &at, Hard: &hard, Meta: g.encodeMeta(g.conf), Mark: at.Index})
	g.log.restart(g.writeSeq, at)
	g.mark, g.held = at.Index, max(g.held, at.Index)
	g.lazy.hard, g.lazy.cut = nil, 0
}

// install makes the copy the state, now that the log names it durably. The
// library goes on as if it were: it can't tell where its log ends while it has
// entries above a snapshot that it takes for unwritten. What it hands out from
// here on stands behind the copy in the queue, and applied is only what has come
// back from there.
func (m *Machine) install(g *group) {
	in := &g.inbound
	in.state = inboundInstalling
	g.applying = append(g.applying, applying{last: in.image.Index})
	m.out.applies = append(m.out.applies, Install{Group: g.id, Index: in.image.Index})
}

// takesCopy reports whether a copy is on its way to become the state: until then
// this replica can serve nobody, so it does not ask for votes.
func (g *group) takesCopy() bool { return g.inbound.state >= inboundNamed }

// installed ends a copy. If there is no leader by then, this replica campaigns.
func (m *Machine) installed(g *group, i id.Index) {
	if in := &g.inbound; in.state == inboundInstalling && i >= in.image.Index {
		m.out.report(g.id, false, "copy installed", "index", in.image.Index)
		*in = inbound{}
		if g.leader == 0 && g.canLead() {
			_ = g.node.Campaign()
		}
	}
}

// admits checks that a configuration from another host has a place for replica r
// of directory u, and binds every member.
func (c *configuration) admits(r id.Replica, u id.UUID) error {
	for _, list := range [][]uint64{c.state.GetVoters(), c.state.GetVotersOutgoing(), c.state.GetLearners(), c.state.GetLearnersNext()} {
		for _, n := range list {
			if !slices.ContainsFunc(c.members, func(mem Member) bool { return mem.Replica == id.Replica(n) }) {
				return fmt.Errorf("replica %d of the configuration at entry %d is bound to no directory", n, c.index)
			}
		}
	}
	for _, mem := range c.members {
		if mem.Replica == r && mem.UUID == u && !mem.Witness {
			return nil
		}
	}
	return fmt.Errorf("replica %d of this directory has no place in the configuration at entry %d", r, c.index)
}
