package host

import (
	"fmt"
	"strings"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// waitsFor names whom a group without a master waits for: the members that are
// not connected to this host. Empty: all are, and an election is all it takes.
//
// With the arbitrator connected the one that is named is certainly needed: had
// this host everything that was acknowledged, the arbitrator would have voted.
func (h *Host) waitsFor(g mnode.Group) string {
	return waits(g, h.Self(), h.linked(), func(d id.Host) string {
		at, _ := h.View().Dnode(d)
		return at.EndPoint
	}, h.View().Arbitrator.EndPoint)
}

func waits(g mnode.Group, self id.UUID, linked map[id.UUID]bool, endPoint func(id.Host) string, arbitrator string) string {
	var away []string
	for _, m := range g.Members {
		switch {
		case m.UUID == self || linked[m.UUID]:
		case m.Witness:
			away = append(away, fmt.Sprintf("the arbitrator (%s)", arbitrator))
		default:
			away = append(away, fmt.Sprintf("dnode %d (%s)", m.Dnode, endPoint(m.Dnode)))
		}
	}
	return strings.Join(away, " or ")
}
