package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// retryReconcile is when a step that failed is tried again.
const retryReconcile = time.Second

// attachStored starts every replica that this host holds, without asking
// anybody. One that can't be opened is a fault of its own; the others run.
func (h *Host) attachStored(ctx context.Context, starts chan<- part) error {
	stored, err := h.groups.Stored()
	if err != nil {
		return fmt.Errorf("start replicas: %w", err)
	}
	marks := map[id.Group]id.Index{}
	for _, s := range stored {
		marks[s.Group] = s.Mark
	}
	for _, x := range h.record.replicas() {
		mark, inLog := marks[x.Group]
		switch {
		case x.Phase == phaseRemoving:
			// reconcile goes on with it
		case inLog:
			h.attach(ctx, x, mark, starts)
		case x.Phase == phaseHeld:
			h.fault(ctx, x.Group, "the log has lost this replica: it must be replaced, not made again (R40)")
		}
		delete(marks, x.Group)
	}
	for g := range marks {
		h.log.Error("the log holds a group that this host's record does not know", "group", g)
	}
	h.restartBirth(ctx, starts)
	return ctx.Err()
}

// restartBirth makes the first mnode replica, in a new cluster or in one whose
// founder died before it was durable.
func (h *Host) restartBirth(ctx context.Context, starts chan<- part) {
	self := h.record.Identity()
	if x, has := h.record.replica(id.Mnode); !self.Founding || has && x.Phase != phaseCreating || h.isRunning(id.Mnode) {
		return
	}
	alone := mnode.Member{Replica: 1, Dnode: self.Dnode, UUID: self.UUID}
	first := mnode.Group{ID: id.Mnode, State: mnode.Formed, Members: []mnode.Member{alone}, Founders: []mnode.Member{alone}}
	x := held{Group: id.Mnode, Replica: 1, Phase: phaseCreating}
	if err := h.record.put(x); err != nil {
		h.fault(ctx, id.Mnode, err.Error())
		return
	}
	h.create(ctx, x, first, starts)
}

// attach starts a replica whose state is durable up to mark, as the log says.
func (h *Host) attach(ctx context.Context, x held, mark id.Index, starts chan<- part) {
	sm, start, err := h.machine(ctx, x, mark, starts)
	if err == nil {
		if err = reaches(sm, mark); err != nil {
			err = errors.Join(err, sm.Close())
		} else {
			err = h.groups.Attach(ctx, x.Group, sm)
		}
	}
	if err != nil {
		h.fault(ctx, x.Group, fmt.Sprintf("open: %v", err))
		return
	}
	h.run(x.Group, start)
	if x.Phase == phaseCreating { // it was durable, its note was not
		x.Phase = phaseHeld
		if err := h.record.put(x); err != nil {
			h.log.Error("replica can't be noted", "group", x.Group, "err", err)
		}
	}
}

// reaches checks that a state machine holds what it made durable once. Without
// that its directory was lost or is another one, and as the log goes on after
// mark, nobody would ever see what is missing.
func reaches(sm consensus.StateMachine, mark id.Index) error {
	applier, ok := sm.(interface{ Applied() id.Index })
	if !ok {
		return nil
	}
	if at := max(applier.Applied(), 1); at < mark { // entry 1 is the initial record
		return fmt.Errorf("the data reaches entry %d and was durable up to %d: it was lost, the replica must be replaced", at, mark)
	}
	return nil
}

// machine opens the state machine of a replica that is durable up to mark, as
// the log says. start makes it known once its group runs.
func (h *Host) machine(ctx context.Context, x held, mark id.Index, starts chan<- part) (consensus.StateMachine, func(), error) {
	if x.Group == id.Mnode {
		m, err := mnode.Open(filepath.Join(h.cfg.DataDir, "mnode"), mark, h.log)
		if err != nil {
			return nil, nil, err
		}
		meta := &metadata{mnode: m, master: mnode.NewMaster(h.masterConfig(), m, outside{h}, h.log)}
		return m, func() {
			h.meta.Store(meta)
			_ = begin(ctx, starts, meta.master.Run) &&
				begin(ctx, starts, func(ctx context.Context) error { return h.follow(ctx, m) })
		}, nil
	}
	s, err := h.open(Spec{
		Dir: h.shardDir(x.Group), Group: x.Group, Cluster: h.record.Identity().Cluster,
		Database: x.Database, Options: x.Options, Mark: mark,
	})
	if err != nil {
		return nil, nil, err
	}
	return s, func() {
		next := maps.Clone(*h.shards.Load())
		next[x.Group] = s
		h.shards.Store(&next)
		begin(ctx, starts, func(ctx context.Context) error {
			if err := s.Run(ctx); ctx.Err() == nil {
				h.log.Info("shard ends", "group", x.Group, "reason", err) // closed with its group
			}
			return nil
		})
	}, nil
}

func (h *Host) shardDir(g id.Group) string {
	return filepath.Join(h.cfg.DataDir, "vnode", fmt.Sprintf("vnode%d", g))
}

// run notes that a replica takes part.
func (h *Host) run(g id.Group, start func()) {
	start()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.running[g] = true
	delete(h.mu.faults, g)
}

// made returns what starts a replica that was created and could not be noted;
// nil: there is none.
func (h *Host) made(g id.Group) (start func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.made[g]
}

func (h *Host) noteMade(g id.Group, start func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if start == nil {
		delete(h.mu.made, g)
	} else {
		h.mu.made[g] = start
	}
}

func (h *Host) isRunning(g id.Group) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.running[g]
}

// fault notes why a replica does not run; the report carries it. Once ctx has
// ended nothing is wrong with the replica: this host stops.
func (h *Host) fault(ctx context.Context, g id.Group, reason string) {
	if ctx.Err() != nil {
		return
	}
	h.mu.Lock()
	was := h.mu.faults[g]
	h.mu.faults[g] = reason
	h.mu.Unlock()
	if was != reason {
		h.log.Error("replica does not run", "group", g, "reason", reason)
	}
}

func (h *Host) faults() map[id.Group]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.mu.faults)
}

// reconcileLoop makes this host equal to each newer View, and tries again what
// failed.
func (h *Host) reconcileLoop(ctx context.Context, starts chan<- part) error {
	saved, inForce := h.View().Index, h.cfg.Arbitrator
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.wakeReconcile:
		case <-retry.C:
		}
		v := h.View()
		if v.Index > saved {
			// Not needed for safety, so a disk that refuses it stops nothing.
			if err := saveView(h.cfg.DataDir, v); err != nil {
				h.log.Warn("view can't be cached", "err", err)
			} else {
				saved = v.Index
			}
		}
		h.applyPeers(v) // the hints may be all that has changed
		inForce = h.sayOverruled(v, inForce)
		if h.reconcile(ctx, v, starts) {
			h.done.Store(uint64(v.Index))
		} else {
			retry.Reset(retryReconcile)
		}
		poke(h.wakeReport)
	}
}

// sayOverruled says that this host's configuration names another arbitrator than
// the one that is in force now (ALTER CLUSTER ARBITRATOR), if that is news.
func (h *Host) sayOverruled(v *mnode.View, was string) string {
	now := v.Arbitrator.EndPoint
	if v.Cluster.ID == 0 || now == was {
		return was
	}
	if now != h.cfg.Arbitrator {
		h.log.Warn("the configuration names another arbitrator than the one in force: change the key on every host when there is time",
			"in_force", now, "configured", h.cfg.Arbitrator)
	}
	return now
}

// reconcile makes this host's replicas equal to v. It reports whether they are.
func (h *Host) reconcile(ctx context.Context, v *mnode.View, starts chan<- part) bool {
	if v.Cluster.ID == 0 {
		return true
	}
	ok := true
	// First what goes: a group may have another replica of this host by now.
	for _, x := range h.record.replicas() {
		if !h.settle(ctx, v, x) {
			ok = false
		}
	}
	return h.createMissing(ctx, v, starts) && ok
}

// createMissing makes the replicas that the record of the cluster wants here
// and this host never had. All of them share two writes of this host's record.
func (h *Host) createMissing(ctx context.Context, v *mnode.View, starts chan<- part) bool {
	var wanted []held
	for _, g := range v.Groups {
		m, mine := g.On(h.Self())
		if !mine || m.Leaving || g.State == mnode.Dropping {
			continue
		}
		have, known := h.record.replica(g.ID)
		switch {
		case known && (have.Phase != phaseCreating || h.isRunning(g.ID)):
			continue
		case g.State == mnode.Creating && hasEveryUUID(g), g.State == mnode.Formed && m.Joining:
		case g.State == mnode.Formed:
			h.fault(ctx, g.ID, "this replica was lost after the group was formed: it must be replaced, not made again (R40)")
			continue
		default:
			continue
		}
		x := held{Group: g.ID, Replica: m.Replica, Epoch: g.Epoch, Phase: phaseCreating, Database: g.Database}
		if db, has := v.Database(g.Database); has {
			x.Options = db.Options
		}
		wanted = append(wanted, x)
	}
	if err := h.record.put(wanted...); err != nil {
		h.log.Error("replicas can't be created", "err", err)
		return false
	}
	ok := true
	for _, x := range wanted {
		g, _ := v.Group(x.Group)
		if !h.create(ctx, x, g, starts) {
			ok = false
		}
	}
	return ok
}

func hasEveryUUID(g mnode.Group) bool {
	return !slices.ContainsFunc(g.Members, func(m mnode.Member) bool { return m.UUID.IsZero() })
}

// create makes one replica from the group's initial record. Until the record
// of this host calls it held, nobody is told of it. What is made already when a
// later step fails is not made again: a store can be opened once only.
func (h *Host) create(ctx context.Context, x held, g mnode.Group, starts chan<- part) bool {
	spec := consensus.GroupSpec{Group: g.ID, Replica: x.Replica, Formed: g.State == mnode.Formed}
	for _, m := range g.Founders {
		spec.Members = append(spec.Members, consensus.Member{Replica: m.Replica, UUID: m.UUID, Witness: m.Witness})
	}
	start, err := h.made(x.Group), error(nil)
	if start == nil {
		var sm consensus.StateMachine
		if sm, start, err = h.machine(ctx, x, 0, starts); err == nil {
			if err = h.groups.Create(ctx, spec, sm); err != nil && ctx.Err() == nil && !errors.Is(err, consensus.ErrStopped) {
				err = errors.Join(err, sm.Close())
			}
		}
		if err == nil {
			h.noteMade(x.Group, start)
		}
	}
	if err == nil {
		x.Phase = phaseHeld
		err = h.record.put(x)
	}
	if err != nil {
		h.fault(ctx, x.Group, fmt.Sprintf("create: %v", err))
		return false
	}
	h.noteMade(x.Group, nil)
	h.run(x.Group, start)
	h.log.Info("replica created", "group", x.Group, "replica", x.Replica, "database", x.Database)
	return true
}

// settle leads one replica of this host to what v says of it.
func (h *Host) settle(ctx context.Context, v *mnode.View, x held) bool {
	g, known := v.Group(x.Group)
	m, mine := g.On(h.Self())
	struck := known && uint64(v.Index) > x.Epoch && x.Phase == phaseHeld &&
		(!mine || m.Replica != x.Replica) && x.Replica < g.NextReplica
	switch {
	case x.Phase == phaseRemoving, known && g.State == mnode.Dropping, struck:
		return h.remove(ctx, x)
	case known && g.State == mnode.Formed && h.isRunning(x.Group):
		if status, ok := h.groups.Status(x.Group); ok && !status.Formed {
			if err := h.groups.Form(ctx, x.Group); err != nil {
				h.log.Error("replica can't be formed", "group", x.Group, "err", err)
				return false
			}
			h.log.Info("replica formed", "group", x.Group)
		}
	}
	return true
}

// remove takes a replica away for ever: its group's log, its directory, its
// note. It goes on where a crash has stopped it.
func (h *Host) remove(ctx context.Context, x held) bool {
	if x.Group == id.Mnode && h.meta.Load() != nil {
		// A host that was an mnode keeps serving its View until it is stopped;
		// it holds no vote any more.
		h.log.Info("this host is no mnode any more")
	}
	x.Phase = phaseRemoving
	err := h.record.put(x)
	if err == nil {
		next := maps.Clone(*h.shards.Load())
		delete(next, x.Group)
		h.shards.Store(&next)
		err = h.groups.Drop(ctx, x.Group)
	}
	if err == nil {
		err = removeDir(h.dirOf(x.Group))
	}
	if err == nil {
		err = h.record.forget(x.Group)
	}
	if err != nil {
		h.log.Error("replica can't be removed", "group", x.Group, "err", err)
		return false
	}
	h.mu.Lock()
	delete(h.mu.running, x.Group)
	delete(h.mu.made, x.Group)
	delete(h.mu.faults, x.Group)
	h.mu.Unlock()
	h.log.Info("replica removed", "group", x.Group)
	return true
}

func (h *Host) dirOf(g id.Group) string {
	if g == id.Mnode {
		return filepath.Join(h.cfg.DataDir, "mnode")
	}
	return h.shardDir(g)
}

// removeDir removes a directory so that a crash in the middle does not leave
// half a store under its name.
func removeDir(dir string) error {
	doomed := dir + ".removed"
	if err := os.RemoveAll(doomed); err != nil {
		return fmt.Errorf("remove %s: %w", doomed, err)
	}
	if err := os.Rename(dir, doomed); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	if err := os.RemoveAll(doomed); err != nil {
		return fmt.Errorf("remove %s: %w", doomed, err)
	}
	return nil
}

// enrolled reports whether this arbitrator has ever confirmed a record: then it
// knows the cluster's secret and is never told it again.
func enrolled(v *mnode.View) bool {
	return slices.ContainsFunc(v.Groups, func(g mnode.Group) bool {
		return g.State == mnode.Formed && slices.ContainsFunc(g.Members, func(m mnode.Member) bool {
			return m.Witness && !m.Joining && m.UUID == v.Arbitrator.UUID
		})
	})
}
