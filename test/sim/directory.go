package main

import (
	"maps"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/arbitrator"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
)

// sightingsEvery is how often a host tells how far its log has come and writes
// down what it was told, as node/host does.
const sightingsEvery = 5 * time.Second

// directory is what a data directory holds beside the log (R42): its starts, and
// what it has seen of other directories. Both are files that are whole or not
// there, so a death leaves the old or the new one.
type directory struct {
	starts  peer.Offer
	kept    map[id.UUID]peer.Sighting
	oldCopy bool // it was found to be one
}

func (d *directory) clone() directory {
	return directory{d.starts, maps.Clone(d.kept), d.oldCopy}
}

// begin counts this start before anything is said to anybody.
func (h *host) begin() {
	found := h.store.log.Found()
	if found < h.dir.starts.Sequence {
		h.w.fail("R42", "%s: the log ends at batch %d, start %d had found %d", h.name, found, h.dir.starts.Boot, h.dir.starts.Sequence)
	}
	h.dir.starts = h.dir.starts.Next(h.w.rng.Uint64(), found)
	h.seen, h.told = maps.Clone(h.dir.kept), 0
	h.later(sightingsEvery, h.tellSequence)
}

// tellSequence tells everybody how far the log has come, and keeps what others
// told.
func (h *host) tellSequence() {
	h.later(sightingsEvery, h.tellSequence)
	if h.paused {
		return
	}
	h.tellNow()
	h.keepSightings()
}

func (h *host) tellNow() {
	if now := h.store.log.Changed(); now > h.told {
		h.told = now
		for _, o := range h.w.net.boxes {
			h.w.net.tell(&h.box, o, h.told)
		}
	}
}

// keepSightings writes down what was seen, a little later. A death before that
// leaves the old file.
func (h *host) keepSightings() {
	h.later(h.w.between(100*time.Microsecond, 3*time.Millisecond), func() { h.dir.kept = maps.Clone(h.seen) })
}

// judge is the gate of a handshake: it says whether other continues what was
// seen of it.
func (h *host) judge(other *box, o peer.Offer) error {
	was := h.seen[other.uuid]
	now, err := was.Judge(o)
	if err == nil {
		h.seen[other.uuid] = now
	}
	if now.Start != was.Start {
		h.keepSightings()
	}
	return err
}

// heardAnswers notes the arbitrator's generation, which its answers carry (R30).
func (h *host) heardAnswers(from *box, messages []peer.Message) {
	if !from.witness || h.paused {
		return
	}
	generation := uint64(0)
	for i := range messages {
		if a := messages[i].Answer; a != nil {
			generation = max(generation, a.Generation)
		}
	}
	h.heardSequence(from.remote(), generation)
}

// heardSequence notes how far another directory's log has come.
func (h *host) heardSequence(from peer.Remote, sequence uint64) {
	x := h.seen[from.UUID]
	if x.Heard(from.Start, sequence) {
		h.seen[from.UUID] = x
	}
}

// refused is what a host does when somebody takes its directory for an old copy:
// it stops for good (R42).
func (h *host) refused(by *box, why error) {
	if !h.copied {
		h.w.fail("R42", "%s refuses %s, which is no copy: %v", by.name, h.name, why)
	}
	h.w.tracef("%s is refused by %s: %v", h.name, by.name, why)
	h.dir.oldCopy = true
	h.end(true, func() { h.w.net.closed(&h.box) })
}

// ---- arbitrators: the real store, which keeps what they know ----

// generationEvery is how often hosts are told how far an arbitrator's store has
// come, as arbitrator does.
const generationEvery = 15 * time.Second

// meet notes who has sent a frame, and takes a cluster in that enrols a replica.
func (a *witness) meet(e arbitrator.Received) {
	from := a.w.net.home(&a.box, e.From)
	if _, known := a.store.Secret(cluster); !known {
		enrols := slices.ContainsFunc(e.Messages, func(m peer.Message) bool {
			return m.Kind == peer.KindEnroll && m.Enroll.Witness == a.uuid
		})
		if !enrols {
			return
		}
		op, ok := a.store.Adopt(cluster, peer.Secret{})
		if !ok {
			a.w.fail("face", "%s has no room for its first cluster", a.name)
		}
		a.append([]wal.Op{op})
	}
	if op, news := a.store.Note(from.remote()); news && a.up {
		a.append([]wal.Op{op})
	}
}

func (a *witness) judge(other *box, o peer.Offer) error {
	_, err := a.store.Judge(cluster, other.uuid, o)
	return err
}

func (a *witness) heardSequence(from peer.Remote, sequence uint64) { a.store.Heard(from, sequence) }

// refused is what an arbitrator does when a host takes its directory for an old
// copy: its machine taints what it remembers (R30).
func (a *witness) refused(by *box, why error) {
	if !a.copied {
		a.w.fail("R30", "%s refuses %s, which is no copy: %v", by.name, a.name, why)
	}
	a.w.tracef("%s is refused by %s: %v", a.name, by.name, why)
	a.post(arbitrator.RolledBack{Cluster: cluster})
}

func (a *witness) keepSightings() {
	a.later(sightingsEvery, a.keepSightings)
	if ops := a.store.Sightings(); !a.paused && len(ops) > 0 {
		a.append(ops)
	}
}

func (a *witness) tellGeneration() {
	a.later(generationEvery, a.tellGeneration)
	if g := a.machine.Generation(); !a.paused && g > a.told {
		a.told = g
		for _, o := range a.w.net.boxes {
			a.w.net.tell(&a.box, o, g)
		}
	}
}

// ---- copies ----

// backup is a copy of a host's whole directory.
type backup struct {
	disk   *waltest.Disk
	dir    directory
	states map[id.Group]checkpointed
	taken  time.Duration
}

type checkpointed struct {
	index id.Index
	state state
}

// copyOfDisk copies a disk as processes see it now.
func copyOfDisk(d *waltest.Disk, w *world) *waltest.Disk {
	c := d.Clone(w.rng.Uint64())
	c.Kill() // whoever wrote the original does not hold the copy
	return c
}

// backup copies the directory as it is at this moment, running or not.
func (h *host) backup() *backup {
	b := &backup{copyOfDisk(h.store.disk, h.w), h.dir.clone(), map[id.Group]checkpointed{}, h.w.now}
	for g, r := range h.replicas {
		b.states[g] = checkpointed{r.durable, r.durableState.clone()}
	}
	return b
}

// restore puts a copy in place of a dead host's directory. State machines
// restart from the marks in its log.
func (h *host) restore(b *backup) {
	h.w.tracef("%s gets a copy of its directory, %v old", h.name, h.w.now-b.taken)
	h.mayFail, h.copied = true, true
	h.dir = b.dir.clone()
	h.store.replace(copyOfDisk(b.disk, h.w))
	for g, r := range h.replicas {
		if c, ok := b.states[g]; ok && h.store.durable[g] != nil {
			r.durable, r.durableState, r.recent = c.index, c.state.clone(), nil
		} else {
			delete(h.replicas, g)
		}
	}
}

// twin starts a copy of h beside it, at another address.
func (h *host) twin(b *backup) *host {
	t := h.w.vacant(h.name + "'")
	t.uuid, t.number = h.uuid, h.number
	for g, r := range h.replicas {
		t.replicas[g] = &replica{group: r.group, host: t, id: r.id, copies: map[id.Index]state{}}
	}
	t.restore(b)
	t.start()
	return t
}

// witnessBackup is a copy of an arbitrator's directory, with what must be in it.
type witnessBackup struct {
	disk     *waltest.Disk
	durable  records
	unsynced []arbitrator.Write
	taken    time.Duration
}

// backup copies the directory as it is at this moment, running or not.
func (a *witness) backup() *witnessBackup {
	return &witnessBackup{copyOfDisk(a.disk, a.w), maps.Clone(a.durable), slices.Clone(a.unsynced), a.w.now}
}

// restore puts a copy in place of a dead arbitrator's directory.
func (a *witness) restore(b *witnessBackup) {
	a.w.tracef("%s gets a copy of its directory, %v old", a.name, a.w.now-b.taken)
	a.copied = true
	a.before[a.uuid] = a.durable
	a.disk, a.durable, a.unsynced = copyOfDisk(b.disk, a.w), maps.Clone(b.durable), slices.Clone(b.unsynced)
}
