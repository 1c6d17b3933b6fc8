package consensus

import (
	"slices"
	"time"
)

// maxHistory bounds what a host keeps of the changes of leader that it saw. The
// mnode, which is told, keeps more and for longer.
const maxHistory = 16

// History is what a host has seen of changes of leader, oldest first.
type History struct {
	Failovers   []Failover   // it leads since
	Depositions []Deposition // it led before
}

// Empty reports whether there is nothing to tell.
func (h History) Empty() bool { return len(h.Failovers) == 0 && len(h.Depositions) == 0 }

// History returns the newest changes of leader that this host has seen. The
// slices must not be changed.
func (h *Host) History() History {
	h.shared.Lock()
	defer h.shared.Unlock()
	return h.shared.history
}

// failedOver keeps what the machine knows of a change, instead of what it knew
// of it before.
func (h *Host) failedOver(now time.Duration, e FailedOver) {
	clock := time.Now().Add(-now).UTC().Round(0)
	e.At, e.Heard = clock.Add(e.ElectedAt), clock.Add(e.HeardAt)
	h.shared.Lock()
	defer h.shared.Unlock()
	list := &h.shared.history.Failovers
	if i := slices.IndexFunc(*list, func(f Failover) bool { return f.Leadership == e.Leadership }); i >= 0 {
		e.At, e.Heard = (*list)[i].At, (*list)[i].Heard
		*list = slices.Clone(*list)
		(*list)[i] = e.Failover
		return
	}
	*list = keepNewest(*list, e.Failover)
}

func (h *Host) deposed(e Deposed) {
	h.shared.Lock()
	defer h.shared.Unlock()
	list := &h.shared.history.Depositions
	*list = keepNewest(*list, e.Deposition)
}

// keepNewest returns list with x, in a new array.
func keepNewest[T any](list []T, x T) []T {
	return append(slices.Clone(list[max(0, len(list)+1-maxHistory):]), x)
}
