package main

// repeats are stories of clients who repeat what they know no outcome of (R46),
// on hosts whose clocks say different things.
func repeats() []scenario {
	return []scenario{
		{"repeats", pair(func(w *world) { // leaders go in the middle of what they are asked
			w.startClients(4)
			for range 8 {
				w.run(w.between(100*ms, 800*ms))
				l := w.lead()
				switch w.pick(4) {
				case 0:
					l.kill()
				case 1:
					l.powerOff()
				case 2:
					w.transfer()
				default:
					l.pause()
				}
				w.run(w.between(0, 1200*ms))
				w.heal()
				w.wantService(2500 * ms)
			}
		})},
		{"clocks-apart", pair(func(w *world) { // no fault but clocks
			w.startClients(4)
			w.fault()
			for range 10 {
				h := w.hosts[w.pick(2)]
				h.skew = w.between(-60*60*sec, 60*60*sec)
				w.tracef("the clock of %s steps to %v", h.name, h.skew)
				w.run(w.between(50*ms, 500*ms))
			}
			w.wantGap(noise)
			w.wantChanges(0)
			w.transfer()
			w.run(2 * sec)
			w.wantGap(noise)
			w.wantChanges(1)
		})},
	}
}
