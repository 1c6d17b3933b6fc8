package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// ErrRemovesLeader means that a change would remove the leader that was asked
// for it: hand the group over first (R21).
var ErrRemovesLeader = errors.New("the leader can't be removed: transfer leadership first")

// changeMembers proposes a change. The binding of replica ids to directories
// travels in the change itself (R29).
func (m *Machine) changeMembers(e ChangeMembers) {
	g := m.groups[e.Group]
	err := m.mayPropose(g)
	if err == nil {
		m.guard(g, func() { err = m.proposeChange(g, e) })
	}
	if err != nil {
		m.out.refuse(e.Ticket, err)
	}
}

func (m *Machine) proposeChange(g *group, e ChangeMembers) error {
	m.drain(g)
	switch {
	case !g.ready():
		return g.notLeader()
	case len(g.voters[1]) > 0 || g.confAt > g.appliedIndex:
		return ErrChanging
	case in(e.Change.Remove, g.self):
		return ErrRemovesLeader
	}
	if g.already(e.Change) {
		m.out.answers = append(m.out.answers, Accepted{Group: g.id, Ticket: e.Ticket, Index: g.appliedIndex, Term: g.term})
		return nil
	}
	cc := &raftpb.ConfChangeV2{Context: encodeMembers(nil, append(slices.Clone(e.Change.AddLearner), e.Change.AddVoter...))}
	add := func(kind raftpb.ConfChangeType, r id.Replica) {
		cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: kind.Enum(), NodeId: proto.Uint64(uint64(r))})
	}
	for _, mem := range e.Change.AddVoter {
		add(raftpb.ConfChangeAddNode, mem.Replica)
	}
	for _, r := range e.Change.Remove {
		add(raftpb.ConfChangeRemoveNode, r)
	}
	if len(cc.Changes) > 0 { // R22: whatever touches voters is entered and left explicitly
		cc.Transition = raftpb.ConfChangeTransitionJointExplicit.Enum()
	}
	for _, mem := range e.Change.AddLearner {
		add(raftpb.ConfChangeAddLearnerNode, mem.Replica)
	}
	if err := g.node.ProposeConfChange(cc); err != nil {
		return proposalError(g, err)
	}
	g.lastIndex++
	g.confAt = g.lastIndex
	m.touch(g)
	m.out.answers = append(m.out.answers, Accepted{Group: g.id, Ticket: e.Ticket, Index: g.lastIndex, Term: g.term})
	return nil
}

// already reports whether the configuration is what c asks for: whoever repeats
// a change until it is done need not know whether it was.
func (g *group) already(c Change) bool {
	for _, mem := range c.AddVoter {
		if !in(g.voters[0], mem.Replica) {
			return false
		}
	}
	for _, mem := range c.AddLearner {
		if _, there := g.members[mem.Replica]; !there {
			return false
		}
	}
	for _, r := range c.Remove {
		if _, there := g.members[r]; there {
			return false
		}
	}
	return true
}

// applyConf applies a committed change of membership. Changes that the record
// of the group already holds are passed over: after a restart the log is
// replayed from the state machine's checkpoint, which may be older.
func (m *Machine) applyConf(g *group, e *raftpb.Entry) {
	index := id.Index(e.GetIndex())
	if index <= g.confIndex {
		return
	}
	var cc raftpb.ConfChangeV2
	if err := proto.Unmarshal(e.GetData(), &cc); err != nil {
		panic(fmt.Sprintf("membership change at entry %d: %v", index, err))
	}
	bound, err := decodeMembers(cc.Context)
	if err != nil {
		panic(fmt.Sprintf("membership change at entry %d: %v", index, err))
	}
	for _, mem := range bound {
		g.members[mem.Replica] = mem
		delete(g.strangers, mem.Replica)
	}
	g.confIndex = index
	g.setConf(g.node.ApplyConfChange(&cc))
	m.write(g, wal.Op{Meta: g.encodeMeta(g.conf)})
	m.noteWitnesses(g)
	if g.leading() {
		for _, r := range g.dataVoters() {
			if _, ok := g.heard[r]; !ok {
				g.heard[r] = m.now // new: give it D_open to answer
			}
		}
		had := len(g.feeders) > 0
		if g.equipFeeders(); !had {
			g.feed = newFeed(m.conf, m.now)
		}
		if g.feed.doubt(m.now) {
			m.out.report(g.id, false, "feed changed", "from", feedShut.String(), "to", feedClosing.String(), "index", index)
		}
	}
	m.out.report(g.id, false, "members changed", "index", index,
		"voters", fmt.Sprint(g.voters[0]), "outgoing", fmt.Sprint(g.voters[1]), "learners", fmt.Sprint(g.learners))
}

// setConf takes over a configuration and forgets members that it leaves out.
func (g *group) setConf(cs *raftpb.ConfState) {
	g.conf = cs
	g.voters = [2][]id.Replica{replicas(cs.Voters), replicas(cs.VotersOutgoing)}
	g.learners = replicas(cs.Learners)
	for _, r := range replicas(cs.LearnersNext) {
		if !in(g.learners, r) {
			g.learners = append(g.learners, r)
		}
	}
	for r, mem := range g.members {
		mem.Learner = in(g.learners, r)
		g.members[r] = mem
		if !mem.Learner && !in(g.voters[0], r) && !in(g.voters[1], r) {
			delete(g.members, r)
			delete(g.heard, r)
			delete(g.progress, r)
		}
	}
}

func replicas(ids []uint64) []id.Replica {
	list := make([]id.Replica, len(ids))
	for i, r := range ids {
		list[i] = id.Replica(r)
	}
	slices.Sort(list)
	return list
}

// The record of a group in the log (wal.Op.Meta), see docs/format/group.md:
//
//	u8 version, u8 flags (bit 0: formed), uvarint own replica, uvarint index of
//	the configuration, uvarint length of the ConfState, ConfState (protobuf),
//	members
//
// members: uvarint count, then for each uvarint replica, 16 bytes UUID, u8 flags
// (bit 0: witness).
const metaVersion = 1

const (
	flagFormed  = 1
	flagWitness = 1
)

func (g *group) encodeMeta(cs *raftpb.ConfState) []byte {
	b := []byte{metaVersion, 0}
	if g.formed {
		b[1] |= flagFormed
	}
	return g.encodeConf(binary.AppendUvarint(b, uint64(g.self)), cs)
}

// encodeConf appends the configuration, which is also that of an Image.
func (g *group) encodeConf(b []byte, cs *raftpb.ConfState) []byte {
	conf, err := proto.MarshalOptions{Deterministic: true}.Marshal(cs)
	if err != nil {
		panic(fmt.Sprintf("group %d: encode configuration: %v", g.id, err))
	}
	b = binary.AppendUvarint(b, uint64(g.confIndex))
	b = binary.AppendUvarint(b, uint64(len(conf)))
	b = append(b, conf...)
	list := make([]Member, 0, len(g.members))
	for _, mem := range g.members {
		list = append(list, mem)
	}
	slices.SortFunc(list, func(a, b Member) int { return int(a.Replica) - int(b.Replica) })
	return encodeMembers(b, list)
}

func encodeMembers(b []byte, list []Member) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, mem := range list {
		b = binary.AppendUvarint(b, uint64(mem.Replica))
		b = append(b, mem.UUID[:]...)
		var flags byte
		if mem.Witness {
			flags |= flagWitness
		}
		b = append(b, flags)
	}
	return b
}

var errShort = errors.New("record ends early")

// decodeMeta is the gate: what comes out of it has been checked.
func (g *group) decodeMeta(b []byte) (*raftpb.ConfState, error) {
	if len(b) < 2 || b[0] != metaVersion {
		return nil, fmt.Errorf("unknown version of the group's record (%d bytes)", len(b))
	}
	g.formed = b[1]&flagFormed != 0
	d := decoder{b: b[2:]}
	g.self = id.Replica(d.uvarint())
	if d.err != nil {
		return nil, d.err
	}
	conf, err := decodeConf(d.b)
	if err != nil {
		return nil, err
	}
	g.confIndex = conf.index
	for _, mem := range conf.members {
		g.members[mem.Replica] = mem
	}
	return conf.state, nil
}

// configuration is who belongs to a group from one entry on.
type configuration struct {
	index   id.Index // of the entry that made it
	state   *raftpb.ConfState
	members []Member
}

// decodeConf is the gate for configurations.
func decodeConf(b []byte) (configuration, error) {
	d := decoder{b: b}
	c := configuration{index: id.Index(d.uvarint()), state: &raftpb.ConfState{}}
	state := d.bytes(d.uvarint())
	if d.err != nil {
		return c, d.err
	}
	if err := proto.Unmarshal(state, c.state); err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	var err error
	c.members, err = decodeMembers(d.b)
	return c, err
}

func decodeMembers(b []byte) ([]Member, error) {
	if len(b) == 0 {
		return nil, nil // the end of a joint change binds nobody
	}
	d := decoder{b: b}
	n := d.uvarint()
	if n > uint64(len(d.b))/18 {
		return nil, fmt.Errorf("%d members in %d bytes", n, len(d.b))
	}
	list := make([]Member, n)
	for i := range list {
		list[i].Replica = id.Replica(d.uvarint())
		copy(list[i].UUID[:], d.bytes(16))
		if f := d.bytes(1); d.err == nil {
			list[i].Witness = f[0]&flagWitness != 0
		}
	}
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes after the last member", len(d.b))
	}
	return list, d.err
}

// decoder reads from the front of b; the first error sticks.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.b, d.err = nil, errShort
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.b, d.err = nil, errShort
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}
