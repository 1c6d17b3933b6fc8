package mnode

import (
	"slices"
	"time"
)

func (c SetArbitrator) apply(v *View, now time.Time) Result {
	if c.EndPoint != "" {
		if err := checkEndPoint(c.EndPoint); err != nil {
			return refuseWith(err)
		}
	}
	switch {
	case c.EndPoint != v.Arbitrator.EndPoint && c.UUID.IsZero():
		// Another address says nothing about the directory behind it.
		v.Arbitrator.EndPoint = c.EndPoint
	case !c.UUID.IsZero() && c.UUID != v.Arbitrator.UUID:
		v.Arbitrator = Arbitrator{EndPoint: c.EndPoint, UUID: c.UUID, Since: now}
	default:
		v.Arbitrator.EndPoint = c.EndPoint
	}
	v.bindWitnesses()
	return Result{}
}

// bindWitnesses gives the arbitrator's directory to the groups that were
// placed before it had ever answered. No replica of them exists yet.
func (v *View) bindWitnesses() {
	for i := range v.Groups {
		g := &v.Groups[i]
		if g.State != Creating {
			continue
		}
		for k := range g.Members {
			if m := &g.Members[k]; m.Witness && m.UUID.IsZero() {
				m.UUID = v.Arbitrator.UUID
				g.Founders = slices.Clone(g.Members)
			}
		}
	}
}
