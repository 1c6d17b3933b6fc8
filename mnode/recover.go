package mnode

import (
	"fmt"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Recover makes one dnode the only one whose replicas count: an operator has
// given all others up (R35). Nobody proposes it. `tnode recover` writes it to
// the end of the stopped survivor's log, together with the same change of the
// groups themselves.
type Recover struct {
	Survivor id.Host
	Replicas []Renumbered // those of the survivor, by group
}

// Renumbered is a replica that goes on under another id: under the old one
// nobody who was given up can speak to it.
type Renumbered struct {
	Group id.Group
	From  id.Replica
	To    id.Replica
}

func (Recover) kind() kind { return kindRecover }

func (c Recover) apply(v *View, _ time.Time) Result {
	if d, ok := v.Dnode(c.Survivor); !ok || d.Dropped {
		return refuse(CodeNoDnode, "Dnode does not exist: %d", c.Survivor)
	}
	for _, r := range c.Replicas {
		if err := v.renumbers(c.Survivor, r); err != nil {
			return refuseWith(err)
		}
	}
	for _, r := range c.Replicas {
		g := v.group(r.Group)
		members := slices.Clone(g.Members)
		g.Members = nil
		for _, m := range members {
			switch {
			case m.Replica == r.From:
				m.Replica, m.Joining, m.Leaving = r.To, false, false
				g.Members = append(g.Members, m)
			case m.Witness && !m.UUID.IsZero(): // it is retired, once more if need be
				m.Joining, m.Leaving = false, true
				g.Members = append(g.Members, m)
			}
		}
		g.NextReplica = r.To + 1
	}
	v.dnode(c.Survivor).Dropping = false
	return Result{}
}

// renumbers reports why a replica of the survivor can't go on under another id.
func (v *View) renumbers(survivor id.Host, r Renumbered) error {
	g := v.group(r.Group)
	if g == nil {
		return fmt.Errorf("group %d is not known", r.Group)
	}
	mine := slices.ContainsFunc(g.Members, func(m Member) bool { return m.Replica == r.From && m.Dnode == survivor && !m.Witness })
	if !mine || r.To < g.NextReplica {
		return fmt.Errorf("replica %d of group %d can't become replica %d, next is %d", r.From, r.Group, r.To, g.NextReplica)
	}
	return nil
}

// beyond is how far a new id stays above those that are known to have been given
// out: what the lost part of the metadata has given out since is far less.
const beyond = 1000

// Survive returns the command that makes the dnode with this directory the only
// one. Only formed groups go on; one that was being made never held anything.
func (v *View) Survive(directory id.UUID) (Recover, error) {
	d, ok := v.DnodeOf(directory)
	if !ok || d.Dropped {
		return Recover{}, fmt.Errorf("the metadata knows no dnode with this directory (%s)", directory.Short())
	}
	c := Recover{Survivor: d.ID}
	for _, g := range v.Groups {
		if m, mine := g.On(directory); mine && g.State == Formed && !m.Leaving {
			c.Replicas = append(c.Replicas, Renumbered{Group: g.ID, From: m.Replica, To: g.NextReplica + beyond})
		}
	}
	return c, nil
}
