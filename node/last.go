package node

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// lastHolder remembers who lacked what this host had committed when it led
// last. If this host stops then, the others wait for it: it must start first.
//
// It goes on knowing after a group has lost its quorum, which is how a pair that
// is stopped one box after the other ends.
type lastHolder struct {
	groups func() []consensus.Status
	mu     struct {
		sync.Mutex
		behind map[id.Group][]id.UUID
	}
}

// heldEvery is how often to look: far more often than a leader that has lost
// its quorum needs to notice that.
const heldEvery = 100 * time.Millisecond

// run looks until ctx ends.
func (l *lastHolder) run(ctx context.Context) error {
	ticker := time.NewTicker(heldEvery)
	defer ticker.Stop()
	for {
		l.note(l.groups())
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// note takes what this host sees of its groups now.
func (l *lastHolder) note(groups []consensus.Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.behind == nil {
		l.mu.behind = map[id.Group][]id.UUID{}
	}
	for i := range groups {
		switch s := &groups[i]; {
		case s.Role == consensus.RoleMaster:
			l.mu.behind[s.Group] = lacking(s)
		case !s.Leader.IsZero(): // it holds all that was acknowledged
			delete(l.mu.behind, s.Group)
		}
	}
}

// lacking is the data replicas that have not confirmed everything committed.
func lacking(s *consensus.Status) (behind []id.UUID) {
	for _, m := range s.Members {
		if !m.Witness && !m.Learner && m.Replica != s.Self && m.Match < s.Commit {
			behind = append(behind, m.UUID)
		}
	}
	return behind
}

// others returns all that lack something, and in how many groups.
func (l *lastHolder) others() (behind []id.UUID, groups int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, list := range l.mu.behind {
		if len(list) > 0 {
			groups++
		}
		for _, u := range list {
			if !slices.Contains(behind, u) {
				behind = append(behind, u)
			}
		}
	}
	return behind, groups
}

// say tells an operator, once this host leads nothing any more, that it must
// start first, if that matters.
func (l *lastHolder) say(log *slog.Logger, name func(id.UUID) string) {
	l.note(l.groups())
	behind, groups := l.others()
	if len(behind) == 0 {
		return
	}
	names := make([]string, len(behind))
	for i, u := range behind {
		names[i] = name(u)
	}
	slices.Sort(names)
	log.Warn("start this host first: it holds rows that others lack, they will wait for it",
		"others", strings.Join(names, ", "), "groups", groups)
}

// nameOf is how operators know a directory.
func (n *Node) nameOf(u id.UUID) string {
	if d, ok := n.host.View().DnodeOf(u); ok {
		return fmt.Sprintf("dnode %d (%s)", d.ID, d.EndPoint)
	}
	return u.Short()
}
