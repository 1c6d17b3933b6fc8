package consensus

import (
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// Machine is all Raft groups of one host as a pure state machine: the same
// events at the same times give the same effects, byte for byte, as long as
// crypto/rand is the same (the Raft library draws election timeouts from it).
//
// Owned by whoever calls Step: one goroutine, or the simulation.
type Machine struct {
	conf   Config
	self   id.UUID
	reader LogReader
	now    time.Duration // of the current Step; monotonic, from an arbitrary start

	groups map[id.Group]*group
	order  []id.Group // sorted keys of groups: effects come in a fixed order
	peers  map[id.UUID]*link

	seq   uint64   // last Write handed out
	disk  disk     // what is on its way to the disk
	out   effects  // what this Step has to say
	dirty []*group // touched in this Step
	clean []*group // room for the next ones
	list  []Effect // what the last Step returned
	lazy  []*group // with something in lazyOp
	full  bool     // the disk has no room for entries

	yieldAt time.Duration // next time that a full host offers its groups

	uncommitted uint64 // bytes proposed here and not committed yet, all groups
	pulseAt     time.Duration
	secondAt    time.Duration // next once-a-second work
	stopping    bool
	moves       int // transfers of R44 in this second
	enrolments  []enrolment
	attempts    uint64 // Fetches handed out
	pins        []pin  // of the logs of all groups
	seen        seen
}

// link is what the machine knows about one directory, host or arbitrator.
type link struct {
	refused   bool          // its process is known to be gone (R15, R32)
	heard     bool          // anything ever arrived
	heardAt   time.Duration // last arrival
	hung      bool          // it said that its disk hangs, and has not synced since (R43)
	hungAt    time.Duration
	pingedAt  time.Duration
	isWitness bool
	goodbye   bool // it said that it stops, and has not been connected since
}

// NewMachine returns a machine without groups; Attach and Create add them.
func NewMachine(conf Config, self id.UUID, reader LogReader) *Machine {
	m := &Machine{
		conf: conf, self: self, reader: reader,
		groups: map[id.Group]*group{}, peers: map[id.UUID]*link{},
	}
	// Hosts pulse at different moments (R19: jittered), the same host always at
	// the same one.
	m.pulseAt = conf.PulseEvery * time.Duration(self[0]) / 256
	return m
}

// Step takes events in order and returns what must be done about them, in a list
// that the next Step uses again.
func (m *Machine) Step(now time.Duration, events []Event) []Effect {
	m.now = now
	for _, e := range events {
		m.take(e)
	}
	for len(m.dirty) > 0 {
		touched := m.dirty
		m.dirty = m.clean[:0]
		slices.SortFunc(touched, func(a, b *group) int { return int(a.id) - int(b.id) })
		for _, g := range touched {
			m.settle(g)
		}
		clear(touched)
		m.clean = touched
	}
	return m.flush()
}

// touch notes that g is to be settled before this Step ends.
func (m *Machine) touch(g *group) {
	if !g.dirty {
		g.dirty = true
		m.dirty = append(m.dirty, g)
	}
}

// take handles one event. Groups that it touches are drained at the latest at
// the end of the Step.
func (m *Machine) take(e Event) {
	switch e := e.(type) {
	case Tick:
		m.tick()
	case Received:
		m.receive(e)
	case Link:
		m.linkChanged(e)
	case Written:
		m.written(e.Seq)
	case Applied:
		m.with(e.Group, func(g *group) { m.applied(g, e.Index) })
	case Checkpointed:
		m.with(e.Group, func(g *group) { m.checkpointed(g, e.Index) })
	case Propose:
		m.propose(e)
	case Read:
		m.read(e)
	case Create:
		m.create(e.Spec)
	case Attach:
		m.attach(e.Group)
	case Form:
		m.with(e.Group, m.form)
	case Drop:
		m.drop(e.Group)
	case ChangeMembers:
		m.changeMembers(e)
	case Transfer:
		m.with(e.Group, func(g *group) { m.transfer(g, e.To, CauseAsked) })
	case EnrollWitness:
		m.enrol(e)
	case Forget:
		m.forget(e.Ticket)
	case DiskSpace:
		m.diskSpace(e.Full)
	case AskCopy:
		m.askCopy(e)
	case Release:
		m.with(e.Group, func(g *group) { m.released(g, e) })
	case Fetched:
		m.with(e.Group, func(g *group) { m.fetched(g, e) })
	case Failed:
		if g := m.groups[e.Group]; g != nil {
			m.fail(g, e.Err)
		}
	case Stopping:
		m.stopping = true
		m.handOver(anyGroup, CauseStopped)
	case Leaving:
		m.goodbye()
	default:
		panic(fmt.Sprintf("unknown event %T", e))
	}
}

// with runs f on a group that works. A panic of the Raft library in it stops
// this group and no other (R5).
func (m *Machine) with(gid id.Group, f func(*group)) {
	if g := m.groups[gid]; g != nil && g.fault == nil {
		m.guard(g, func() { m.touch(g); f(g) })
	}
}

func (m *Machine) guard(g *group, f func()) {
	defer func() {
		if p := recover(); p != nil {
			m.fail(g, fmt.Errorf("broken invariant: %v", p))
		}
	}()
	f()
}

// fail stops a group for good: it neither votes nor answers until it is restored
// as a new member (R5).
func (m *Machine) fail(g *group, err error) {
	if g.fault != nil {
		return
	}
	g.fault = err
	m.release(g)
	m.unpinAll(g)
	m.refuseAll(g, fmt.Errorf("%w: %w", ErrStopped, err))
	m.out.answers = append(m.out.answers, Halt{Group: g.id})
	m.out.report(g.id, true, "group is faulty", "err", err)
	if g.announced.leader {
		g.announced = announcement{}
		m.out.leaders = append(m.out.leaders, LeaderChange{Group: g.id, Term: g.term})
	}
}

// tick moves all groups by one tick, in one frame per host (R34).
func (m *Machine) tick() {
	m.watchDisk()
	if m.stopping { // whoever was not ready may be now
		m.handOver(anyGroup, CauseStopped)
	}
	for _, g := range m.sorted() {
		if g.fault != nil || !g.formed {
			continue
		}
		m.guard(g, func() {
			m.touch(g)
			g.node.Tick()
			m.drain(g)
			m.lead(g)
		})
	}
	m.sayHung()
	m.pulse()
	m.watchChanges()
	if m.now >= m.secondAt {
		m.secondAt = m.now + time.Second
		m.everySecond()
	}
}

func (m *Machine) everySecond() {
	m.moves = 0
	for _, g := range m.sorted() {
		if g.fault == nil && g.formed {
			m.guard(g, func() { m.sample(g); m.collocate(g) })
		}
	}
	if m.full {
		m.yield()
	}
	m.pingWitnesses()
	m.repeatEnrolments()
}

// settle drains a group that this Step has touched.
func (m *Machine) settle(g *group) {
	g.dirty = false
	if g.fault != nil || m.groups[g.id] != g {
		return
	}
	m.guard(g, func() {
		m.drain(g)
		m.lead(g)
		m.startReads(g)
		m.drain(g)
		g.log.shrink(g.appliedIndex)
	})
}

func (m *Machine) sorted() []*group {
	gs := make([]*group, len(m.order))
	for i, gid := range m.order {
		gs[i] = m.groups[gid]
	}
	return gs
}

func (m *Machine) add(g *group) {
	m.groups[g.id] = g
	at, _ := slices.BinarySearch(m.order, g.id)
	m.order = slices.Insert(m.order, at, g.id)
}

func (m *Machine) remove(gid id.Group) {
	delete(m.groups, gid)
	if at, ok := slices.BinarySearch(m.order, gid); ok {
		m.order = slices.Delete(m.order, at, at+1)
	}
}

// peer returns what is known about a directory.
func (m *Machine) peer(u id.UUID) *link {
	l := m.peers[u]
	if l == nil {
		l = &link{heardAt: -time.Hour, hungAt: -time.Hour, pingedAt: -time.Hour}
		m.peers[u] = l
	}
	return l
}

// Heard returns how long ago anything arrived from a directory.
func (m *Machine) Heard(u id.UUID, now time.Duration) (time.Duration, bool) {
	l := m.peers[u]
	if l == nil || !l.heard {
		return 0, false
	}
	return now - l.heardAt, true
}

// effects gathers what one Step has to say, in the order in which the shell must
// begin it.
type effects struct {
	sends    []Send // one per directory and class
	applies  []Effect
	answers  []Effect
	leaders  []Effect
	reports  []Effect
	ops      []wal.Op // this Step's Write
	writers  []*group // whose operations are in ops
	mustSync bool     // somebody waits for this Step's Write
}

func (o *effects) send(to id.UUID, class peer.Class, msg peer.Message) {
	for i := range o.sends {
		if o.sends[i].To == to && o.sends[i].Class == class {
			o.sends[i].Messages = append(o.sends[i].Messages, msg)
			return
		}
	}
	o.sends = append(o.sends, Send{To: to, Class: class, Messages: []peer.Message{msg}})
}

// reset empties o. What the Write holds went with it; the rest has been copied.
func (o *effects) reset() {
	for _, list := range [...]*[]Effect{&o.applies, &o.answers, &o.leaders, &o.reports} {
		clear(*list)
		*list = (*list)[:0]
	}
	clear(o.sends)
	o.sends = o.sends[:0]
	o.ops, o.writers, o.mustSync = nil, nil, false
}

func (o *effects) refuse(ticket uint64, err error) {
	o.answers = append(o.answers, Refused{Ticket: ticket, Err: err})
}

func (o *effects) report(g id.Group, bad bool, what string, args ...any) {
	o.reports = append(o.reports, Report{Group: g, What: what, Args: args, Bad: bad})
}

// flush closes the Step's Write and returns the effects.
func (m *Machine) flush() []Effect {
	m.gatherLazy()
	o := &m.out
	clear(m.list)
	list := m.list[:0]
	if o.mustSync {
		m.seq++
		m.disk.begin(m.seq, m.now, o.writers)
		list = append(list, Write{Seq: m.seq, Ops: o.ops})
	}
	for _, s := range o.sends {
		list = append(list, s)
	}
	list = append(list, o.applies...)
	list = append(list, o.answers...)
	list = append(list, o.leaders...)
	list = append(list, o.reports...)
	m.list = list
	o.reset()
	return list
}

// route sends a message of the Raft library to where it belongs.
func (m *Machine) route(g *group, msg *raftpb.Message) {
	to, known := g.members[id.Replica(msg.GetTo())]
	if !known {
		u, met := g.strangers[id.Replica(msg.GetTo())]
		if !met {
			return // it has left the group
		}
		to = Member{Replica: id.Replica(msg.GetTo()), UUID: u}
	}
	if msg.GetType() == raftpb.MsgPreVote && g.takesCopy() {
		return // it could not serve: installed asks again
	}
	if to.Witness {
		m.toWitness(g, to, msg)
		return
	}
	if msg.GetType() == raftpb.MsgHeartbeatResp && m.disk.hung {
		return // R43(1): a host whose disk hangs does not look alive
	}
	if msg.GetType() == raftpb.MsgSnap {
		msg = g.whereLogBegins(msg)
	}
	if msg.GetType() == raftpb.MsgTimeoutNow {
		msg = g.saying(msg)
	}
	class := peer.Beats
	if len(msg.GetEntries()) > 0 && msg.GetType() == raftpb.MsgApp {
		class = peer.Bulk
	}
	m.out.send(to.UUID, class, peer.Message{
		Kind: peer.KindRaft, Group: g.id, From: g.self, To: to.Replica, Raft: msg,
	})
}
