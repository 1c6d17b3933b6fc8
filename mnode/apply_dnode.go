package mnode

import (
	"slices"
	"strings"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// checkEndPoint wants host:port; what the name means is the resolver's business.
func checkEndPoint(endPoint string) error {
	i := strings.LastIndexByte(endPoint, ':')
	if i < 1 || i == len(endPoint)-1 || len(endPoint) > maxEndPoint || strings.ContainsAny(endPoint, " \t\n\x00'\"") {
		return fail(CodeParameter, "Invalid parameters: end point %q, want host:port", endPoint)
	}
	return nil
}

func (c CreateDnode) apply(v *View, now time.Time) Result {
	if err := checkEndPoint(c.EndPoint); err != nil {
		return refuseWith(err)
	}
	if d, ok := v.DnodeAt(c.EndPoint); ok {
		return refuse(CodeDnodeExists, "Dnode already exists: %s is dnode %d", c.EndPoint, d.ID)
	}
	if len(v.Dnodes) >= maxDnodes {
		return refuse(CodeOutOfDnodes, "too many dnodes: %d were created", len(v.Dnodes))
	}
	d := Dnode{ID: v.NextDnode, EndPoint: c.EndPoint, Created: now}
	v.NextDnode++
	v.Dnodes = append(v.Dnodes, d)
	return Result{Number: uint64(d.ID)}
}

func (c AdmitDnode) apply(v *View, _ time.Time) Result {
	if c.UUID.IsZero() {
		return refuse(CodeParameter, "Invalid parameters: a host without a directory")
	}
	if d, ok := v.DnodeOf(c.UUID); ok {
		switch {
		case d.Dropped:
			return refuse(CodeRefused, "dnode %d was dropped: empty its dataDir and type CREATE DNODE '%s'", d.ID, c.EndPoint)
		case d.EndPoint != c.EndPoint:
			return refuse(CodeRefused, "this directory is dnode %d at %s", d.ID, d.EndPoint)
		case c.Proof == Proof{} || c.Proof != d.Proof:
			return refuse(CodeRefused, "dnode %d at %s was let in before, and this is not the host that was: if its directory was put back from an old copy, empty it and type RESTORE DNODE %d", d.ID, d.EndPoint, d.ID)
		}
		return Result{Number: uint64(d.ID)}
	}
	d, ok := v.DnodeAt(c.EndPoint)
	if !ok {
		return refuse(CodeNoDnode, "Dnode does not exist: type CREATE DNODE '%s'", c.EndPoint)
	}
	if !d.UUID.IsZero() && !d.Restoring {
		return refuse(CodeRefused, "%s", v.GoneText(d))
	}
	p := v.dnode(d.ID)
	p.UUID, p.Proof, p.Restoring, p.OfflineSince = c.UUID, c.Proof, false, time.Time{}
	return Result{Number: uint64(d.ID)}
}

func (c MoveDnode) apply(v *View, _ time.Time) Result {
	if err := checkEndPoint(c.EndPoint); err != nil {
		return refuseWith(err)
	}
	d, ok := v.DnodeOf(c.UUID)
	if !ok || d.Dropped {
		return refuse(CodeNoDnode, "Dnode does not exist: no member has directory %s", c.UUID.Short())
	}
	// Two members never share an end point. Whoever had this one has moved, too:
	// until it says where, it gets the one that has become free.
	if other, taken := v.DnodeAt(c.EndPoint); taken {
		v.dnode(other.ID).EndPoint = d.EndPoint
	}
	v.dnode(d.ID).EndPoint = c.EndPoint
	return Result{Number: uint64(d.ID)}
}

func (c DropDnode) apply(v *View, _ time.Time) Result {
	d, ok := v.Dnode(c.Dnode)
	if !ok || d.Dropped {
		return refuse(CodeNoDnode, "Dnode does not exist: %d", c.Dnode)
	}
	if err := v.dispensable(d); err != nil {
		return refuseWith(err)
	}
	v.dnode(d.ID).Dropping = true
	return Result{Number: uint64(d.ID)}
}

// dispensable reports why the groups of the cluster could not do without a
// dnode: not only its own, those of others that leave need a place, too.
func (v *View) dispensable(d Dnode) error {
	all := v.placeable(nil)
	others := slices.DeleteFunc(slices.Clone(all), func(x Dnode) bool { return x.ID == d.ID })
	for _, g := range v.Groups {
		here := slices.ContainsFunc(g.Data(), func(m Member) bool { return m.Dnode == d.ID })
		if g.State == Dropping || !here && len(others) == len(all) {
			continue
		}
		switch {
		case g.ID == id.Mnode && len(others) == 0:
			return fail(CodeMnodeMaster, "Cannot drop mnode which is leader: dnode %d is the only one", d.ID)
		case len(others) < v.wanted(g) && here:
			return fail(CodeOutOfDnodes, "more dnodes are needed: a replica of vgroup %d on dnode %d has no place to go; if its directory is lost, keep the dnode and type RESTORE DNODE %d",
				g.ID, d.ID, d.ID)
		case len(others) < v.wanted(g):
			return fail(CodeOutOfDnodes, "more dnodes are needed: %d for vgroup %d, which is to leave another dnode that is being dropped", v.wanted(g), g.ID)
		}
	}
	return nil
}

func (c RemoveDnode) apply(v *View, _ time.Time) Result {
	d, ok := v.Dnode(c.Dnode)
	if !ok || d.Dropped || !d.Dropping {
		return refuse(CodeNoDnode, "Dnode does not exist: %d is not being dropped", c.Dnode)
	}
	if g, busy := v.groupOn(d.ID); busy {
		return refuse(CodeConflict, "dnode %d still holds a replica of group %d", d.ID, g)
	}
	p := v.dnode(d.ID)
	p.Dropped, p.Dropping, p.Restoring = true, false, false
	return Result{Number: uint64(d.ID)}
}

func (c RestoreDnode) apply(v *View, _ time.Time) Result {
	d, ok := v.Dnode(c.Dnode)
	switch {
	case !ok || d.Dropped:
		return refuse(CodeNoDnode, "Dnode does not exist: %d", c.Dnode)
	case d.Dropping:
		return refuse(CodeConflict, "dnode %d is being dropped: CREATE DNODE '%s' once it is gone", d.ID, d.EndPoint)
	case d.UUID.IsZero():
		return refuse(CodeConflict, "dnode %d has never reported, so there is nothing to restore: start tnode at %s", d.ID, d.EndPoint)
	}
	v.dnode(d.ID).Restoring = true
	return Result{Number: uint64(d.ID)}
}

func (c KeepDnode) apply(v *View, _ time.Time) Result {
	if d, ok := v.Dnode(c.Dnode); !ok || d.Dropped {
		return refuse(CodeNoDnode, "Dnode does not exist: %d", c.Dnode)
	}
	v.dnode(c.Dnode).Restoring = false
	return Result{Number: uint64(c.Dnode)}
}

func (c MarkOffline) apply(v *View, _ time.Time) Result {
	if d, ok := v.Dnode(c.Dnode); !ok || d.Dropped {
		return refuse(CodeNoDnode, "Dnode does not exist: %d", c.Dnode)
	}
	v.dnode(c.Dnode).OfflineSince = c.Since
	return Result{Number: uint64(c.Dnode)}
}

// groupOn names a group that has any membership on a dnode.
func (v *View) groupOn(n id.Host) (id.Group, bool) {
	for _, g := range v.Groups {
		if slices.ContainsFunc(g.Members, func(m Member) bool { return !m.Witness && m.Dnode == n }) {
			return g.ID, true
		}
	}
	return 0, false
}

func (v *View) dnode(n id.Host) *Dnode {
	i := slices.IndexFunc(v.Dnodes, func(d Dnode) bool { return d.ID == n })
	return &v.Dnodes[i]
}
