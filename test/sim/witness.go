package main

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/tarbitrator/tarbitrator/arbitrator"
	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
)

// witness is one arbitrator process: the shell around an arbitrator.Machine,
// with its real store over a disk that knows process death and power loss.
type witness struct {
	box
	machine  *arbitrator.Machine // nil while the process is dead
	inbox    []arbitrator.Event
	stepping bool

	disk    *waltest.Disk
	store   *arbitrator.Store
	written uint64 // Seq of the last Write that was appended
	noted   bool   // something else was appended since
	syncing bool
	slow    time.Duration // added to every sync

	// What must be in the store: durable, and then any prefix of unsynced.
	durable  records
	unsynced []arbitrator.Write
	before   map[id.UUID]records // what was in directories before they were wiped or replaced by a copy

	enrolled map[arbitrator.Key]bool // asked for by this run, in this directory
	removed  bool                    // replaced: never started again
	received int                     // messages, to know what a quiet group costs
}

// newWitness adds an arbitrator with an empty directory.
func (w *world) newWitness(name string) *witness {
	a := &witness{box: w.box(name, true), before: map[id.UUID]records{}}
	a.linked = func(*box, consensus.LinkState) {}
	a.offer = func() peer.Offer { return a.store.Starts() }
	a.judges, a.refusedBy, a.heardOf = a.judge, a.refused, a.heardSequence
	w.arbs = append(w.arbs, a)
	w.net.add(&a.box)
	a.empty()
	a.start()
	return a
}

// empty gives a dead arbitrator an empty directory.
func (a *witness) empty() {
	a.disk = waltest.NewDisk(a.w.rng.Uint64())
	a.durable, a.unsynced, a.enrolled = records{}, nil, map[arbitrator.Key]bool{}
	a.uuid = id.UUID{}
}

// wipe replaces the directory of a dead arbitrator by an empty one. Whoever
// still means the old directory reaches the new one at the same address.
func (a *witness) wipe() {
	a.w.tracef("%s is wiped", a.name)
	a.before[a.uuid] = a.durable
	a.former = append(a.former, a.uuid)
	a.copied = false
	a.empty()
}

func (a *witness) start() {
	if a.up || a.removed {
		return
	}
	a.life++
	a.up, a.paused, a.inbox, a.stepping, a.syncing, a.noted = true, false, nil, false, false, false
	store, err := arbitrator.OpenStore(a.disk, logOptions)
	if !a.ok("open the store", err) {
		a.w.after(50*time.Millisecond, a.start)
		return
	}
	list := store.Records()
	if err := a.checkStore(list, store.Generation()); err != nil {
		a.w.fail("disk", "%s: recovery: %v", a.name, err)
	}
	if a.uuid != store.UUID() && !a.uuid.IsZero() {
		a.w.fail("disk", "%s was directory %s, now it is %s", a.name, a.uuid.Short(), store.UUID().Short())
	}
	a.store, a.uuid, a.written = store, store.UUID(), store.Generation()
	if !a.ok("count this start", store.Begin(a.w.rng.Uint64())) {
		a.w.after(50*time.Millisecond, a.start)
		return
	}
	a.machine = arbitrator.NewMachine(arbitrator.DefaultConfig(), a.uuid, a.written, list)
	a.w.tracef("%s starts with %d records", a.name, len(list))
	a.told = 0
	a.later(sightingsEvery, a.keepSightings)
	a.later(generationEvery, a.tellGeneration)
	a.dialAll()
}

// checkStore compares what recovery found with what must be there, and makes it
// what is durable from here on.
func (a *witness) checkStore(list []arbitrator.Record, generation uint64) error {
	got := records{}
	for _, r := range list {
		got[r.Key] = r
	}
	for _, wr := range a.unsynced {
		if wr.Seq <= generation {
			a.keep(wr)
			continue
		}
		for i := range wr.Records { // of the last one a part may be there
			if r := wr.Records[i]; reflect.DeepEqual(got[r.Key], r) {
				a.keep(arbitrator.Write{Records: wr.Records[i : i+1]})
			}
		}
	}
	a.unsynced = nil
	if !maps.EqualFunc(a.durable, got, func(x, y arbitrator.Record) bool { return reflect.DeepEqual(x, y) }) {
		return fmt.Errorf("found %v of generation %d, want %v", got, generation, a.durable)
	}
	return nil
}

// receive takes a frame that was meant for directory to.
func (a *witness) receive(from, to id.UUID, messages []peer.Message) {
	a.received += len(messages)
	for i := range messages {
		if m := &messages[i]; m.Kind == peer.KindEnroll && to == a.uuid {
			a.enrolled[arbitrator.Key{Cluster: cluster, Group: m.Group, Replica: m.To}] = true
		}
	}
	if a.paused && len(a.inbox) >= frozenFrames {
		return
	}
	a.post(arbitrator.Received{Cluster: cluster, From: from, To: to, Messages: messages})
}

func (a *witness) post(e arbitrator.Event) {
	if !a.up {
		return
	}
	a.inbox = append(a.inbox, e)
	if !a.stepping && !a.paused {
		a.stepping = true
		a.later(a.w.between(time.Microsecond, 15*time.Microsecond), a.step)
	}
}

func (a *witness) step() {
	a.stepping = false
	if a.paused || len(a.inbox) == 0 {
		return
	}
	events := a.inbox
	a.inbox = nil
	for _, e := range events {
		if e, ok := e.(arbitrator.Received); ok {
			a.meet(e)
		}
	}
	if !a.up {
		return
	}
	for _, e := range a.stepMachine(events) {
		if !a.up {
			return
		}
		switch e := e.(type) {
		case arbitrator.Write:
			a.write(e)
		case arbitrator.Send:
			a.send(e)
		case arbitrator.Report:
			a.w.tracef("%s %s %v", a.name, e.What, e.Args)
		}
	}
}

func (a *witness) stepMachine(events []arbitrator.Event) []arbitrator.Effect {
	defer func() {
		if p := recover(); p != nil {
			a.w.fail("panic", "%s: %v\n%s", a.name, p, debug.Stack())
		}
	}()
	return a.machine.Step(a.w.now, events)
}

// write appends to the store, and sees to it that a sync comes.
func (a *witness) write(e arbitrator.Write) {
	if e.Seq != a.written+1 {
		a.w.fail("face", "%s: Write %d after %d", a.name, e.Seq, a.written)
	}
	a.written = e.Seq
	a.unsynced = append(a.unsynced, e)
	a.append(append(a.store.Ops(e), a.store.Sightings()...))
}

// append appends operations, and sees to it that a sync comes.
func (a *witness) append(ops []wal.Op) {
	a.ok("append", a.store.Log().Append(ops))
	a.noted = true
	if !a.syncing {
		a.syncing = true
		a.later(a.w.between(time.Microsecond, 10*time.Microsecond), a.sync)
	}
}

// sync hands everything to the kernel, waits for the disk and says so.
func (a *witness) sync() {
	if a.paused {
		a.later(time.Millisecond, a.sync)
		return
	}
	target := a.written
	a.noted = false
	if !a.ok("flush", a.store.Log().Flush()) {
		return
	}
	early := a.w.chance(0.5)
	if early && !a.synced(target) {
		return
	}
	a.later(a.slow+a.w.between(100*time.Microsecond, 2*time.Millisecond), func() {
		if !early && !a.synced(target) {
			return
		}
		a.post(arbitrator.Synced{Seq: target})
		if a.w.chance(0.3) {
			if _, err := a.store.Log().Maintain(); !a.ok("maintain", err) {
				return
			}
		}
		if a.syncing = a.noted; a.syncing {
			a.sync()
		}
	})
}

// synced makes everything durable up to Write seq.
func (a *witness) synced(seq uint64) bool {
	if !a.ok("sync", a.store.Log().Sync()) {
		return false
	}
	n := 0
	for n < len(a.unsynced) && a.unsynced[n].Seq <= seq {
		a.keep(a.unsynced[n])
		n++
	}
	a.unsynced = a.unsynced[n:]
	return true
}

// ok reports whether the disk did what it was asked. It does not when it is
// where the process was to die.
func (a *witness) ok(act string, err error) bool {
	switch {
	case err == nil:
		return true
	case errors.Is(err, waltest.ErrDead):
		a.die(a.w.chance(0.5))
	default:
		a.w.fail("disk", "%s: %s: %v", a.name, act, err)
	}
	return false
}

// keep makes one Write durable and has the checker look at it.
func (a *witness) keep(wr arbitrator.Write) {
	for _, k := range wr.Removed {
		delete(a.durable, k)
	}
	for _, r := range wr.Records {
		was, old := a.durable[r.Key]
		a.durable[r.Key] = r
		a.checkRecord(was, old, &r)
	}
}

func (a *witness) checkRecord(was arbitrator.Record, old bool, r *arbitrator.Record) {
	w := a.w
	if err := r.Check(); err != nil {
		w.fail("face", "%s: %v", a.name, err)
	}
	if r.Retired || r.Tainted {
		return
	}
	if old && (r.Term < was.Term || r.Term == was.Term && was.Vote != 0 && r.Vote != was.Vote || r.Commit < was.Commit) {
		w.fail("R25", "%s: record of group %d goes from term %d vote %d commit %d to term %d vote %d commit %d",
			a.name, r.Group, was.Term, was.Vote, was.Commit, r.Term, r.Vote, r.Commit)
	}
	g := w.group(r.Group)
	if now, before := lastOf(r), lastOf(&was); g != nil && now != before {
		w.fold(6, uint64(a.at), uint64(r.Group), uint64(now.Index))
		g.checkWitness(r.Replica, r.Term, now)
		for _, h := range w.hosts {
			w.lookShut(h, g)
		}
	}
}

func lastOf(r *arbitrator.Record) wal.Position {
	p := wal.Position{Index: r.Commit, Term: r.CommitTerm}
	if n := len(r.Runs); n > 0 {
		p = wal.Position{Index: r.Last, Term: r.Runs[n-1].Term}
	}
	return p
}

// last returns where the witness's log of a group ends on its disk.
func (a *witness) last(g id.Group, r id.Replica) wal.Position {
	rec := a.durable[arbitrator.Key{Cluster: cluster, Group: g, Replica: r}]
	return lastOf(&rec)
}

// records is the content of a directory.
type records map[arbitrator.Key]arbitrator.Record

// holds reports whether replica r of group g remembers that entry i is of term.
func (all records) holds(g id.Group, r id.Replica, i id.Index, term id.Term) bool {
	rec, ok := all[arbitrator.Key{Cluster: cluster, Group: g, Replica: r}]
	if !ok || rec.Retired || rec.Tainted || i > rec.Last {
		return false
	}
	if i <= rec.Commit {
		return true
	}
	at := rec.CommitTerm
	for _, run := range rec.Runs {
		if run.First <= i {
			at = run.Term
		}
	}
	return at == term
}

// send puts answers on the wire, after the checker has read them.
func (a *witness) send(e arbitrator.Send) {
	to := a.w.net.home(&a.box, e.To)
	for i := range e.Messages {
		a.said(&e.Messages[i])
	}
	a.w.carry(&a.box, to, e.To, peer.Beats, e.Messages)
}

// ---- faults ----

func (a *witness) kill()      { a.die(true) }
func (a *witness) powerOff()  { a.die(false) }
func (a *witness) fuse(n int) { a.disk.DieAfter(n) }

func (a *witness) die(process bool) {
	if !a.up {
		return
	}
	a.w.tracef("%s dies, power off: %t", a.name, !process)
	a.up = false
	a.life++
	a.machine = nil
	if process {
		a.disk.Kill()
	} else {
		a.disk.PowerOff()
	}
	a.w.net.gone(&a.box, process)
}

func (a *witness) pause() {
	a.w.tracef("%s freezes", a.name)
	a.paused = true
}

func (a *witness) resume() {
	if !a.paused {
		return
	}
	a.w.tracef("%s goes on", a.name)
	a.paused = false
	if a.up && len(a.inbox) > 0 {
		a.stepping = true
		a.later(time.Microsecond, a.step)
	}
}
