package consensus

import (
	"sync"
	"sync/atomic"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// progresses is how far the copies are that this host receives or serves.
type progresses struct {
	mu struct {
		sync.Mutex
		list []*progress
	}
}

// progress is how far the copy of a group is to directory to.
type progress struct {
	of    *progresses
	group id.Group
	to    id.UUID
	total uint64 // about
	done  atomic.Uint64
}

func (ps *progresses) begin(g id.Group, to id.UUID, total uint64) *progress {
	p := &progress{of: ps, group: g, to: to, total: total}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.mu.list = append(ps.mu.list, p)
	return p
}

func (p *progress) add(n int) { p.done.Add(uint64(n)) }

func (p *progress) end() {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	for i, q := range p.of.mu.list {
		if q == p {
			p.of.mu.list = append(p.of.mu.list[:i:i], p.of.mu.list[i+1:]...)
			return
		}
	}
}

// mark notes in the statuses, which are ordered by group, who is being copied to.
func (ps *progresses) mark(statuses []Status) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.mu.list {
		for i := range statuses {
			if statuses[i].Group != p.group {
				continue
			}
			for j := range statuses[i].Members {
				if m := &statuses[i].Members[j]; m.UUID == p.to && !m.Witness {
					m.CopyDone, m.CopyBytes = min(p.done.Load(), p.total), p.total
				}
			}
		}
	}
}
