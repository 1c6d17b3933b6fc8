package host

import (
	"fmt"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// Recovery is what an operator has decided on this host: it goes on alone, and
// the other data hosts are given up (R35). Their directories are never let in
// again.
type Recovery struct {
	At       time.Time
	On       string // this host's end point
	Survivor id.Host
	Replicas []mnode.Renumbered
	GivenUp  []id.UUID
	// Done is false while the log is being rewritten: nothing may start from a
	// directory that is half one thing and half another.
	Done bool
}

// maxGivenUp bounds the directories that are remembered, the newest first.
const maxGivenUp = 64

// Recovery returns the last one, if there was any.
func (r *Record) Recovery() (Recovery, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now.Recovery == nil {
		return Recovery{}, false
	}
	return *r.now.Recovery, true
}

// BeginRecovery notes what is about to be done to the log. From here on the
// directory starts only once EndRecovery has returned.
func (r *Record) BeginRecovery(plan Recovery) error {
	return r.change(func(c *contents) {
		if c.Recovery != nil {
			plan.GivenUp = append(plan.GivenUp, c.Recovery.GivenUp...)
		}
		plan.GivenUp = plan.GivenUp[:min(len(plan.GivenUp), maxGivenUp)]
		plan.Done = false
		c.Recovery = &plan
	})
}

// EndRecovery notes that the log is rewritten.
func (r *Record) EndRecovery() error {
	return r.change(func(c *contents) {
		done := *c.Recovery
		done.Done = true
		c.Recovery = &done
		for i, x := range c.Replicas {
			at := slices.IndexFunc(done.Replicas, func(n mnode.Renumbered) bool { return n.Group == x.Group && n.From == x.Replica })
			if at >= 0 {
				c.Replicas[i].Replica = done.Replicas[at].To
			}
		}
	})
}

// Whole refuses a directory whose recovery was interrupted.
func (r *Record) Whole() error {
	if plan, was := r.Recovery(); was && !plan.Done {
		return fmt.Errorf("tnode recover was interrupted on %s: run it again, it ends what it began", plan.At.Format(time.RFC3339))
	}
	return nil
}

// GivenUp refuses the directories that were given up on this host.
func (r *Record) GivenUp(u id.UUID) error {
	plan, was := r.Recovery()
	if !was || !plan.Done || !slices.Contains(plan.GivenUp, u) {
		return nil
	}
	return fmt.Errorf("given up by tnode recover on %s at %s", plan.On, plan.At.UTC().Format(time.RFC3339))
}
