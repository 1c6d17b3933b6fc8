package host

import (
	"slices"

	"github.com/tarbitrator/tarbitrator/mnode"
)

// Failovers returns the changes of master that this host knows of, newest first.
// It never waits; the slice is the caller's.
func (h *Host) Failovers() []mnode.Failover {
	list := slices.Clone(h.View().Failovers)
	slices.Reverse(list)
	return list
}
