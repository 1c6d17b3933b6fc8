// Package arbitrator is the vote-only member of every group with an even number
// of data replicas: it remembers votes and positions, durable before it
// answers, for any number of clusters.
//
// It stores no data, ticks no clock, dials nobody and never campaigns. Machine
// holds every rule (R6, R8, R11b, R12, R13, R24 to R30); Server is the shell
// that gives it a disk and a port.
package arbitrator

import (
	"maps"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Machine decides what the arbitrator remembers and answers. It reads no clock,
// starts no goroutine and touches no file or socket: its owner calls Step and
// carries the effects out, in order.
//
// Invariant: no answer leaves before the last Write of its own record is
// durable, so nothing that was ever said can be forgotten.
type Machine struct {
	cfg      Config
	self     id.UUID
	clusters map[id.Cluster]*cluster
	counts   Counts

	handed  uint64 // Seq of the last Write handed out
	durable uint64 // Seq of the last Write known to be durable: the generation (R30)
	waiting []held // answers that wait for a Write, in the order of their making

	// What the Step under way has gathered.
	step    uint64
	dirty   []*replica
	removed []Key
	write   bool // dirty and removed can't wait for a later Write
	sends   []Send
	reports []Report
}

// Counts says what the machine holds, and what it has done since its start.
type Counts struct {
	// Records held.
	Clusters int `json:"clusters"`
	Replicas int `json:"replicas"` // live
	Retired  int `json:"retired"`
	Tainted  int `json:"tainted"`

	Votes      uint64 `json:"votes"`        // votes and pre-votes considered
	Leased     uint64 `json:"votes_leased"` // ... ignored because of a lease (R26)
	Heartbeats uint64 `json:"heartbeats"`
	Feeds      uint64 `json:"feeds"`
	Superseded uint64 `json:"feeds_superseded"` // dropped for a newer one in the same batch (R12)
	Refusals   uint64 `json:"refusals"`
	Dropped    uint64 `json:"answers_dropped"` // because too many of the record waited for the disk
}

// cluster is what the machine keeps of one cluster.
type cluster struct {
	id      id.Cluster
	groups  map[id.Group]map[id.Replica]*replica
	live    int // records that are not retired
	retired int // tombstones
	runs    int // of all records together
}

// replica is a record and what the machine knows about it besides.
type replica struct {
	Record
	leaseUntil time.Duration // R26; zero: none
	leaseFrom  id.UUID       // the host whose leader asked for it
	due        uint64        // the Write that answers must wait for
	inDirty    bool
	changed    change
	waits      int // answers of this record in Machine.waiting
	counted    int // of Runs, in cluster.runs
	newest     newestFeed
	reported   peer.Refusal // the last one that was reported
}

// newestFeed names the newest feed for a record among the events of one Step.
type newestFeed struct {
	step uint64 // of Machine.step; the rest holds for no other
	term id.Term
	seq  uint64
}

// after reports whether n is newer than f.
func (n newestFeed) after(f *peer.Feed) bool {
	return n.term > f.Term || n.term == f.Term && n.seq > f.Seq
}

// change says how a record differs from what the store has.
type change uint8

const (
	unchanged change = iota
	lazily           // a commit moved: goes along with the next Write, nobody waits for it (R25 (6))
	mustSync         // vote, term or log: answers wait for it
)

// held is an answer that waits for a Write.
type held struct {
	due     uint64
	rep     *replica
	cluster id.Cluster
	to      id.UUID
	msg     peer.Message
}

// maxWaits bounds the answers of one record that wait for a hung disk. Beyond
// it newer ones are dropped: Raft and the feeder repeat what they asked.
const maxWaits = 8

// NewMachine returns a machine for the directory self whose store holds
// records, durably, as of generation (the Seq of the last Write; zero when
// there was none).
func NewMachine(cfg Config, self id.UUID, generation uint64, records []Record) *Machine {
	m := &Machine{
		cfg: cfg, self: self, handed: generation, durable: generation,
		clusters: make(map[id.Cluster]*cluster),
	}
	for _, rec := range records {
		m.add(m.cluster(rec.Cluster), &replica{Record: rec})
	}
	return m
}

// Step handles events in order and returns what must be done about them. now is
// any clock that does not go back.
func (m *Machine) Step(now time.Duration, events []Event) []Effect {
	m.step++
	m.findNewestFeeds(events)
	for _, e := range events {
		switch e := e.(type) {
		case Synced:
			m.synced(e.Seq)
		case RolledBack:
			m.rolledBack(e.Cluster)
		case Received:
			for i := range e.Messages {
				m.receive(now, &e, &e.Messages[i])
			}
		}
	}
	return m.effects()
}

// receive handles one message.
func (m *Machine) receive(now time.Duration, r *Received, msg *peer.Message) {
	switch msg.Kind {
	case peer.KindPing:
		m.send(r.Cluster, r.From, peer.Message{Kind: peer.KindPong})
	case peer.KindGoodbye:
		m.goodbye(r.Cluster, r.From)
	case peer.KindEnroll, peer.KindRetire:
		if msg.Enroll != nil && msg.Group != 0 && usable(msg.To) {
			m.enroll(r, msg)
		}
	case peer.KindPosition:
		if rep := m.identify(r, msg); rep != nil {
			m.answer(rep, r.From, peer.Message{
				Kind: peer.KindPosition, Group: msg.Group, From: msg.To, To: msg.From, Term: rep.termAt(rep.Last), Index: rep.Last,
			})
		}
	case peer.KindRaft, peer.KindFeed:
		if !usable(msg.From) || msg.From == msg.To || (msg.Kind == peer.KindFeed) != (msg.Feed != nil) {
			return
		}
		rep := m.identify(r, msg)
		switch {
		case rep == nil:
		case msg.Kind == peer.KindFeed:
			m.feed(now, rep, r.From, msg)
		default:
			m.raftMessage(now, rep, r.From, msg)
		}
	}
}

// findNewestFeeds notes for every record the newest feed among events, so that
// the older ones cost nothing (R12).
func (m *Machine) findNewestFeeds(events []Event) {
	for _, e := range events {
		r, ok := e.(Received)
		if !ok {
			continue
		}
		for i := range r.Messages {
			msg := &r.Messages[i]
			if msg.Feed == nil {
				continue
			}
			rep := m.lookup(Key{r.Cluster, msg.Group, msg.To})
			if rep == nil {
				continue
			}
			if rep.newest.step != m.step || !rep.newest.after(msg.Feed) {
				rep.newest = newestFeed{m.step, msg.Feed.Term, msg.Feed.Seq}
			}
		}
	}
}

// lease grants or ends a lease, as the leader of the current term wants it. It
// lives in memory only: losing it costs an election, never data (R26).
func (r *replica) lease(now, length time.Duration, from id.UUID, wanted bool) {
	if r.leaseUntil, r.leaseFrom = 0, from; wanted {
		r.leaseUntil = now + length
	}
}

// goodbye ends the leases that a stopping host asked for: its groups may
// campaign at once (R32).
func (m *Machine) goodbye(c id.Cluster, from id.UUID) {
	if m.clusters[c] == nil {
		return
	}
	for _, replicas := range m.clusters[c].groups {
		for _, rep := range replicas {
			if rep.leaseFrom == from {
				rep.leaseUntil = 0
			}
		}
	}
}

// taint ends the votes of a record that is behind what it acknowledged, for
// ever: the mnode replaces the replica (R25, R23).
func (m *Machine) taint(rep *replica, args ...any) {
	m.endVotes(rep)
	m.report(true, "vote record is behind what it acknowledged: replace this replica", rep.Key, args...)
}

func (m *Machine) endVotes(rep *replica) {
	m.counts.Tainted++
	rep.Tainted, rep.changed = true, mustSync
	m.settle(rep, nil)
}

// rolledBack ends the votes of a whole cluster: what this directory has
// forgotten may be any of them, and the host that remembers may be away when the
// next one is asked for (R30). Other clusters are not believed to be concerned
// before one of their own hosts says so.
func (m *Machine) rolledBack(c id.Cluster) {
	cl := m.clusters[c]
	if cl == nil {
		return
	}
	ended := 0
	for _, g := range slices.Sorted(maps.Keys(cl.groups)) {
		for _, r := range slices.Sorted(maps.Keys(cl.groups[g])) {
			if rep := cl.groups[g][r]; !rep.Tainted && !rep.Retired {
				m.endVotes(rep)
				ended++
			}
		}
	}
	if ended > 0 {
		m.reports = append(m.reports, Report{
			What: "this directory is an old copy: stop, empty it, start again; the cluster then enrols anew",
			Args: []any{"cluster", uint64(c), "records", ended}, Bad: true,
		})
	}
}

// settle enters what run has changed in rep into the Write under way. An error
// of run taints the record (R5).
func (m *Machine) settle(rep *replica, err error) {
	if err != nil {
		m.taint(rep, "err", err)
		return
	}
	if rep.changed == unchanged {
		return
	}
	m.clusters[rep.Cluster].runs += len(rep.Runs) - rep.counted
	rep.counted = len(rep.Runs)
	if !rep.inDirty {
		rep.inDirty = true
		m.dirty = append(m.dirty, rep)
	}
	if rep.changed == mustSync {
		rep.due, m.write = m.handed+1, true
	}
	rep.changed = unchanged
}

// ---- answers ----

// answer sends msg once the record's last Write is durable: at once when it is.
func (m *Machine) answer(rep *replica, to id.UUID, msg peer.Message) {
	switch {
	case rep.due <= m.durable:
		m.send(rep.Cluster, to, msg)
	case rep.waits == maxWaits:
		m.counts.Dropped++
	default:
		rep.waits++
		m.waiting = append(m.waiting, held{rep.due, rep, rep.Cluster, to, msg})
	}
}

// synced releases the answers that waited for Writes up to seq.
func (m *Machine) synced(seq uint64) {
	m.durable = max(m.durable, min(seq, m.handed))
	m.waiting = slices.DeleteFunc(m.waiting, func(h held) bool {
		if h.due > m.durable {
			return false
		}
		h.rep.waits--
		m.send(h.cluster, h.to, h.msg)
		return true
	})
}

// send adds msg to the frame for a host.
func (m *Machine) send(c id.Cluster, to id.UUID, msg peer.Message) {
	if msg.Answer != nil {
		msg.Answer.Generation = m.durable
	}
	for i := range m.sends {
		if s := &m.sends[i]; s.Cluster == c && s.To == to {
			s.Messages = append(s.Messages, msg)
			return
		}
	}
	m.sends = append(m.sends, Send{Cluster: c, To: to, Messages: []peer.Message{msg}})
}

// report tells an operator something about one record.
func (m *Machine) report(bad bool, what string, k Key, args ...any) {
	args = append([]any{"cluster", uint64(k.Cluster), "group", uint32(k.Group), "replica", uint64(k.Replica)}, args...)
	m.reports = append(m.reports, Report{What: what, Args: args, Bad: bad})
}

// effects hands out what the Step has gathered.
func (m *Machine) effects() []Effect {
	out := make([]Effect, 0, 1+len(m.sends)+len(m.reports))
	if m.write {
		m.handed++
		w := Write{Seq: m.handed, Records: make([]Record, len(m.dirty)), Removed: m.removed}
		for i, rep := range m.dirty {
			w.Records[i], rep.inDirty = rep.Record, false
		}
		out = append(out, w)
		m.dirty, m.removed, m.write = m.dirty[:0], nil, false
	}
	for _, s := range m.sends {
		out = append(out, s)
	}
	for _, r := range m.reports {
		out = append(out, r)
	}
	m.sends, m.reports = m.sends[:0], nil
	return out
}

// Generation returns the Seq of the last Write known to be durable (R30).
func (m *Machine) Generation() uint64 { return m.durable }

// Counts returns what the machine holds and has done.
func (m *Machine) Counts() Counts {
	c := m.counts
	c.Clusters = len(m.clusters)
	for _, cl := range m.clusters {
		c.Replicas += cl.live
		c.Retired += cl.retired
	}
	return c
}

// ClusterCounts returns how many records of one cluster are live, retired and
// tainted.
func (m *Machine) ClusterCounts(c id.Cluster) (live, retired, tainted int) {
	cl := m.clusters[c]
	if cl == nil {
		return 0, 0, 0
	}
	for _, replicas := range cl.groups {
		for _, rep := range replicas {
			if rep.Tainted {
				tainted++
			}
		}
	}
	return cl.live, cl.retired, tainted
}

// Records returns a copy of all records, ordered by Key. Changes that no Write
// has carried yet are in it.
func (m *Machine) Records() []Record {
	var out []Record
	for _, c := range m.clusters {
		for _, replicas := range c.groups {
			for _, rep := range replicas {
				out = append(out, rep.Record)
			}
		}
	}
	slices.SortFunc(out, func(a, b Record) int { return a.Compare(b.Key) })
	return out
}
