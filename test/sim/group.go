package main

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// group is what the checker knows about one group: the one log that all applied,
// who led when, and what clients were told.
type group struct {
	w  *world
	id id.Group

	seats map[id.Replica]seat // who a replica id was given to, for ever
	next  id.Replica          // the next id to give (R38)

	log     []committed // log[i] is entry i+2: entry 1 is the initial record
	configs []*config

	leaders  map[id.Term]id.Replica
	newest   id.Term // of leaders
	votes    map[ballot]id.Replica
	acked    id.Index // highest acknowledged entry
	ackedAt  time.Duration
	acks     int
	reads    int
	changes  int           // of leader, seen by terms that served
	served_  id.Term       // newest term that served
	gapSince time.Duration // gaps are measured from here
	gap      time.Duration // longest time without an acknowledgement
	dropped  bool

	founding      []consensus.Member // the initial record
	enrolling     int                // enrolments without an answer
	askAgain      time.Duration      // no change of membership is asked for before
	changedBefore int                // changes at the last fault
	openings      map[id.Term]int    // of the feed, after it was shut
	history       []*operation       // of clients
	stamp         hlc.Stamp          // of the newest entry
}

// seat binds a replica id to a directory (R29, R38).
type seat struct {
	box     *box
	uuid    id.UUID
	witness bool
}

// committed is an applied entry, with the term of the replica that was first
// seen to apply it: a leader of a later term must hold it (checker note (b)).
type committed struct {
	entry
	by id.Term
}

// ballot is one vote that may be given once.
type ballot struct {
	voter id.Replica
	term  id.Term
}

func (w *world) newGroup(g id.Group) *group {
	x := &group{
		w: w, id: g, seats: map[id.Replica]seat{}, next: 1,
		leaders: map[id.Term]id.Replica{}, votes: map[ballot]id.Replica{}, openings: map[id.Term]int{},
	}
	w.groups = append(w.groups, x)
	return x
}

func (w *world) group(g id.Group) *group {
	for _, x := range w.groups {
		if x.id == g {
			return x
		}
	}
	return nil
}

// seat gives the next replica id to a directory.
func (g *group) seat(b *box) id.Replica {
	r := g.next
	g.next++
	g.seats[r] = seat{box: b, uuid: b.uuid, witness: b.witness}
	return r
}

// found notes the initial configuration.
func (g *group) found(voters ...id.Replica) {
	slices.Sort(voters)
	g.configs = []*config{{at: 1, in: voters}}
}

func (g *group) end() id.Index { return id.Index(len(g.log)) + 1 }

func (g *group) at(i id.Index) *committed { return &g.log[i-2] }

// host returns the data host of a replica, nil for a witness or a directory
// that is gone.
func (g *group) host(r id.Replica) *host {
	s, ok := g.seats[r]
	if !ok || s.witness {
		return nil
	}
	var found *host
	for _, h := range g.w.hosts { // the one that lives, of a directory and its copy
		if h.uuid == s.uuid && (found == nil || !found.up) {
			found = h
		}
	}
	return found
}

// arb returns the arbitrator of a replica, nil if its directory is gone.
func (g *group) arb(r id.Replica) *witness {
	s, ok := g.seats[r]
	if !ok || !s.witness {
		return nil
	}
	if a := g.w.arbAt(s.box); a != nil && a.uuid == s.uuid {
		return a
	}
	return nil
}

// config returns the configuration that is in force on a replica that has
// applied everything up to i.
func (g *group) config(i id.Index) *config {
	c := g.configs[0]
	for _, x := range g.configs {
		if x.at <= i {
			c = x
		}
	}
	return c
}

func (g *group) current() *config { return g.configs[len(g.configs)-1] }

// ---- I2: no divergence of what is applied ----

// checkApply compares what r is about to apply with what others applied.
func (g *group) checkApply(r *replica, e consensus.Apply) {
	w, s := g.w, r.host.store.written[g.id]
	if s == nil || e.Index > s.last().Index {
		w.fail("I2", "%s applies up to %d, beyond its log", r.host.name, e.Index)
	}
	from := r.handed
	if r.first {
		if s.mark > r.durable {
			w.fail("I2", "%s: group %d replays after %d, its state machine is durable to %d", r.host.name, g.id, s.mark, r.durable)
		}
		from = max(s.mark, s.start.Index)
		r.first = false
	}
	given := e.Entries
	for i := from + 1; i <= e.Index; i++ {
		x, ok := s.at(i)
		if !ok {
			w.fail("I2", "%s: group %d applies entry %d, which its log cut", r.host.name, g.id, i)
		}
		news := i > g.end()
		g.learn(r, i, x, s.hard.Term)
		if raftpb.EntryType(x.kind) != raftpb.EntryNormal || x.size == 0 {
			continue
		}
		if len(given) == 0 || given[0].Index != i || given[0].Term != x.term || sum(given[0].Data) != x.sum {
			w.fail("I2", "%s: group %d applies %s where its log holds entry %d of term %d", r.host.name, g.id, first(given), i, x.term)
		}
		if news {
			g.checkStamp(given[0])
		}
		given = given[1:]
	}
	if len(given) > 0 {
		w.fail("I2", "%s: group %d applies %s out of place, from %d to %d", r.host.name, g.id, first(given), from+1, e.Index)
	}
	w.fold(5, uint64(r.host.at), uint64(g.id), uint64(e.Index))
}

// checkStamp: later in the log is later in stamps, whatever clocks show.
func (g *group) checkStamp(e consensus.Entry) {
	st := commandOf(e.Data)
	if st.stamp <= g.stamp {
		g.w.fail("stamps", "group %d: entry %d is stamped %v, one before it %v", g.id, e.Index, st.stamp, g.stamp)
	}
	g.stamp = st.stamp
}

// learn compares entry i with the ledger, or enters it.
func (g *group) learn(r *replica, i id.Index, x *entry, by id.Term) {
	w := g.w
	if i > g.end()+1 {
		w.fail("I2", "group %d: entry %d is applied, %d to %d were not", g.id, i, g.end()+1, i-1)
	}
	if i <= g.end() {
		if o := g.at(i); o.term != x.term || o.sum != x.sum || o.kind != x.kind {
			w.fail("I2", "%s: group %d entry %d is of term %d, others applied one of term %d", r.host.name, g.id, i, x.term, o.term)
		}
		return
	}
	g.log = append(g.log, committed{*x, by})
	if raftpb.EntryType(x.kind) == raftpb.EntryNormal {
		return
	}
	c, err := g.current().change(i, x)
	if err != nil {
		w.fail("face", "group %d: membership entry %d: %v", g.id, i, err)
	}
	g.checkChange(i, x, c)
	w.tracef("group %d: members %v, outgoing %v, learners %v", g.id, c.in, c.out, c.learners)
	g.configs = append(g.configs, c)
}

// checkChange checks who made a change: a leader never removes itself (R21), and
// a joint change is ended by one who stays (R22).
func (g *group) checkChange(i id.Index, x *entry, next *config) {
	leader, was := g.leaders[x.term], g.current()
	switch {
	case leader == 0:
	case next.joint() && !was.joint() && slices.Contains(was.in, leader) && !slices.Contains(next.in, leader):
		g.w.fail("R21", "group %d: replica %d, which leads in term %d, removes itself with entry %d", g.id, leader, x.term, i)
	case was.joint() && !next.joint() && !slices.Contains(was.in, leader):
		g.w.fail("R22", "group %d: replica %d ends with entry %d the change that leaves it out", g.id, leader, i)
	}
}

// ---- I1, I3: leaders ----

// leads notes that r acts as leader of term.
func (g *group) leads(h *host, r id.Replica, term id.Term) {
	was, known := g.leaders[term]
	if known {
		if was != r {
			g.w.fail("I1", "group %d has two leaders in term %d: replicas %d and %d", g.id, term, was, r)
		}
		return
	}
	g.leaders[term] = r
	g.newest = max(g.newest, term)
	g.w.tracef("%s leads group %d in term %d", h.name, g.id, term)
	s := h.store.written[g.id]
	for i := range g.log {
		at := id.Index(i) + 2
		if c := &g.log[i]; c.by < term && !s.has(at, c.term) {
			g.w.fail("I3", "%s leads group %d in term %d without entry %d of term %d", h.name, g.id, term, at, c.term)
		}
	}
}

// served notes that a leader says it may serve.
func (g *group) served(h *host, r *replica, term id.Term) {
	g.leads(h, r.id, term)
	if term > g.served_ {
		g.served_ = term
		g.changes++
	}
}

// leader returns the host whose state machine was told that it leads; of
// several, the one of the newest term.
func (g *group) leader() *host {
	if h := g.host(g.leaders[g.served_]); h != nil && h.up {
		if r := h.replicas[g.id]; r != nil && r.leads {
			return h
		}
	}
	for _, h := range g.w.hosts {
		if r := h.replicas[g.id]; r != nil && r.leads && h.up {
			return h
		}
	}
	return nil
}

// ---- I4, I5: what is acknowledged is safe ----

// checkAck looks at an entry at the moment in which a client is told that it is
// there for ever. before is what the leader had applied when it was committed.
func (g *group) checkAck(r *replica, x consensus.Entry, before id.Index) {
	w := g.w
	holds := func(m id.Replica) bool { return g.holdsDurably(m, x.Index, x.Term) }
	ok, inData := false, false
	for k, c := range g.configs {
		superseded := k+2 < len(g.configs) && g.configs[k+2].at <= before // checker note (a)
		if c.at <= x.Index && !superseded {
			ok = ok || c.quorum(holds)
			inData = inData || g.dataQuorum(c, holds)
		}
	}
	c := g.config(before)
	if !ok {
		w.fail("I4", "%s acknowledges entry %d of group %d, durable on no majority of %v/%v", r.host.name, x.Index, g.id, c.in, c.out)
	}
	if g.feed(r.host) == feedShut && !inData {
		w.fail("I5", "%s acknowledges entry %d of group %d with the feed shut, not durable on a data quorum", r.host.name, x.Index, g.id)
	}
}

// dataQuorum reports whether those for whom has holds are a majority of every
// half even without its witness.
func (g *group) dataQuorum(c *config, has func(id.Replica) bool) bool {
	return c.quorum(func(r id.Replica) bool { return !g.seats[r].witness && has(r) })
}

// holdsDurably reports whether entry i of that term would survive on replica m
// if every machine lost power now.
func (g *group) holdsDurably(m id.Replica, i id.Index, term id.Term) bool {
	s := g.seats[m]
	if s.witness {
		a := g.w.arbAt(s.box)
		if a.uuid == s.uuid && a.durable.holds(g.id, m, i, term) {
			return true
		}
		return a.before[s.uuid].holds(g.id, m, i, term) // wiped or replaced since: what it held then counts
	}
	return slices.ContainsFunc(g.w.hosts, func(h *host) bool { // more than one: a directory and its copy
		log := h.store.durable[g.id]
		return h.uuid == s.uuid && log != nil && log.has(i, term)
	})
}

// lastTerm is the highest term in which somebody led.
func (g *group) lastTerm() (last id.Term) {
	for t := range g.leaders {
		last = max(last, t)
	}
	return last
}

// durableLast returns where the log of a data replica ends on its disk.
func (g *group) durableLast(m id.Replica) (wal.Position, bool) {
	if h := g.host(m); h != nil {
		if s := h.store.durable[g.id]; s != nil {
			return s.last(), true
		}
	}
	return wal.Position{}, false
}

// behind reports whether a is an older end of a log than b, as votes compare.
func behind(a, b wal.Position) bool {
	return a.Term < b.Term || a.Term == b.Term && a.Index < b.Index
}

// ---- I6, I7: the witness is not ahead of those who must win its vote ----

// checkWitness looks at what the witness m now remembers durably.
func (g *group) checkWitness(m id.Replica, term id.Term, last wal.Position) {
	c := g.current()
	if h := g.host(g.leaders[term]); h != nil && h.replicas[g.id] != nil {
		r := h.replicas[g.id]
		c = g.config(max(r.handed, r.reached)) // it may have died since
	}
	if !slices.Contains(c.voters(), m) {
		return
	}
	for _, r := range c.in {
		if at, ok := g.durableLast(r); ok && !behind(at, last) {
			return
		}
	}
	g.w.fail("I6", "group %d: witness %d holds entry %d of term %d, ahead of every data replica of %v",
		g.id, m, last.Index, last.Term, c.in)
}

// checkBehind is I6 from the other side: h may have truncated its log.
func (g *group) checkBehind(h *host) {
	s := h.store.durable[g.id]
	if s == nil || len(g.current().in) != 3 || g.current().joint() {
		return
	}
	for _, m := range g.current().in {
		a := g.arb(m)
		if a == nil {
			continue
		}
		if last := a.last(g.id, m); behind(s.last(), last) {
			g.checkWitness(m, 0, last)
		}
	}
}

// checkShut is I7: while h leads with the feed shut, each of two responsive data
// voters could win the witness's vote. Of four, a slow one may lag behind what
// the other three and so the witness know; then two at least must be able, so
// that whichever one dies, another can win.
func (g *group) checkShut(h *host, r *replica) {
	c := g.config(r.handed)
	for _, m := range c.in {
		a := g.arb(m)
		if a == nil || g.leaders[g.newest] != r.id {
			continue
		}
		last := a.last(g.id, m)
		able := 0
		var less []string
		for _, d := range c.in {
			if g.seats[d].witness {
				continue
			}
			at, ok := g.durableLast(d)
			switch wins := ok && !behind(at, last); {
			case wins && (d == r.id || h.seemed(g, d)):
				able++
			case !wins && (d == r.id || h.responsive(g, d)):
				less = append(less, g.seats[d].box.name)
			}
		}
		if len(less) > 0 && able < 2 {
			g.w.fail("I7", "group %d: %s leads with the feed shut, the witness holds entry %d of term %d, %d data voters hold as much, the responsive %v hold less",
				g.id, h.name, last.Index, last.Term, able, less)
		}
	}
}

// hold is the longest that the newest leader's feed may wait before it closes.
func (g *group) hold() time.Duration {
	d := g.w.conf.HealthyFor
	for n := g.openings[g.newest]; n > 1 && d < 30*time.Second; n-- {
		d *= 2
	}
	return min(d, 30*time.Second)
}

func first(es []consensus.Entry) string {
	if len(es) == 0 {
		return "nothing"
	}
	return "entry " + itoa(uint64(es[0].Index)) + " of term " + itoa(uint64(es[0].Term))
}
