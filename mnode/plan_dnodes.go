package mnode

import (
	"fmt"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// moveDnodes notes members that answer at another address: the directory is
// the identity, the address is not (R31). An address where another member still
// is stays with that one.
func (p *planner) moveDnodes() {
	for _, d := range p.v.Dnodes {
		r, ok := p.f.Fresh(p.now, d.ID)
		if !ok || d.Dropped || r.UUID != d.UUID || r.EndPoint == "" || r.EndPoint == d.EndPoint {
			continue
		}
		if _, there := p.f.stillAt(p.now, p.v, r.EndPoint); !there {
			p.do(Decide{MoveDnode{UUID: d.UUID, EndPoint: r.EndPoint}})
		}
	}
}

// restoreDnodes keeps the places of dnodes that are to be restored open, until a
// new directory has come or the old one is back: that one has the data.
func (p *planner) restoreDnodes() {
	for _, d := range p.v.Live() {
		if !d.Restoring {
			continue
		}
		if r, ok := p.f.Fresh(p.now, d.ID); ok && r.UUID == d.UUID && p.f.Linked[d.UUID] {
			p.do(Decide{KeepDnode{Dnode: d.ID}})
			continue
		}
		p.tasks = append(p.tasks, Task{Dnode: d.ID, What: taskRestore, Waiting: "an empty directory is to report from " + d.EndPoint})
	}
}

// dropDnodes makes a tombstone of every leaving dnode that nothing needs.
func (p *planner) dropDnodes() {
	for _, d := range p.v.Dnodes {
		if !d.Dropping {
			continue
		}
		if g, busy := p.v.groupOn(d.ID); busy {
			p.tasks = append(p.tasks, Task{Group: g, Dnode: d.ID, What: taskDrop, Waiting: fmt.Sprintf("dnode %d is still a member of group %d", d.ID, g)})
			continue
		}
		p.do(Decide{RemoveDnode{Dnode: d.ID}})
	}
}

// The tasks that are about a dnode.
const (
	taskRestore = "restore dnode"
	taskDrop    = "drop dnode"
	taskRemove  = "remove dnode"
)

const (
	// stumble is the silence after which it is noted that a dnode is offline. A
	// restart is no news.
	stumble = time.Minute
	// ownSight is the silence that a master wants to have seen itself, by a
	// clock that does not step, before it removes anybody.
	ownSight = time.Hour
)

// watchDnodes notes since when dnodes are away, and removes those that stay away
// for longer than offlineThreshold (A27).
func (p *planner) watchDnodes() {
	threshold := p.f.OfflineThreshold
	for _, d := range p.v.Live() {
		if d.UUID.IsZero() || d.Dropping || threshold <= 0 {
			continue
		}
		silent := p.f.silent(p.now, d)
		_, there := p.f.Fresh(p.now, d.ID)
		switch {
		case there && !d.OfflineSince.IsZero():
			p.do(Decide{MarkOffline{Dnode: d.ID}})
		case there || silent <= min(stumble, threshold/2):
		case d.OfflineSince.IsZero():
			p.do(Decide{MarkOffline{Dnode: d.ID, Since: p.now.Add(-silent).UTC()}})
		case silent > min(ownSight, threshold) && p.now.Sub(d.OfflineSince) > threshold && !d.Restoring:
			p.removeOverdue(d)
		}
	}
}

// removeOverdue drops a dnode that has been away for too long, unless its
// replicas have no other place: then it stays a member, and someone must come.
func (p *planner) removeOverdue(d Dnode) {
	if why := p.unremovable(d); why != "" {
		p.tasks = append(p.tasks, Task{Dnode: d.ID, What: taskRemove, Since: d.OfflineSince, Waiting: why})
		return
	}
	p.do(Decide{DropDnode{Dnode: d.ID}})
}

// unremovable says why the replicas of a dnode can't be made again elsewhere;
// empty: they can.
func (p *planner) unremovable(d Dnode) string {
	others := 0
	for _, x := range p.v.Live() {
		if x.ID != d.ID && p.f.usable(p.now, x) {
			others++
		}
	}
	if others < 2 {
		return "no two other hosts are there to hold its replicas"
	}
	for _, g := range p.v.Groups {
		m, on := g.at(d.ID)
		if !on || m.Leaving || g.State == Dropping {
			continue
		}
		if others < p.v.wanted(g) {
			return fmt.Sprintf("its replica of vgroup %d has no place to go", g.ID)
		}
		if _, _, led := p.f.leader(p.now, p.v, g); !led {
			return fmt.Sprintf("group %d has no master without it", g.ID)
		}
	}
	return ""
}

// at returns the membership of a dnode.
func (g Group) at(n id.Host) (Member, bool) {
	for _, m := range g.Members {
		if !m.Witness && m.Dnode == n {
			return m, true
		}
	}
	return Member{}, false
}
