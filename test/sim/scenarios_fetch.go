package main

// fetches are stories of replicas that the log can't help any more (R3).
func fetches() []scenario {
	return []scenario{
		{"long-absence", short(longAbsence)},
		{"copy-under-fire", short(copyUnderFire)},
		{"copies-both-ways", short(copiesBothWays)},
		{"slow-copy", short(slowCopy)},
		{"replace-with-copy", short(func(w *world) {
			w.run(4 * sec) // the log begins later now
			f := w.follow()
			w.stop(f)
			w.run(300 * ms)
			w.replaceAndKill(f)
			w.wantCopies(1)
		})},
	}
}

// short is a pair that keeps hardly any log for those who are away.
func short(run func(*world)) func(*world) {
	return func(w *world) {
		w.conf.KeepForReplicaBytes = 256
		w.cell(2, 1)
		if w.chance(0.5) {
			w.startClients(2)
		}
		run(w)
	}
}

// wantCopies makes sure that the story is the one it claims to be.
func (w *world) wantCopies(n int) {
	if w.copiesInstalled < n {
		w.fail("R3", "%d states were copied, want %d", w.copiesInstalled, n)
	}
}

// longAbsence ends with a copy, and then the one that was away leads alone.
func longAbsence(w *world) {
	l, f := w.lead(), w.follow()
	w.stop(f)
	w.run(w.between(5*sec, 8*sec))
	w.fault()
	f.start()
	w.wantShut(6 * sec)
	w.wantGap(noise)
	w.wantCopies(1)
	w.fault()
	w.stop(l)
	w.run(3 * sec)
	w.wantGap(electionGap)
	l.start()
	w.wantShut(8 * sec)
}

// slowCopy takes far longer to arrive than the log is kept for those who are
// away: it waits for whoever reads, or each copy would be too old when it is here.
func slowCopy(w *world) {
	w.startClients(1)
	f := w.follow()
	w.stop(f)
	w.run(w.between(5*sec, 6*sec))
	w.pieceTakes = 450 * ms
	w.fault()
	f.start()
	w.wantShut(16 * sec)
	w.wantGap(noise)
	w.wantCopies(1)
	if w.copiesInstalled > 2 { // one may have been on its way when the first entries were missed
		w.fail("R3", "%d states were copied to a host that was away once", w.copiesInstalled)
	}
}

// copyUnderFire has everything happen while a copy is on its way.
func copyUnderFire(w *world) {
	f := w.follow()
	w.stop(f)
	w.run(w.between(5*sec, 6*sec))
	f.start()
	for range 1 + w.pick(5) {
		begun := w.copiesBegun
		w.until(2*sec, func() bool { return w.copiesBegun > begun })
		w.run(w.between(0, 150*ms))
		switch w.pick(6) {
		case 0, 1:
			f.fuse(1 + w.pick(60))
		case 2:
			w.stop(w.lead())
		case 3:
			w.net.cutBoth(&w.hosts[0].box, &w.hosts[1].box)
		case 4:
			f.pause()
		default:
			w.net.loss = 0.3
		}
		w.run(w.between(0, 1200*ms))
		if w.chance(0.5) && f.up {
			w.stop(f)
			w.run(w.between(0, 200*ms))
		}
		w.heal()
	}
	w.wantService(3 * sec)
	w.wantShut(12 * sec)
	w.run(500 * ms) // what a cut has held back arrives, the word of a leader too
	l := w.lead()
	w.fault()
	w.stop(l)
	w.run(3 * sec)
	w.wantGap(electionGap)
}

// copiesBothWays makes each host the one that was away, in turn.
func copiesBothWays(w *world) {
	for range 3 {
		l, f := w.lead(), w.follow()
		w.stop(f)
		w.run(w.between(4500*ms, 6*sec))
		f.start()
		w.wantShut(8 * sec)
		w.fault()
		w.stop(l)
		w.run(w.between(sec, 2*sec))
		w.wantGap(electionGap)
		w.heal()
		w.wantShut(8 * sec)
	}
	w.wantCopies(2)
}
