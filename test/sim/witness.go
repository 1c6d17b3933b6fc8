package main

import (
	"runtime/debug"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/arbitrator"
	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// witness is one arbitrator process: the shell around an arbitrator.Machine,
// with its store of records.
//
// The store keeps what its format promises: after a process death everything
// that was handed over, after a power loss everything that was synced and a
// prefix of the rest; what is read at open is durable.
type witness struct {
	box
	machine  *arbitrator.Machine
	inbox    []arbitrator.Event
	stepping bool
	durable  records
	wiped    map[id.UUID]records // what was in directories that are gone
	unsynced []arbitrator.Write
	seq      uint64 // of the last Write that is durable
	syncing  bool
	enrolled map[arbitrator.Key]bool // asked for by this run, in this directory
	slow     time.Duration
	removed  bool
	received int // messages, to know what a quiet group costs
}

// newWitness adds an arbitrator with an empty directory.
func (w *world) newWitness(name string) *witness {
	a := &witness{box: w.box(name, true), wiped: map[id.UUID]records{}}
	a.linked = func(*box, consensus.LinkState) {}
	a.empty()
	w.names[a.uuid] = &a.box
	w.arbs = append(w.arbs, a)
	w.net.add(&a.box)
	a.start()
	return a
}

func (a *witness) empty() {
	a.durable, a.unsynced, a.seq = records{}, nil, 0
	a.enrolled = map[arbitrator.Key]bool{}
}

// wipe replaces the directory of a dead arbitrator by an empty one. Whoever
// still means the old directory reaches the new one at the same address.
func (a *witness) wipe() {
	a.wiped[a.uuid] = a.durable
	a.empty()
	a.uuid = a.w.directory(a.name)
	a.w.names[a.uuid] = &a.box
	a.w.tracef("%s is wiped: now %s", a.name, a.uuid.Short())
}

func (a *witness) start() {
	if a.up || a.removed {
		return
	}
	a.life++
	a.up, a.paused, a.inbox, a.stepping, a.syncing = true, false, nil, false, false
	for _, wr := range a.unsynced { // survived in the kernel, synced at open
		a.keep(wr)
	}
	a.unsynced = nil
	var list []arbitrator.Record
	for _, r := range a.durable {
		list = append(list, r)
	}
	slices.SortFunc(list, func(x, y arbitrator.Record) int { return x.Compare(y.Key) })
	a.machine = arbitrator.NewMachine(arbitrator.DefaultConfig(), a.uuid, a.seq, list)
	a.w.tracef("%s starts with %d records", a.name, len(list))
	a.dialAll()
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
	for _, e := range a.stepMachine(events) {
		switch e := e.(type) {
		case arbitrator.Write:
			a.unsynced = append(a.unsynced, e)
			if !a.syncing {
				a.syncing = true
				a.later(a.w.between(time.Microsecond, 10*time.Microsecond), a.sync)
			}
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

// sync makes durable what was handed over before it began.
func (a *witness) sync() {
	n := len(a.unsynced)
	a.later(a.slow+a.w.between(100*time.Microsecond, 2*time.Millisecond), func() {
		if a.paused { // synced all the same; the process will hear of it
			a.later(time.Millisecond, a.sync)
			return
		}
		batch := a.unsynced[:n:n]
		a.unsynced = append([]arbitrator.Write(nil), a.unsynced[n:]...)
		for _, wr := range batch {
			a.keep(wr)
		}
		a.syncing = len(a.unsynced) > 0
		a.post(arbitrator.Synced{Seq: batch[n-1].Seq})
		if a.syncing {
			a.sync()
		}
	})
}

// keep makes one Write durable and has the checker look at it.
func (a *witness) keep(wr arbitrator.Write) {
	if wr.Seq != a.seq+1 {
		a.w.fail("face", "%s: Write %d after %d", a.name, wr.Seq, a.seq)
	}
	a.seq = wr.Seq
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
	to := a.w.names[e.To]
	for i := range e.Messages {
		a.said(&e.Messages[i])
	}
	messages := append([]peer.Message(nil), e.Messages...)
	a.w.net.send(&a.box, to, peer.Beats, func() { a.w.deliver(&a.box, to, e.To, messages) })
}

// ---- faults ----

func (a *witness) kill()     { a.die(true) }
func (a *witness) powerOff() { a.die(false) }

func (a *witness) die(process bool) {
	if !a.up {
		return
	}
	a.w.tracef("%s dies, power off: %t", a.name, !process)
	a.up = false
	a.life++
	a.machine = nil
	if !process {
		a.unsynced = a.unsynced[:a.w.pick(len(a.unsynced)+1)]
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
