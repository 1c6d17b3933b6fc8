package consensus

import (
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// group is one replica of one group. Owned by its Machine.
type group struct {
	id    id.Group
	self  id.Replica
	node  *raft.RawNode
	log   *groupLog
	fault error // not nil: stopped for good (R5)
	dirty bool  // to be drained before this Step ends

	// What the configuration says. members also holds those that are leaving.
	conf      *raftpb.ConfState
	members   map[id.Replica]Member
	voters    [2][]id.Replica // incoming, and outgoing while joint
	learners  []id.Replica
	strangers map[id.Replica]id.UUID // who spoke as a replica that members lacks
	confIndex id.Index               // of the entry that made it
	confAt    id.Index               // last change that was proposed here
	formed    bool                   // R40

	// What Raft says.
	role      raft.StateType
	term      id.Term
	leader    id.Replica
	changedAt time.Duration // last change of leader
	announced announcement

	// What the state machine has.
	appliedIndex id.Index
	mark         id.Index
	applying     []applying

	writeSeq uint64 // last Write that this group needs; zero: none yet
	lazy     lazyOp
	inbound  inbound

	past past
	leadership
	reads     reads
	moves     moves
	held      id.Index // the leader lets the log go up to here (KindHeld)
	commitNow id.Index // what the leader said is committed
	commitOld id.Index // the same, a second ago
}

// leadership is what only a leader keeps, made anew at each election.
type leadership struct {
	feed      feed
	feeders   []*feeder                    // one for each witness in either half, by replica id
	heard     map[id.Replica]time.Duration // last answer in this term (R15)
	progress  map[id.Replica]tracker.Progress
	termStart id.Index       // the leader's own first entry (R39)
	lastIndex id.Index       // last entry of the library's log
	waiting   []waitingEntry // durable here, not committed, oldest first
	proposed  []proposedBytes
	leaveAt   id.Index                     // the proposed end of a joint change; zero: none
	giving    giving                       // the last hand-over
	notReady  map[id.Replica]time.Duration // who was handed the group, and when it refused
	change    *change                      // how it came to lead, while its first write is awaited
}

// waitingEntry says since when the entries up to last have been durable here.
type waitingEntry struct {
	last  id.Index
	since time.Duration
}

// proposedBytes counts the bytes of a proposal until it is committed.
type proposedBytes struct {
	last  id.Index
	bytes uint64
}

// applying is a batch that the state machine has and has not finished.
type applying struct {
	last id.Index
	msgs []*raftpb.Message
}

// announcement is what the state machine was last told about leadership.
type announcement struct {
	term   id.Term
	who    id.Replica
	leader bool
}

func (g *group) leading() bool { return g.role == raft.StateLeader }

// ready reports whether this leader may take proposals and reads: it has applied
// an entry of its own term, so it holds and has applied everything that was
// ever acknowledged (R39, R46).
func (g *group) ready() bool {
	return g.leading() && g.termStart > 0 && g.appliedIndex >= g.termStart
}

// canLead reports whether this replica may campaign.
func (g *group) canLead() bool {
	return g.formed && g.fault == nil && !g.leading() &&
		(slices.Contains(g.voters[0], g.self) || slices.Contains(g.voters[1], g.self))
}

// dataVoters lists the voters with data, of both halves of a joint
// configuration, in order.
func (g *group) dataVoters() []id.Replica {
	var list []id.Replica
	for _, half := range g.voters {
		for _, r := range half {
			if !g.members[r].Witness && !slices.Contains(list, r) {
				list = append(list, r)
			}
		}
	}
	slices.Sort(list)
	return list
}

// dataMembers lists the members with data, learners too, in order.
func (g *group) dataMembers() []id.Replica {
	var list []id.Replica
	for r, mem := range g.members {
		if !mem.Witness {
			list = append(list, r)
		}
	}
	slices.Sort(list)
	return list
}

// match is the last entry that a member is known to hold durably. The library
// takes a new leader's whole log for durable, which it need not be: its disk may
// hang.
func (g *group) match(r id.Replica) id.Index {
	i := id.Index(g.progress[r].Match)
	if r == g.self {
		i = min(i, g.log.durable)
	}
	return i
}

// commit is what Raft has committed as far as this replica knows.
func (g *group) commit() id.Index { return id.Index(g.node.BasicStatus().GetCommit()) }

// lazyOp is what a group wants to write with the next Write that somebody waits
// for. Losing it in a crash costs nothing: Raft finds commit indexes again, and
// an older cut only means more to keep.
type lazyOp struct {
	queued bool
	hard   *wal.HardState
	cut    id.Index
}

// write puts an operation into this Step's Write.
func (m *Machine) write(g *group, op wal.Op) {
	op.Group = g.id
	m.out.ops = append(m.out.ops, op)
	m.out.mustSync = true
	if g.writeSeq != m.seq+1 {
		g.writeSeq = m.seq + 1
		m.out.writers = append(m.out.writers, g)
	}
}

// writeLazily puts what g.lazy holds into the next Write.
func (m *Machine) writeLazily(g *group) {
	if !g.lazy.queued {
		g.lazy.queued = true
		m.lazy = append(m.lazy, g)
	}
}

// gatherLazy adds what waited to this Step's Write, if there is one.
func (m *Machine) gatherLazy() {
	if !m.out.mustSync {
		return
	}
	slices.SortFunc(m.lazy, func(a, b *group) int { return int(a.id) - int(b.id) })
	for _, g := range m.lazy {
		if m.groups[g.id] == g && g.fault == nil {
			m.out.ops = append(m.out.ops, wal.Op{Group: g.id, Hard: g.lazy.hard, Cut: g.lazy.cut})
		}
		g.lazy = lazyOp{}
	}
	m.lazy = m.lazy[:0]
}

// create makes a replica from the initial record (R40). The log starts after
// index 1 of term 1, which stands for that record.
func (m *Machine) create(spec GroupSpec) {
	if m.groups[spec.Group] != nil {
		m.out.report(spec.Group, true, "group exists already, create refused")
		return
	}
	g := &group{
		id: spec.Group, self: spec.Replica, formed: spec.Formed,
		members: map[id.Replica]Member{}, strangers: map[id.Replica]id.UUID{}, held: 1, mark: 1, appliedIndex: 1, changedAt: m.now,
	}
	cs := &raftpb.ConfState{}
	for _, mem := range spec.Members {
		g.members[mem.Replica] = mem
		cs.Voters = append(cs.Voters, uint64(mem.Replica))
	}
	first := wal.Position{Index: 1, Term: 1}
	g.log = &groupLog{
		group: g.id, reader: m.reader, start: first, last: first, durable: 1,
		hard: wal.HardState{Term: 1, Commit: 1}, initial: cs,
	}
	g.confIndex = 1
	hard := g.log.hard
	m.write(g, wal.Op{Start: &first, Hard: &hard, Meta: g.encodeMeta(cs), Mark: 1})
	m.open(g, cs)
}

// attach starts a replica that the log holds.
func (m *Machine) attach(gid id.Group) {
	if m.groups[gid] != nil {
		return
	}
	states := m.reader.Groups()
	at, ok := slices.BinarySearchFunc(states, gid, func(s wal.GroupState, g id.Group) int { return int(s.Group) - int(g) })
	if !ok {
		m.out.report(gid, true, "group is not in the log, attach refused")
		return
	}
	s := states[at]
	g := &group{id: gid, members: map[id.Replica]Member{}, strangers: map[id.Replica]id.UUID{}, changedAt: m.now}
	cs, err := g.decodeMeta(s.Meta)
	if err != nil {
		g.fault = fmt.Errorf("read the record of group %d: %w", gid, err)
		m.add(g)
		m.out.report(gid, true, "group is faulty", "err", g.fault)
		return
	}
	g.mark = max(s.Mark, s.Start.Index)
	g.held, g.appliedIndex = s.Start.Index, g.mark
	// The commit index is written lazily: what was applied, and what changed the
	// configuration, was committed. And it is written before the entries that it
	// came with, which a death in the middle may have cut off.
	s.Hard.Commit = max(min(s.Hard.Commit, s.Last.Index), g.mark, g.confIndex)
	g.log = &groupLog{
		group: gid, reader: m.reader, start: s.Start, last: s.Last, durable: s.Last.Index,
		hard: s.Hard, initial: cs,
	}
	if s.Hard.Commit > s.Last.Index {
		m.add(g)
		m.fail(g, fmt.Errorf("the log ends at entry %d, before committed entry %d", s.Last.Index, s.Hard.Commit))
		return
	}
	m.open(g, cs)
}

// open starts the Raft node of a group whose log and members are known.
func (m *Machine) open(g *group, cs *raftpb.ConfState) {
	m.add(g)
	g.log.image = g.snapshotMetadata
	m.guard(g, func() {
		node, err := raft.NewRawNode(m.raftConfig(g))
		if err != nil {
			m.fail(g, fmt.Errorf("start raft: %w", err))
			return
		}
		g.node, g.term, g.past.heardAt = node, g.log.hard.Term, m.now
		m.touch(g)
		g.setConf(cs)
		m.noteWitnesses(g)
		if g.alone() && g.canLead() {
			_ = g.node.Campaign() // nobody else could: why wait for a leader?
		}
	})
}

// alone reports whether this replica is the only voter.
func (g *group) alone() bool { return len(g.voters[0]) == 1 && len(g.voters[1]) == 0 }

// raftConfig is R1.
func (m *Machine) raftConfig(g *group) *raft.Config {
	return &raft.Config{
		ID: uint64(g.self), Storage: g.log, Applied: uint64(g.appliedIndex),
		ElectionTick: m.conf.ElectionTick, HeartbeatTick: 1,
		PreVote: true, CheckQuorum: true, ReadOnlyOption: raft.ReadOnlySafe, // R2
		AsyncStorageWrites: true, DisableProposalForwarding: true, StepDownOnRemoval: true,
		MaxInflightMsgs: 256, MaxInflightBytes: 64 << 20, MaxSizePerMsg: 512 << 10,
		MaxCommittedSizePerReady: 8 << 20, MaxUncommittedEntriesSize: m.conf.MaxUncommittedBytes,
		Logger: panicLogger{},
	}
}

// form lets a replica take part: the mnode has recorded that every member
// confirmed its creation (R40). The host that leads the mnode campaigns at once
// (R44).
func (m *Machine) form(g *group) {
	if g.formed {
		return
	}
	g.formed = true
	m.write(g, wal.Op{Meta: g.encodeMeta(g.conf)})
	if mn := m.groups[id.Mnode]; mn != nil && mn.leading() && g.canLead() {
		_ = g.node.Campaign()
	}
}

// drop ends a replica and forgets its log, also that of a group which was never
// attached: a host that died while it dropped one goes on with it at its next
// start.
func (m *Machine) drop(gid id.Group) {
	g := m.groups[gid]
	if g == nil {
		m.out.ops = append(m.out.ops, wal.Op{Group: gid, Drop: true})
		m.out.mustSync = true
		return
	}
	m.release(g)
	m.unpinAll(g)
	m.refuseAll(g, ErrStopped)
	m.write(g, wal.Op{Drop: true})
	m.remove(gid)
}

// checkpointed notes that the state machine survives a power cut up to i. It is
// written at once: whoever makes checkpoints waits for it before the next one,
// so that a replay never starts before the checkpoint before the last.
func (m *Machine) checkpointed(g *group, i id.Index) {
	if i > g.mark && i <= g.appliedIndex {
		g.mark = i
		m.write(g, wal.Op{Mark: i})
		m.cut(g)
	}
}

// cut drops the part of the log that nobody needs: it is in the checkpoint here,
// and the leader lets it go.
func (m *Machine) cut(g *group) {
	to := m.pinned(g, min(g.mark, g.held))
	if to <= g.log.start.Index {
		return
	}
	g.log.cut(to)
	g.lazy.cut = to
	m.writeLazily(g)
}
