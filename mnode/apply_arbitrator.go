package mnode

import (
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

func (c SetArbitrator) apply(v *View, now time.Time) Result {
	if c.EndPoint != "" {
		if err := checkEndPoint(c.EndPoint); err != nil {
			return refuseWith(err)
		}
	}
	was, next := v.Arbitrator, Arbitrator{EndPoint: c.EndPoint, UUID: c.UUID, Since: now, Configured: c.Configured}
	if c.EndPoint != "" && (c.UUID.IsZero() || c.UUID == was.UUID) {
		// Another address says nothing about the directory behind it.
		next.UUID, next.Since = was.UUID, was.Since
	}
	v.Arbitrator = next
	if was.EndPoint != next.EndPoint {
		v.Former = append(v.Former, was)
	}
	v.forgetArbitrators()
	v.bindWitnesses()
	return Result{}
}

// forgetArbitrators strikes out former arbitrators that no group needs.
func (v *View) forgetArbitrators() {
	v.Former = slices.DeleteFunc(v.Former, func(a Arbitrator) bool {
		return a.UUID.IsZero() || a.UUID == v.Arbitrator.UUID || !v.votes(a.UUID)
	})
	if len(v.Former) == 0 {
		v.Former = nil // equal states are equal bytes
	}
}

// votes reports whether an arbitrator's directory is a member of any group.
func (v *View) votes(u id.UUID) bool {
	return slices.ContainsFunc(v.Groups, func(g Group) bool {
		return slices.ContainsFunc(g.Members, func(m Member) bool { return m.Witness && m.UUID == u })
	})
}

// bindWitnesses gives the arbitrator's directory to the groups that were
// placed before it had ever answered, or takes it out of them if there is none
// any more. No replica of them exists yet.
func (v *View) bindWitnesses() {
	for i := range v.Groups {
		g := &v.Groups[i]
		unbound := func(m Member) bool { return m.Witness && m.UUID.IsZero() }
		if g.State != Creating || !slices.ContainsFunc(g.Members, unbound) {
			continue
		}
		if v.Arbitrator.EndPoint == "" {
			g.Members = slices.DeleteFunc(g.Members, unbound)
		}
		for k := range g.Members {
			if m := &g.Members[k]; unbound(*m) {
				m.UUID = v.Arbitrator.UUID
			}
		}
		g.Founders = slices.Clone(g.Members)
	}
}
