package consensus

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestFeed runs the scripts under testdata/feed: what a leader sees of its data
// replicas, and what it tells the arbitrator.
func TestFeed(t *testing.T) {
	conf := DefaultConfig()
	datadriven.Walk(t, "testdata/feed", func(t *testing.T, path string) {
		s := sight{now: time.Minute}
		f := newFeed(conf, s.now)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "see" {
				d.Fatalf(t, "unknown command %q", d.Cmd)
			}
			var after string
			d.MaybeScanArgs(t, "after", &after)
			wait, _ := time.ParseDuration(after)
			until := s.now + wait
			s.answering = d.HasArg("answering") || d.HasArg("keeps-up") || d.HasArg("caught-up") || d.HasArg("drained")
			s.caughtUp = d.HasArg("caught-up") || d.HasArg("drained")
			s.keepsUp = d.HasArg("keeps-up") || s.caughtUp
			s.drained, s.stalled = d.HasArg("drained"), d.HasArg("stalled")
			was, at := f.state, s.now
			for f.step(conf, s) == was && s.now < until { // it looks at every tick
				s.now += conf.Tick
			}
			moved := s.now - at
			for s.now < until {
				s.now += conf.Tick
				f.step(conf, s)
			}
			if f.state == was {
				return fmt.Sprintf("stays %s", f.state)
			}
			return fmt.Sprintf("%s -> %s, first change after %s", was, f.state, moved)
		})
	})
}

// FuzzFeed checks the promises that the rest leans on, whatever a leader sees:
// the feed is never shut while the data quorum is lost or stalled, and it shuts
// only when the data quorum holds everything the arbitrator was told.
func FuzzFeed(f *testing.F) {
	f.Add([]byte{7, 7, 0, 7, 15, 1, 3, 7})
	f.Fuzz(func(t *testing.T, script []byte) {
		conf := DefaultConfig()
		fd := newFeed(conf, 0)
		for i, b := range script {
			s := sight{now: time.Duration(i) * conf.Tick, answering: b&1 != 0, keepsUp: b&17 == 17 || b&3 == 3, caughtUp: b&3 == 3, drained: b&7 == 7, stalled: b&8 != 0}
			was := fd.state
			now := fd.step(conf, s)
			if now == feedShut && (!s.answering || s.stalled) {
				t.Fatalf("step %d: shut, answering %v, stalled %v", i, s.answering, s.stalled)
			}
			if now == feedShut && was != feedShut && !s.drained {
				t.Fatalf("step %d: shuts before it is drained", i)
			}
			if was == feedOpen && now == feedShut {
				t.Fatalf("step %d: shuts without closing first", i)
			}
		}
	})
}
