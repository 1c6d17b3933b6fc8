package main

import (
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// scenario is one story told on purpose, for any seed. Bounds are those of the
// prototype's results (QUORUM section 3) with the intervals of the product: a
// silent replica opens the feed after 250 ms, a stalled one after 500 ms.
type scenario struct {
	name string
	run  func(*world)
}

// The bounds of more than one scenario.
const (
	noise       = 100 * ms  // nothing happened: an interval of the load, a spike of the disk
	refusedGap  = 300 * ms  // the dead leader's peer knows at once
	silentGap   = 400 * ms  // D_open and the way to the witness
	stallGap    = 650 * ms  // D_stall and the way to the witness
	electionGap = 1100 * ms // the election time-out
)

// pair is a cell of two data hosts, an arbitrator and one group.
func pair(run func(*world)) func(*world) {
	return func(w *world) {
		w.cell(2, 1)
		run(w)
	}
}

// scenarios lists every story, by the part of the rules that it is about.
func scenarios() []scenario {
	return slices.Concat(deaths(), cuts(), disks(), stale(), copies(), repeats(), fetches(), members(), recoveries(), four())
}

func deaths() []scenario {
	return []scenario{
		{"follower-killed", pair(func(w *world) {
			f := w.follow()
			w.fault()
			f.kill()
			w.run(3 * sec)
			w.wantGap(refusedGap)
			w.wantChanges(0)
			f.start()
			w.wantShut(6 * sec)
		})},
		{"follower-power", pair(func(w *world) {
			f := w.follow()
			w.fault()
			f.powerOff()
			w.run(3 * sec)
			w.wantGap(silentGap)
			w.wantChanges(0)
			f.start()
			w.wantShut(6 * sec)
		})},
		{"leader-killed", pair(func(w *world) {
			l := w.lead()
			w.fault()
			l.kill()
			w.run(3 * sec)
			w.wantGap(refusedGap)
			w.wantChanges(1)
			l.start()
			w.wantShut(6 * sec)
		})},
		{"leader-power", pair(func(w *world) {
			l := w.lead()
			w.fault()
			l.powerOff()
			w.run(3 * sec)
			w.wantGap(electionGap)
			w.wantChanges(1)
			l.start()
			w.wantShut(6 * sec)
		})},
		{"leader-leaves", pair(func(w *world) {
			l := w.lead()
			w.fault()
			l.leave()
			w.run(190 * ms)
			if l.replicas[1].leads { // R33
				w.fail("R33", "%s is about to stop and still leads", l.name)
			}
			w.run(3 * sec)
			w.wantGap(refusedGap)
			w.wantChanges(1)
		})},
		{"witness-killed", pair(func(w *world) {
			w.fault()
			w.arb().kill()
			w.run(8 * sec)
			w.wantGap(noise)
			w.wantChanges(0)
		})},
		{"leader-frozen", pair(func(w *world) {
			l := w.lead()
			w.fault()
			l.pause()
			w.run(w.between(500*ms, 3*sec))
			l.resume()
			w.run(2 * sec)
			w.wantGap(electionGap)
			w.wantShut(6 * sec)
		})},
		{"follower-frozen", pair(func(w *world) {
			f := w.follow()
			w.fault()
			f.pause()
			w.run(w.between(100*ms, 3*sec))
			f.resume()
			w.run(2 * sec)
			w.wantGap(silentGap)
			w.wantChanges(0)
			w.wantShut(6 * sec)
		})},
		{"both-restart-without-witness", pair(func(w *world) {
			w.arb().powerOff()
			w.fault()
			for _, h := range w.hosts {
				h.powerOff()
			}
			w.run(200 * ms)
			for _, h := range w.hosts {
				h.start()
			}
			w.run(3 * sec)
			w.wantGap(1900 * ms)
		})},
		{"transfer", pair(func(w *world) {
			w.fault()
			w.transfer()
			w.run(2 * sec)
			w.wantGap(noise)
			w.wantChanges(1)
		})},
		{"transfer-then-death", pair(func(w *world) {
			w.fault()
			w.transfer()
			w.run(w.between(0, 60*ms))
			w.hosts[w.pick(2)].powerOff()
			w.run(3 * sec)
			w.wantGap(electionGap + 100*ms)
		})},
		{"false-alarm", pair(func(w *world) {
			f := w.follow()
			w.fault()
			w.alarm(f, w.lead())
			w.run(2 * sec)
			w.wantGap(200 * ms)
			w.wantShut(6 * sec)
		})},
	}
}

// transfer asks for a planned change of leader (R33).
func (w *world) transfer() {
	f := w.follow()
	w.lead().post(consensus.Transfer{Group: 1, To: f.replicas[1].id})
}

func cuts() []scenario {
	cut := func(name string, gap time.Duration, of func(w *world) (a, b *box), both, there bool) scenario {
		return scenario{name, pair(func(w *world) {
			a, b := of(w)
			w.fault()
			if both || there {
				w.net.cut(a, b)
			}
			if both || !there {
				w.net.cut(b, a)
			}
			w.run(w.between(2*sec, 10*sec))
			w.wantGap(gap)
			w.wantChanges(0)
			w.net.healBoth(a, b)
			w.wantShut(8 * sec)
			w.wantChanges(0)
		})}
	}
	data := func(w *world) (*box, *box) { return &w.lead().box, &w.follow().box }
	leader := func(w *world) (*box, *box) { return &w.lead().box, &w.arb().box }
	follower := func(w *world) (*box, *box) { return &w.follow().box, &w.arb().box }
	return []scenario{
		cut("cut-data", silentGap, data, true, true),
		cut("cut-leader-to-follower", silentGap, data, false, true),
		cut("cut-follower-to-leader", silentGap, data, false, false),
		cut("cut-leader-witness", noise, leader, true, true),
		cut("cut-leader-to-witness", noise, leader, false, true),
		cut("cut-witness-to-leader", noise, leader, false, false),
		cut("cut-follower-witness", noise, follower, true, true),
		cut("cut-follower-to-witness", noise, follower, false, true),
		cut("cut-witness-to-follower", noise, follower, false, false),
		{"idle-cut-data", pair(func(w *world) { // R26: the lease
			a, b := data(w)
			w.load.on = false
			w.run(500 * ms)
			w.fault()
			w.net.cutBoth(a, b)
			w.run(4 * sec)
			w.wantChanges(0)
			w.net.healBoth(a, b)
			w.startLoad()
			w.wantService(2 * sec)
			w.wantChanges(0)
		})},
		{"leader-isolated", pair(func(w *world) {
			l := w.lead()
			w.fault()
			w.isolate(&l.box)
			w.run(3 * sec)
			w.wantGap(electionGap)
			w.wantChanges(1)
			w.heal()
			w.wantShut(8 * sec)
		})},
		{"follower-isolated", pair(func(w *world) {
			f := w.follow()
			w.fault()
			w.isolate(&f.box)
			w.run(3 * sec)
			w.wantGap(silentGap)
			w.wantChanges(0)
			w.heal()
			w.wantShut(8 * sec)
			w.wantChanges(0)
		})},
		{"flapping", pair(func(w *world) {
			a, b := data(w)
			w.fault()
			for range 6 {
				w.net.cutBoth(a, b)
				w.run(400 * ms)
				w.net.healBoth(a, b)
				w.run(600 * ms)
			}
			w.wantGap(silentGap)
			w.wantChanges(0)
		})},
		{"late-frame", pair(lateFrame)},
		{"quiet", func(w *world) { // R19, R34: what a healthy cell costs its witness
			w.cell(2, 4)
			w.run(6 * sec)
			before := w.arb().received
			w.run(20 * sec)
			if n := w.arb().received - before; n > (4+2)*5 { // and each host may ping
				w.fail("R19", "4 groups in sync sent their witness %d messages in 20 s", n)
			}
		}},
	}
}

// lateFrame has what the leader said in an old term arrive once more when it
// leads in a new one and knows nothing yet of what the follower holds.
func lateFrame(w *world) {
	l, f, a := w.lead(), w.follow(), w.arb()
	for _, o := range w.net.boxes {
		w.isolate(o)
	}
	late := w.net.path(&l.box, &f.box).last
	w.until(2*sec, func() bool { return !l.machineLeads(1) })
	w.net.healBoth(&l.box, &a.box)
	w.until(2*sec, func() bool { return l.machineLeads(1) })
	was, _ := f.view(1)
	w.net.healAll()
	w.closely(sec, func() bool { s, _ := f.view(1); return s.Term > was.Term })
	offered := w.copiesOffered
	late()
	w.wantService(2 * sec)
	w.wantShut(8 * sec)
	if w.copiesOffered > offered { // it holds everything
		w.fail("R13", "an answer to an old term makes the leader offer a copy")
	}
}

func disks() []scenario {
	return []scenario{
		{"follower-disk-hangs", pair(func(w *world) {
			f := w.follow()
			w.fault()
			f.hang(w.between(sec, 3*sec))
			w.run(4 * sec)
			w.wantGap(stallGap)
			w.wantChanges(0)
			w.wantShut(8 * sec)
		})},
		{"leader-disk-hangs", pair(func(w *world) {
			l := w.lead()
			w.fault()
			l.hang(w.between(sec, 4*sec))
			w.run(5 * sec)
			w.wantGap(stallGap + 300*ms)
			w.wantShut(10 * sec)
		})},
		{"leader-disk-hangs-for-ever", pair(func(w *world) {
			l := w.lead()
			w.fault()
			l.hang(time.Hour)
			w.run(8 * sec)
			w.wantGap(stallGap + 300*ms)
			w.wantService(sec)
		})},
		{"follower-disk-full", pair(func(w *world) {
			f := w.follow()
			w.load.bytes = 512
			f.store.disk.SetCapacity(f.store.disk.Used())
			w.fault()
			w.run(12 * sec)
			w.wantGap(stallGap)
			w.wantChanges(0)
			f.store.disk.SetCapacity(0)
			w.wantShut(10 * sec)
		})},
		{"leader-disk-full", pair(func(w *world) { // it hands over
			l := w.lead()
			w.load.bytes = 512
			l.store.disk.SetCapacity(l.store.disk.Used())
			w.fault()
			w.run(12 * sec)
			w.wantGap(500 * ms)
			l.store.disk.SetCapacity(0)
			w.wantService(3 * sec)
			w.wantShut(10 * sec)
		})},
		{"both-disks-slow", pair(func(w *world) {
			for _, h := range w.hosts {
				h.store.slow = 600 * ms
			}
			w.run(5 * sec)
			w.heal()
			w.wantService(2 * sec)
			w.wantShut(10 * sec)
		})},
		{"witness-first", pair(func(w *world) { // R17 under constant load
			f := w.follow()
			f.powerOff()
			w.run(sec)
			f.store.slow = 4 * ms // W acknowledges each write before it does
			f.start()
			w.wantShut(6 * sec)
		})},
		{"witness-slow", pair(func(w *world) { // R12: feeds do not pile up
			f, a := w.follow(), w.arb()
			f.powerOff()
			a.slow = 150 * ms
			w.run(sec)
			before := a.received
			w.run(4 * sec)
			if n := a.received - before; n > 200 {
				w.fail("R12", "a slow witness got %d messages in 4 s", n)
			}
			w.fault()
			w.run(2 * sec)
			w.wantGap(sec)
			f.start()
			a.slow = 0
			w.wantShut(8 * sec)
		})},
		{"uncommitted-tail", pair(func(w *world) { // R11b
			f, a := w.follow(), w.arb()
			f.powerOff()
			a.powerOff()
			w.load.batch = 200
			w.until(400*ms, func() bool { return false })
			w.load.batch = 1
			w.fault()
			a.start()
			w.run(2 * sec)
			w.wantGap(silentGap)
			f.start()
			w.wantShut(8 * sec)
		})},
		{"long-lag", pair(func(w *world) { // holes 3 and R11: the state-based feed
			a := w.arb()
			a.powerOff()
			w.load.batch = 100
			w.run(time.Duration(1+w.pick(8)) * sec / 2)
			w.load.batch = 1
			a.start()
			w.run(200 * ms)
			f := w.follow()
			w.fault()
			f.powerOff()
			w.run(2 * sec)
			w.wantGap(silentGap)
			w.wantChanges(0)
			f.start()
			w.wantShut(10 * sec)
		})},
	}
}

func stale() []scenario {
	return []scenario{
		{"stale-follower-alone", pair(func(w *world) { // (c): refused, for ever
			l, f := w.lead(), w.follow()
			f.powerOff()
			w.run(2 * sec)
			l.powerOff()
			w.run(200 * ms)
			f.start()
			w.wantSilence(5 * sec)
			w.fault()
			l.start()
			w.wantService(2 * sec)
			w.wantShut(8 * sec)
		})},
		{"follower-back-then-leader-dies", pair(func(w *world) {
			l, f := w.lead(), w.follow()
			f.powerOff()
			w.run(w.between(500*ms, 4*sec))
			f.start()
			w.wantShut(8 * sec)
			w.fault()
			l.powerOff()
			w.run(3 * sec)
			w.wantGap(electionGap)
		})},
		{"alone-with-power-cycles", pair(func(w *world) { // hole 1
			l, f := w.lead(), w.follow()
			f.powerOff()
			w.run(w.between(100*ms, sec))
			for range 5 {
				l.powerOff()
				w.run(w.between(10*ms, 300*ms))
				l.start()
				w.wantService(2500 * ms)
			}
			f.start()
			w.wantShut(8 * sec)
		})},
		{"alone-with-kills", pair(func(w *world) { // process death: the kernel holds what the disk does not
			l, f := w.lead(), w.follow()
			f.powerOff()
			w.run(w.between(100*ms, sec))
			for range 4 {
				l.kill()
				w.run(w.between(10*ms, 100*ms))
				l.start()
				w.run(w.between(0, 900*ms))
				l.powerOff()
				w.run(w.between(10*ms, 100*ms))
				l.start()
				w.wantService(2500 * ms)
			}
		})},
		{"witness-votes-once", pair(func(w *world) { // its memory survives every death
			for range 6 {
				w.hosts[w.pick(2)].powerOff()
				w.run(w.between(300*ms, 1200*ms))
				if w.chance(0.5) {
					w.arb().kill()
				} else {
					w.arb().powerOff()
				}
				w.run(w.between(0, 30*ms))
				w.arb().start()
				w.run(w.between(0, 500*ms))
				w.heal()
				w.wantService(2500 * ms)
			}
			w.wantShut(8 * sec)
		})},
		{"witness-wiped-while-alone", pair(func(w *world) {
			l, f := w.lead(), w.follow()
			f.powerOff()
			w.run(2 * sec)
			w.rewipe()
			l.powerOff()
			f.start()
			w.wantSilence(4 * sec)
			l.start()
			w.wantService(2500 * ms)
		})},
		{"witness-wiped-during-cut", pair(func(w *world) {
			l, f := w.lead(), w.follow()
			w.net.cutBoth(&l.box, &f.box)
			for range 4 {
				w.run(w.between(200*ms, sec))
				w.rewipe()
			}
			w.run(2 * sec)
			w.heal()
			w.wantService(2500 * ms)
		})},
		{"witness-wiped-in-sync", pair(func(w *world) { // R41
			w.fault()
			w.rewipe()
			g := w.groups[0]
			t := g.replaceWitness(g.witnessSeat(), w.arb())
			if !w.until(5*sec, t.done) {
				w.fail("I9", "the wiped witness is not replaced within 5 s")
			}
			w.wantGap(noise)
			w.wantShut(6 * sec)
			l := w.lead()
			w.fault()
			l.powerOff()
			w.run(3 * sec)
			w.wantGap(electionGap)
		})},
		{"feed-lost", pair(func(w *world) { // hole 2: nothing waits for one message for ever
			l, f, a := w.lead(), w.follow(), w.arb()
			w.net.cutBoth(&l.box, &a.box)
			f.powerOff()
			w.run(w.between(300*ms, 3*sec))
			w.net.loss = 0.5
			w.net.healBoth(&l.box, &a.box)
			w.run(300 * ms)
			w.net.loss = 0
			w.wantService(2 * sec)
			f.start()
			w.wantShut(8 * sec)
		})},
	}
}

// rewipe kills the arbitrator and starts it with an empty directory.
func (w *world) rewipe() {
	w.arb().kill()
	w.arb().wipe()
	w.arb().start()
}

// witnessSeat is the replica id of the group's witness.
func (g *group) witnessSeat() id.Replica {
	for _, r := range g.current().in {
		if g.seats[r].witness {
			return r
		}
	}
	g.w.fail("face", "group %d has no witness", g.id)
	return 0
}
