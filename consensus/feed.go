package consensus

import "time"

// feed decides whether the arbitrator is told about new log entries.
//
// While the data replicas form a quorum of their own the arbitrator is kept in
// the dark: its messages are held back, which Raft can't tell from a slow wire.
// When that quorum is lost, or answers but does not commit (its disk hangs), the
// arbitrator is needed for every commit and the feed opens (R16). It shuts again
// only when the data quorum holds everything that the arbitrator was ever told,
// so that each of them can win its vote (R17, I7).
//
//	                    elected
//	                       │
//	     quorum lost,      ▼          150 ms without it
//	     or stalled    closing ◀────┐ ──────────────┐
//	┌───────────────────── │        │               ▼
//	│                      │        └──────────── open
//	│  holds all it heard  ▼   healthy for H        ▲
//	│                    shut ──────────────────────┤
//	└───────────────────────────────────────────────┘
//	                           quorum lost, or stalled
//
// A new leader starts closing, not shut: it does not know what an earlier leader
// has told the arbitrator, only that it is not more than its own log. A change of
// membership takes the feed from shut to closing too.
//
// feed is a pure value: it reads no clock and sends nothing. Its owner is the
// machine, which calls step at every tick and whenever progress was made.
type feed struct {
	state feedState
	since time.Duration // when state was entered
	// healthyFrom is since when the data quorum has been answering and keeping
	// up without a break; negative while it is not.
	healthyFrom time.Duration
	// hold is H, how long it must be healthy before the feed closes. It doubles
	// with every opening within reopenWindow, up to maxHold (R18).
	hold     time.Duration
	openedAt time.Duration // last opening; negative before the first
	opened   int           // openings in this term, for status
}

// feedState is one of the three states in the diagram above. The zero value
// tells the arbitrator everything: the cautious thing for whoever forgets.
type feedState uint8

const (
	feedOpen feedState = iota
	feedClosing
	feedShut
)

func (s feedState) String() string {
	return [...]string{"open", "closing", "shut"}[s]
}

const (
	reopenWindow = 10 * time.Minute // R18
	maxHold      = 30 * time.Second // R18
)

// sight is what a leader knows about its data replicas at one moment.
type sight struct {
	now time.Duration
	// answering: the responsive data voters are a quorum of every half of the
	// configuration (R15, R16a).
	answering bool
	// stalled: an entry has been durable here and uncommitted for longer than
	// D_stall (R16b).
	stalled bool
	// keepsUp: responsive data voters with everything that was committed a second
	// ago are a quorum of every half. Under load the newest commits are never
	// on all of them at once, so caughtUp can't be asked for without a break.
	keepsUp bool
	// caughtUp: responsive data voters with everything committed are a quorum
	// of every half (R17).
	caughtUp bool
	// drained: the same, with everything that the arbitrator was ever sent,
	// which is itself committed (R17).
	drained bool
}

// doubt makes a shut feed prove again that it may be, and reports whether it was
// shut: a data replica has become a voter, and may lack what the arbitrator has
// been told.
func (f *feed) doubt(now time.Duration) bool {
	if f.state != feedShut {
		return false
	}
	f.state, f.since = feedClosing, now
	return true
}

// newFeed returns the feed of a leader elected at now.
func newFeed(conf Config, now time.Duration) feed {
	return feed{state: feedClosing, since: now, healthyFrom: -1, hold: conf.HealthyFor, openedAt: -1}
}

// step returns the state after s.
func (f *feed) step(conf Config, s sight) feedState {
	switch {
	case !s.keepsUp || s.stalled:
		f.healthyFrom = -1
	case f.healthyFrom < 0:
		f.healthyFrom = s.now
	}
	next := f.state
	switch {
	case !s.answering || s.stalled:
		next = feedOpen
	case f.state == feedOpen:
		healthy := f.healthyFrom >= 0 && s.now-f.healthyFrom >= f.hold
		if healthy && s.caughtUp && s.now-f.since >= conf.OpenAtLeast {
			next = feedClosing
		}
	case f.state == feedClosing && s.drained:
		next = feedShut
	case f.state == feedClosing && s.now-f.since >= conf.CloseWithin:
		next = feedOpen
	}
	if next == f.state {
		return next
	}
	if f.state == feedShut { // a failed attempt to close is no new opening
		if f.openedAt >= 0 && s.now-f.openedAt < reopenWindow {
			f.hold = min(2*f.hold, maxHold)
		} else {
			f.hold = conf.HealthyFor
		}
		f.openedAt = s.now
		f.opened++
	}
	f.state, f.since = next, s.now
	return next
}
