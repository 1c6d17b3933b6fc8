package main

import (
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/vnode/repeat"
)

// replica is the state machine of one group on one host, with its apply worker.
// Like Badger it may keep more over a death than its last checkpoint, never
// less; what it is given again must be the same.
type replica struct {
	group   *group
	host    *host
	id      id.Replica
	applied id.Index
	durable id.Index           // of the last checkpoint
	leads   bool               // it was told so
	queue   []consensus.Effect // Apply, Capture and Install, in order
	busy    bool
	handed  id.Index // Index of the last Apply that came
	first   bool     // no Apply came yet in this life
	reached id.Index // the highest handed of earlier lives
	pending map[id.Index]*request
	answers map[id.Replica]answer
	shutIn  id.Term // the term in which its feed is shut since an earlier step

	wasShutIn id.Term // shutIn before this step

	state        state
	memory       *repeat.Memory[statementID, outcome]
	clock        hlc.Clock
	durableState state
	recent       []effect           // since the checkpoint
	copies       map[id.Index]state // of other replicas, finished and durable
	readings     []reading
}

func (h *host) newReplica(g *group, r id.Replica) *replica {
	x := &replica{group: g, host: h, id: r, applied: 1, durable: 1, handed: 1, first: true, pending: map[id.Index]*request{}, answers: map[id.Replica]answer{}, copies: map[id.Index]state{}}
	x.reopen()
	h.replicas[g.id] = x
	g.checkpointLater(x)
	return x
}

// restart is what the state machine does after a death.
func (r *replica) restart(mark id.Index) {
	r.choose(mark)
	if log := r.host.store.written[r.group.id]; log != nil && r.durable > log.last().Index {
		r.host.w.fail("I2", "%s: the state of group %d is of entry %d, its log ends at %d", r.host.name, r.group.id, r.durable, log.last().Index)
	}
	r.applied = r.durable
	r.reached = max(r.reached, r.handed)
	r.handed = r.durable
	r.first = true
	r.queue, r.busy, r.leads, r.shutIn = nil, false, false, 0
	r.pending, r.answers = map[id.Index]*request{}, map[id.Replica]answer{}
	r.clock, r.readings = hlc.Clock{}, nil
	r.reopen()
	r.group.checkpointLater(r)
}

func (g *group) checkpointLater(r *replica) {
	r.host.later(r.host.w.between(300*time.Millisecond, 2*time.Second), func() {
		if r.applied > r.durable && !r.host.paused {
			r.checkpoint()
			r.host.post(consensus.Checkpointed{Group: g.id, Index: r.durable})
		}
		g.checkpointLater(r)
	})
}

// take queues what the apply worker is to do.
func (r *replica) take(e consensus.Effect) {
	switch e := e.(type) {
	case consensus.Apply:
		r.group.checkApply(r, e)
		r.handed = e.Index
	case consensus.Install:
		r.handed, r.first = e.Index, false
	}
	r.queue = append(r.queue, e)
	if !r.busy {
		r.busy = true
		r.work()
	}
}

func (r *replica) work() {
	h := r.host
	took := h.w.between(10*time.Microsecond, 150*time.Microsecond)
	if _, install := r.queue[0].(consensus.Install); install && h.w.chance(0.5) {
		took += h.w.between(0, time.Second) // a store is closed, another one opened
	}
	h.later(took, func() {
		if h.paused {
			r.work()
			return
		}
		next := r.queue[0]
		r.queue = r.queue[1:]
		switch e := next.(type) {
		case consensus.Apply:
			r.apply(e)
			h.post(consensus.Applied{Group: r.group.id, Index: e.Index})
		case consensus.Capture:
			r.capture(e)
		case consensus.Install:
			r.install(e)
			h.post(consensus.Applied{Group: r.group.id, Index: e.Index})
		}
		r.serveReads()
		if r.busy = len(r.queue) > 0; r.busy {
			r.work()
		}
	})
}

// apply carries committed entries out, and answers whoever waits for them.
func (r *replica) apply(e consensus.Apply) {
	before := r.applied
	r.applied = max(r.applied, e.Index)
	for _, x := range e.Entries {
		result := r.run(x)
		if q := r.pending[x.Index]; q != nil {
			delete(r.pending, x.Index)
			r.group.outcome(r, q, x, before)
			if q.answer != nil {
				q.answer(x.Term == q.term, result.was)
			}
		}
	}
	for i, q := range r.pending {
		if i <= e.Index { // an entry without data took its place
			delete(r.pending, i)
			q.lost()
		}
	}
}
