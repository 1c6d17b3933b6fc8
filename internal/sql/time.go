package sql

import (
	"math"
	"time"
)

// Moment says when and where a statement runs: what NOW means, and in which zone
// a time without one is read. All parts of a statement share one Moment.
type Moment struct {
	Now  time.Time
	Zone *time.Location // never nil
}

// ParseTime reads a time such as '2024-05-01 08:00:00.000', with T or a blank in
// the middle, 0 to 9 decimals, and Z, +08:00, +0800 or nothing at its end; or a
// date alone. Without an offset it is local to zone. Decimals beyond the
// precision are cut.
func ParseTime(s string, zone *time.Location, p Precision) (int64, error) {
	ts, err := timeText(s, zone, p)
	return ts, err.orNil()
}

func timeText(s string, zone *time.Location, p Precision) (int64, *Error) {
	t, ok := parseTime(s, zone)
	if !ok {
		return 0, errorf(CodeValueType, "Invalid value type: '%s' is not a time", clip(s))
	}
	return stepsOf(t, p)
}

// stepsOf is t in precision p, unless 64 bits don't hold it.
func stepsOf(t time.Time, p Precision) (int64, *Error) {
	if p == Nanosecond && (t.Before(firstNano) || t.After(lastNano)) {
		return 0, errorf(CodeOutOfRange, "Value out of range: %s is beyond 64 bits of nanoseconds", t.Format(time.RFC3339))
	}
	return p.Of(t), nil
}

var firstNano, lastNano = time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64)

// parseTime reads what ParseTime does. It allocates nothing.
func parseTime(s string, zone *time.Location) (time.Time, bool) {
	var f fields
	f.s = s
	year, month, day := f.digits(4, '-'), f.digits(2, '-'), f.digits(2, 0)
	var hour, minute, second, nanos int
	if !f.bad && len(f.s) > 0 {
		if f.s[0] != 'T' && f.s[0] != 't' && f.s[0] != ' ' {
			return time.Time{}, false
		}
		f.s = f.s[1:]
		hour, minute, second = f.digits(2, ':'), f.digits(2, ':'), f.digits(2, 0)
		nanos = f.fraction()
		zone = f.zone(zone)
	}
	if f.bad || len(f.s) > 0 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, false
	}
	if last := time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day(); day > last {
		return time.Time{}, false
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, nanos, zone), true
}

// fields takes a time apart from left to right.
type fields struct {
	s   string // what is left
	bad bool
}

// digits takes n digits and, unless it is zero, the byte after them.
func (f *fields) digits(n int, after byte) int {
	take := n
	if after != 0 {
		take++
	}
	if f.bad || len(f.s) < take || after != 0 && f.s[n] != after {
		f.bad = true
		return 0
	}
	v := 0
	for i := range n {
		if !isDigit(f.s[i]) {
			f.bad = true
			return 0
		}
		v = v*10 + int(f.s[i]-'0')
	}
	f.s = f.s[take:]
	return v
}

// fraction takes a point and up to nine decimals, if there is a point.
func (f *fields) fraction() (nanos int) {
	if f.bad || len(f.s) == 0 || f.s[0] != '.' {
		return 0
	}
	i := 1
	for i < len(f.s) && isDigit(f.s[i]) {
		i++
	}
	if i == 1 || i > 10 {
		f.bad = true
		return 0
	}
	for j := 1; j < 10; j++ {
		nanos *= 10
		if j < i {
			nanos += int(f.s[j] - '0')
		}
	}
	f.s = f.s[i:]
	return nanos
}

// zone takes an offset from UTC, if there is one.
func (f *fields) zone(local *time.Location) *time.Location {
	if f.bad || len(f.s) == 0 {
		return local
	}
	sign := f.s[0]
	f.s = f.s[1:]
	if sign == 'Z' || sign == 'z' {
		return time.UTC
	}
	hours := f.digits(2, 0)
	if len(f.s) > 0 && f.s[0] == ':' {
		f.s = f.s[1:]
	}
	minutes := f.digits(2, 0)
	if sign != '+' && sign != '-' || hours > 14 || minutes > 59 {
		f.bad = true
		return local
	}
	offset := (hours*60 + minutes) * 60
	if sign == '-' {
		offset = -offset
	}
	return fixedZone(offset)
}

// fixedZone is the zone of an offset in seconds. Those of whole quarters of an
// hour, which is all there are, are made once.
func fixedZone(offset int) *time.Location {
	const quarter = 15 * 60
	if offset%quarter == 0 {
		return quarters[offset/quarter+4*15]
	}
	return time.FixedZone("", offset)
}

var quarters = func() (zones [2*4*15 + 1]*time.Location) {
	for i := range zones {
		zones[i] = time.FixedZone("", (i-4*15)*15*60)
	}
	return zones
}()

// today is the start of m's day in m's zone.
func (m Moment) today() time.Time {
	year, month, day := m.Now.In(m.Zone).Date()
	return time.Date(year, month, day, 0, 0, 0, 0, m.Zone)
}

// Time is the timestamp that a constant expression stands for in precision p: an
// integer, a quoted time, NOW or TODAY, and any of them plus or minus durations.
func (m Moment) Time(e Expr, p Precision) (int64, error) {
	ts, err := m.constantTime(e, p)
	return ts, err.orNil()
}

func (m Moment) constantTime(e Expr, p Precision) (int64, *Error) {
	switch e := e.(type) {
	case *Literal:
		switch e.Value.Type {
		case TypeBigInt:
			return e.Value.Int, nil
		case TypeVarchar:
			return timeText(e.Value.Text, m.Zone, p)
		}
	case *Call:
		if len(e.Args) == 0 && e.Name == "now" {
			return stepsOf(m.Now, p)
		}
		if len(e.Args) == 0 && e.Name == "today" {
			return stepsOf(m.today(), p)
		}
	case *Binary:
		d, ok := e.Y.(Duration)
		if !ok || e.Op != OpAdd && e.Op != OpSub {
			break
		}
		base, err := m.constantTime(e.X, p)
		if err != nil {
			return 0, err
		}
		return shift(base, d, e.Op == OpSub, p)
	}
	return 0, errorf(CodeValueType, "Invalid value type: %s is not a time", clip(e.String()))
}

// shift is base plus or minus a duration.
func shift(base int64, d Duration, minus bool, p Precision) (int64, *Error) {
	steps, ok := d.Steps(p)
	if !ok {
		return 0, errorf(CodeValueType, "Invalid value type: %s: months and years are for windows only", d)
	}
	if minus {
		steps = -steps
	}
	sum := base + steps
	if (sum > base) != (steps > 0) && steps != 0 {
		return 0, errorf(CodeOutOfRange, "Value out of range: %d and %s", base, d)
	}
	return sum, nil
}
