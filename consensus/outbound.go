package consensus

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// pin keeps the log from being cut above an image that another host reads here,
// so that what follows it can be sent.
type pin struct {
	group *group
	by    id.UUID
	index id.Index
}

// The errors of AskCopy beside those of every request.
var (
	// ErrNotMember means that the asking directory holds no replica with data of
	// the group.
	ErrNotMember = errors.New("not a member of the group")
	// ErrNoCopy means that there is nothing to copy at this moment.
	ErrNoCopy = errors.New("no copy to give now")
)

// askCopy handles a host that wants a copy.
func (m *Machine) askCopy(e AskCopy) {
	g := m.groups[e.Group]
	var image Image
	err := ErrNoGroup // or it breaks in there
	if g != nil {
		m.guard(g, func() { image, err = m.mayCopy(g, e) })
	}
	if err != nil {
		m.out.refuse(e.Ticket, err)
		return
	}
	m.pins = slices.DeleteFunc(m.pins, func(p pin) bool { return p.group == g && p.by == e.For })
	m.pins = append(m.pins, pin{group: g, by: e.For, index: image.Index})
	m.out.applies = append(m.out.applies, Capture{Group: g.id, Ticket: e.Ticket, For: e.For, Image: image})
}

// mayCopy says what e.For may copy. The leader need not have committed anything
// in its term: perhaps it can't before the replica that asks is back.
func (m *Machine) mayCopy(g *group, e AskCopy) (Image, error) {
	switch {
	case g.fault != nil:
		return Image{}, fmt.Errorf("%w: %w", ErrStopped, g.fault)
	case !g.leading():
		return Image{}, g.notLeader()
	case !g.replicaAt(e.For):
		return Image{}, ErrNotMember
	}
	m.touch(g)
	m.drain(g)
	image, ok := g.image()
	if !ok || image.Index <= e.Above {
		return Image{}, ErrNoCopy
	}
	others := 0
	for _, p := range m.pins {
		if p.group != g || p.by != e.For {
			others++
		}
	}
	if others >= maxPins {
		return Image{}, fmt.Errorf("%w: %d others are being made", ErrNoCopy, others)
	}
	return image, nil
}

// replicaAt reports whether directory u holds a member with data.
func (g *group) replicaAt(u id.UUID) bool {
	return slices.ContainsFunc(g.dataMembers(), func(r id.Replica) bool { return g.members[r].UUID == u })
}

// released lets the log behind one image go.
func (m *Machine) released(g *group, e Release) {
	m.pins = slices.DeleteFunc(m.pins, func(p pin) bool { return p.group == g && p.by == e.For && p.index == e.Index })
}

// unpinAll forgets who reads g.
func (m *Machine) unpinAll(g *group) {
	m.pins = slices.DeleteFunc(m.pins, func(p pin) bool { return p.group == g })
}

// unpinDone forgets who has what it read: its own progress holds the log now.
func (m *Machine) unpinDone(g *group) {
	m.pins = slices.DeleteFunc(m.pins, func(p pin) bool {
		if p.group != g {
			return false
		}
		return slices.ContainsFunc(g.dataMembers(), func(r id.Replica) bool {
			return g.members[r].UUID == p.by && g.match(r) >= p.index
		})
	})
}

// pinned is the highest entry of g that may be cut. With a full disk entries
// come before copies: whoever reads begins again.
func (m *Machine) pinned(g *group, to id.Index) id.Index {
	if m.full {
		return to
	}
	for _, p := range m.pins {
		if p.group == g {
			to = min(to, p.index)
		}
	}
	return to
}

// spare is how far a leader lets its group's log go: what every member with data
// holds, and of the rest what is more than KeepForReplicaBytes.
func (m *Machine) spare(g *group) id.Index {
	to := g.commitNow
	for _, r := range g.dataMembers() {
		to = min(to, g.match(r))
	}
	to = max(to, m.reader.Spare(g.id, m.conf.KeepForReplicaBytes))
	return m.pinned(g, min(to, g.commitNow))
}

// offerAgain has the library look again at the members that it has offered a
// snapshot: it waits for an acknowledgement, and the offer, what became of it,
// or the acknowledgement may have been lost (R3).
func (m *Machine) offerAgain(g *group) {
	for _, r := range g.dataMembers() {
		if g.progress[r].State == tracker.StateSnapshot {
			g.node.ReportSnapshot(uint64(r), raft.SnapshotFailure)
			m.touch(g)
		}
	}
}
