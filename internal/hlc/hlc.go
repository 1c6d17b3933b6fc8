// Package hlc keeps hybrid logical time: stamps that follow the wall clock
// where it behaves and go on rising where it does not.
//
// It reads no clock: whoever asks for a stamp says what time the wall shows.
package hlc

import (
	"fmt"
	"math"
	"time"
)

// Stamp is one moment of hybrid time: nanoseconds since 1970 in UTC. Stamps are
// compared as numbers. Zero is before every stamp that a Clock gives.
//
// A stamp has no counter beside its time. Nanoseconds leave room for a thousand
// million stamps a second, far more than one log takes entries, so a clock that
// must give two stamps in one nanosecond borrows the next one. The number lasts
// until the year 2554.
type Stamp uint64

// At is the stamp of an instant; everything before 1970 is zero.
func At(t time.Time) Stamp { return Stamp(max(t.UnixNano(), 0)) }

// Time is the instant of s, in UTC.
func (s Stamp) Time() time.Time {
	return time.Unix(int64(s/1e9), int64(s%1e9)).UTC()
}

// Ahead is how far s lies after the wall clock, negative if it lies before. A
// stamp from elsewhere that is too far ahead must be refused before it becomes
// a floor: a floor is for ever.
func (s Stamp) Ahead(wallNanos int64) time.Duration {
	wall := Stamp(max(wallNanos, 0))
	if s >= wall {
		return time.Duration(min(s-wall, math.MaxInt64))
	}
	return -time.Duration(min(wall-s, math.MaxInt64))
}

// String is the instant with all nine decimals, so that equal text means equal
// stamps.
func (s Stamp) String() string {
	return s.Time().Format("2006-01-02T15:04:05.000000000Z")
}

// Clock gives the stamps of one log. Its zero value is ready for use. It is
// owned by whoever writes the log; it is not safe for concurrent use.
//
// Invariant: every stamp is greater than all that the clock gave before and
// than every floor it was ever handed.
type Clock struct {
	last Stamp
}

// Next is the stamp of the next entry: what the wall clock shows, in
// nanoseconds since 1970, unless that is not above floor or the last stamp.
// floor is the stamp of the newest entry in the log, which another host with
// another clock may have written; zero means none.
func (c *Clock) Next(wallNanos int64, floor Stamp) Stamp {
	least := max(c.last, floor)
	if least == math.MaxUint64 {
		panic(fmt.Sprintf("hlc: no stamp after %d (last %d, floor %d)", least, c.last, floor))
	}
	c.last = max(Stamp(max(wallNanos, 0)), least+1)
	return c.last
}

// Last is the newest stamp given, or zero.
func (c *Clock) Last() Stamp { return c.last }
