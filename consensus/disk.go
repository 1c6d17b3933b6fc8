package consensus

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
)

// disk knows what is on its way to the disk and whether the disk hangs (R43).
type disk struct {
	writes []pendingWrite // handed out and not durable, oldest first
	hung   bool
	// probeAt is when an idle disk is asked whether it still syncs.
	probeAt   time.Duration
	saidHung  time.Duration
	hungSince time.Duration
}

// pendingWrite is one Write that is not durable yet, with what the Raft library
// wants to hear or to say once it is.
type pendingWrite struct {
	seq       uint64
	since     time.Duration
	groups    []*group // whose entries or votes are in it
	responses []response
}

type response struct {
	group *group
	msgs  []*raftpb.Message
}

const (
	probeEvery   = time.Second            // R43: an idle disk gets one probe write a second
	sayHungEvery = 100 * time.Millisecond // R43(2)
)

// begin notes the Write of this Step.
func (d *disk) begin(seq uint64, now time.Duration, groups []*group) {
	d.at(seq, now).groups = groups
}

// when arranges for msgs to be delivered once Write seq is durable.
func (d *disk) when(seq uint64, now time.Duration, g *group, msgs []*raftpb.Message) {
	w := d.at(seq, now)
	w.responses = append(w.responses, response{group: g, msgs: msgs})
}

// at returns Write seq, which is pending or the next one.
func (d *disk) at(seq uint64, now time.Duration) *pendingWrite {
	n := len(d.writes)
	if n == 0 || d.writes[n-1].seq < seq {
		d.writes = append(d.writes, pendingWrite{seq: seq, since: now})
		n++
	}
	return &d.writes[uint64(n-1)-(d.writes[n-1].seq-seq)]
}

// pending reports whether Write seq is handed out, or being made, and not
// durable yet.
func (d *disk) pending(seq, last uint64) bool {
	return seq > last || (len(d.writes) > 0 && seq >= d.writes[0].seq)
}

// written delivers what waited for everything up to Write seq.
func (m *Machine) written(seq uint64) {
	n := 0
	for n < len(m.disk.writes) && m.disk.writes[n].seq <= seq {
		n++
	}
	done := m.disk.writes[:n:n]
	m.disk.writes = append([]pendingWrite(nil), m.disk.writes[n:]...)
	m.disk.probeAt = m.now + probeEvery
	for _, w := range done {
		for _, g := range w.groups {
			if g.fault == nil {
				m.durable(g, w.seq)
			}
		}
	}
	for _, w := range done {
		for _, r := range w.responses {
			if g := r.group; g.fault == nil && m.groups[g.id] == g {
				m.guard(g, func() { m.deliver(g, r.msgs) })
			}
		}
	}
	m.watchDisk()
}

// durable moves a group's durable index and, on a leader, notes when it moved:
// that is what D_stall is measured from (R16b).
func (m *Machine) durable(g *group, seq uint64) {
	was := g.log.durable
	g.log.written(seq)
	if g.log.durable > was {
		m.touch(g)
		if g.leading() {
			g.waiting = append(g.waiting, waitingEntry{last: g.log.durable, since: m.now})
		}
	}
}

// deliver hands over messages that had to wait for a sync: to this replica
// itself, or to others.
func (m *Machine) deliver(g *group, msgs []*raftpb.Message) {
	m.touch(g)
	for _, msg := range msgs {
		switch {
		case msg.GetTo() != uint64(g.self):
			m.route(g, msg)
		default:
			if msg.GetType() == raftpb.MsgStorageAppendResp && msg.GetSnapshot() != nil {
				m.install(g)
			}
			_ = g.node.Step(msg) // stale ones are refused, which is right
		}
	}
}

// watchDisk decides whether the disk hangs: the oldest Write is older than
// D_hang. An idle disk is probed with an empty Write (R43).
func (m *Machine) watchDisk() {
	if len(m.disk.writes) == 0 && m.now >= m.disk.probeAt {
		m.disk.probeAt = m.now + probeEvery
		m.out.mustSync = true
	}
	hung := len(m.disk.writes) > 0 && m.now-m.disk.writes[0].since >= m.conf.HungAfter
	if hung == m.disk.hung {
		return
	}
	m.disk.hung = hung
	if hung {
		m.disk.hungSince = m.now
		m.out.report(0, true, "disk hangs", "oldest_write", m.now-m.disk.writes[0].since)
	} else {
		m.out.report(0, false, "disk answers again", "took", m.now-m.disk.hungSince)
	}
}

// DiskHung is how long the oldest write to the disk has waited, zero unless it
// is so long that the disk hangs.
func (m *Machine) DiskHung() time.Duration {
	if !m.disk.hung || len(m.disk.writes) == 0 {
		return 0
	}
	return m.now - m.disk.writes[0].since
}

// sayHung asks the others to take over what this host leads while its disk
// hangs (R43(2)). It goes on leading: whoever can, will be elected.
func (m *Machine) sayHung() {
	if !m.disk.hung || m.now-m.disk.saidHung < sayHungEvery {
		return
	}
	m.disk.saidHung = m.now
	for _, g := range m.sorted() {
		if g.fault != nil || !g.leading() {
			continue
		}
		for _, p := range g.dataVoters() {
			if p != g.self && m.responsive(g, p) && g.match(p) >= g.told() {
				to := g.members[p]
				m.out.send(to.UUID, peer.Beats, peer.Message{
					Kind: peer.KindHung, Group: g.id, From: g.self, To: p, Term: g.term,
				})
			}
		}
	}
}

// peerHangs handles KindHung: the leader asks this host to take over (R43(3)).
func (m *Machine) peerHangs(g *group, msg *peer.Message) {
	from, ok := g.members[msg.From]
	if !ok || m.disk.hung || g.leader != msg.From || g.term != msg.Term {
		return
	}
	l := m.peer(from.UUID)
	l.hung, l.hungAt = true, m.now
	if g.canLead() {
		_ = g.node.Campaign()
	}
}
