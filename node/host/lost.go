package host

import (
	"context"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/mnode"
)

// The rhythm of asking for members that are not connected: one that has only
// died is soon back where it was, so the arbitrator is asked less and less.
const (
	lostFirst = 2 * time.Second // doubled up to lostMost
	lostMost  = time.Minute
)

// seekLost asks the arbitrator where members are that are not connected. It has
// a fixed address and knows where hosts have connected from last: two hosts that
// have both moved find each other through it when nothing else tells them.
func (h *Host) seekLost(ctx context.Context) error {
	wait := lostFirst
	for {
		if err := pause(ctx, wait); err != nil {
			return nil
		}
		v := h.View()
		if !h.anyLost(v) {
			wait = lostFirst
			continue
		}
		wait = min(2*wait, lostMost)
		a, err := h.lookupArbitrator(ctx, v.Arbitrator.EndPoint)
		if err != nil || a.Cluster != v.Cluster.ID {
			continue // the connection to it says what is wrong
		}
		if was := h.others.Load(); was == nil || !slices.Equal(*was, a.Others) {
			h.others.Store(&a.Others)
			h.HintsChanged()
		}
	}
}

// anyLost reports whether the arbitrator is connected and a member is not.
func (h *Host) anyLost(v *mnode.View) bool {
	links := h.linked()
	return links[v.Arbitrator.UUID] && slices.ContainsFunc(v.Live(), func(d mnode.Dnode) bool {
		return !d.UUID.IsZero() && d.UUID != h.Self() && !links[d.UUID]
	})
}
