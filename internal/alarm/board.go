package alarm

import (
	"cmp"
	"slices"
	"time"
)

// Board remembers since when each finding has been seen, and makes an alarm of
// it once that is long enough.
//
//	not seen ──▶ seen ──── after ────▶ raised
//	    ▲          │                     │
//	    └──────────┴──── not found ──────┘
//
// Board is a pure value: it reads no clock. Its zero value is ready; its owner
// is the one goroutine that calls Step.
type Board struct {
	seen map[name]*seen
}

// name is what an alarm is the same by.
type name struct {
	code   Code
	object string
}

type seen struct {
	finding Finding
	since   time.Time
	raised  bool
}

// Change says that an alarm was raised or cleared.
type Change struct {
	Alarm
	Raised bool
}

// Step takes everything that is found at one look. What it returns is in the
// order of Raised. Of two findings with one name the first counts.
func (b *Board) Step(now time.Time, found []Finding) []Change {
	was := b.seen
	b.seen = make(map[name]*seen, len(found))
	var changes []Change
	for _, f := range found {
		n := name{f.Code, f.Object}
		if b.seen[n] != nil {
			continue
		}
		s := was[n]
		if s == nil {
			s = &seen{since: now}
		}
		s.finding = f
		b.seen[n] = s
		if !s.raised && now.Sub(s.since) >= f.Code.kind().after {
			s.raised = true
			changes = append(changes, Change{s.alarm(), true})
		}
	}
	for n, s := range was {
		if s.raised && b.seen[n] == nil {
			changes = append(changes, Change{s.alarm(), false})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return compare(a.Alarm, b.Alarm) })
	return changes
}

// Raised returns the alarms that hold, the most urgent first.
func (b *Board) Raised() []Alarm {
	list := make([]Alarm, 0, len(b.seen))
	for _, s := range b.seen {
		if s.raised {
			list = append(list, s.alarm())
		}
	}
	slices.SortFunc(list, compare)
	return list
}

func (s *seen) alarm() Alarm { return Alarm{s.finding, s.finding.Code.kind().level, s.since} }

func compare(a, b Alarm) int {
	return cmp.Or(cmp.Compare(b.Level, a.Level), cmp.Compare(a.Code.rank(), b.Code.rank()), a.Since.Compare(b.Since), cmp.Compare(a.Object, b.Object))
}
