package arbitrator

import (
	"slices"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// lookup returns the record called k, or nil.
func (m *Machine) lookup(k Key) *replica {
	c := m.clusters[k.Cluster]
	if c == nil {
		return nil
	}
	return c.groups[k.Group][k.Replica]
}

// cluster returns what is kept of a cluster, making it if need be.
func (m *Machine) cluster(c id.Cluster) *cluster {
	cl := m.clusters[c]
	if cl == nil {
		cl = &cluster{id: c, groups: make(map[id.Group]map[id.Replica]*replica)}
		m.clusters[c] = cl
	}
	return cl
}

// add puts a record that is not there yet into its cluster.
func (m *Machine) add(c *cluster, rep *replica) {
	replicas := c.groups[rep.Group]
	if replicas == nil {
		replicas = make(map[id.Replica]*replica, 1)
		c.groups[rep.Group] = replicas
	}
	replicas[rep.Replica] = rep
	if rep.Retired {
		c.retired++
	} else {
		c.live++
	}
	rep.counted = len(rep.Runs)
	c.runs += rep.counted
	if rep.Tainted {
		m.counts.Tainted++
	}
}

// identify returns the record that msg is meant for, or refuses msg (R25 (1)
// and (2)). It never makes one: a vote for an unknown group would be a vote
// without memory (pitfall 11).
func (m *Machine) identify(r *Received, msg *peer.Message) *replica {
	key := Key{r.Cluster, msg.Group, msg.To}
	rep := m.lookup(key)
	why := peer.Refusal(0)
	switch {
	case r.To != m.self:
		why, rep = peer.WrongWitness, nil
	case rep == nil && (m.clusters[r.Cluster] == nil || len(m.clusters[r.Cluster].groups[msg.Group]) == 0):
		why = peer.UnknownGroup
	case rep == nil:
		why = peer.WrongWitness
	case rep.Retired:
		why = peer.Retired
	case rep.Tainted:
		why = peer.Tainted
	default:
		rep.reported = 0
		return rep
	}
	m.refuseHost(r.Cluster, r.From, rep, msg, why)
	return nil
}

// refuse answers msg with a reason instead of a vote, after the record's last
// Write.
func (m *Machine) refuse(rep *replica, from id.UUID, msg *peer.Message, why peer.Refusal) {
	m.refuseHost(rep.Cluster, from, rep, msg, why)
}

func (m *Machine) refuseHost(c id.Cluster, from id.UUID, rep *replica, msg *peer.Message, why peer.Refusal) {
	m.counts.Refusals++
	out := peer.Message{Kind: peer.KindRefusal, Group: msg.Group, From: msg.To, To: msg.From, Refusal: why}
	if rep == nil {
		m.send(c, from, out)
		return
	}
	if rep.reported != why { // once, until the record is of use again
		rep.reported = why
		m.report(false, "message refused", rep.Key, "why", why.String(), "host", from.Short())
	}
	m.answer(rep, from, out)
}

// enroll makes or retires a record. Asking twice is harmless.
func (m *Machine) enroll(r *Received, msg *peer.Message) {
	key := Key{r.Cluster, msg.Group, msg.To}
	rep, retire := m.lookup(key), msg.Kind == peer.KindRetire
	why := peer.Refusal(0)
	switch {
	case r.To != m.self || msg.Enroll.Witness != m.self:
		why = peer.WrongWitness
	case retire && rep != nil && rep.Retired, !retire && rep != nil && !rep.Retired:
		// Already so.
	case !retire && rep != nil:
		why = peer.Retired // R24
	case retire:
		rep, why = m.retire(key, rep)
	default:
		rep, why = m.admit(key)
	}
	if why != 0 {
		m.refuseHost(r.Cluster, r.From, rep, msg, why)
		return
	}
	kind := peer.KindEnrolled
	if retire {
		kind = peer.KindRetired
	}
	m.answer(rep, r.From, peer.Message{Kind: kind, Group: msg.Group, From: msg.To, To: msg.From, Enroll: msg.Enroll})
}

// admit makes the record of a replica that was never enrolled before.
func (m *Machine) admit(key Key) (*replica, peer.Refusal) {
	c := m.cluster(key.Cluster)
	if c.live >= m.cfg.MaxReplicas {
		m.report(true, "no room for another replica of this cluster", key, "limit", m.cfg.MaxReplicas)
		return nil, peer.Full
	}
	rep := &replica{Record: Record{Key: key}, changed: mustSync}
	m.add(c, rep)
	m.settle(rep, nil)
	m.report(false, "replica enrolled", key)
	return rep, 0
}

// retire turns a record, or the lack of one, into a tombstone: the replica id
// is never enrolled again, not even by a message that was under way (R24).
func (m *Machine) retire(key Key, rep *replica) (*replica, peer.Refusal) {
	c := m.cluster(key.Cluster)
	if c.retired >= m.cfg.MaxRetired && !m.forget(c) {
		m.report(true, "no room for another retired replica of this cluster", key, "limit", m.cfg.MaxRetired)
		return nil, peer.Full
	}
	if rep == nil {
		rep = &replica{Record: Record{Key: key, Retired: true}}
		m.add(c, rep)
	} else {
		c.live--
		c.retired++
		if rep.Tainted {
			m.counts.Tainted--
		}
		rep.Record, rep.leaseUntil = Record{Key: key, Retired: true}, 0
		m.waiting = slices.DeleteFunc(m.waiting, func(h held) bool { return h.rep == rep })
		rep.waits = 0 // what it would have said no longer holds
	}
	rep.changed = mustSync
	m.settle(rep, nil)
	m.report(false, "replica retired", key)
	return rep, 0
}

// forget removes the oldest tombstone of a group without live records: the
// group was dropped, and its number is never given again. The lowest group is
// the oldest, because groups are numbered in order.
func (m *Machine) forget(c *cluster) bool {
	var oldest *replica
	for _, replicas := range c.groups {
		var candidate *replica
		for _, rep := range replicas {
			if !rep.Retired || rep.inDirty || rep.waits > 0 {
				candidate = nil
				break
			}
			if candidate == nil || rep.Replica < candidate.Replica {
				candidate = rep
			}
		}
		if candidate != nil && (oldest == nil || candidate.Compare(oldest.Key) < 0) {
			oldest = candidate
		}
	}
	if oldest == nil {
		return false
	}
	delete(c.groups[oldest.Group], oldest.Replica)
	if len(c.groups[oldest.Group]) == 0 {
		delete(c.groups, oldest.Group)
	}
	c.retired--
	m.removed = append(m.removed, oldest.Key)
	m.write = true
	return true
}
