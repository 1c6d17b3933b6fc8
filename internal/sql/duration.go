package sql

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Duration is a number of units of time, as in 10s or 1n. Units of a day and
// more follow the calendar of a zone where windows are concerned, so a Duration
// keeps its unit. The zero value is no duration.
type Duration struct {
	N    int64
	Unit byte // b u a s m h d w n y: from nanosecond to year
}

// units holds the length of the units in nanoseconds, from fine to coarse;
// months and years have none.
var units = []struct {
	letter byte
	length time.Duration
}{
	{'b', time.Nanosecond}, {'u', time.Microsecond}, {'a', time.Millisecond}, {'s', time.Second},
	{'m', time.Minute}, {'h', time.Hour}, {'d', 24 * time.Hour}, {'w', 7 * 24 * time.Hour},
}

func isUnit(b byte) bool { return strings.IndexByte("buasmhdwny", b|0x20) >= 0 }

// unitLength is the length of a unit, or zero if that depends on the calendar.
func unitLength(letter byte) time.Duration {
	for _, u := range units {
		if u.letter == letter {
			return u.length
		}
	}
	return 0
}

// IsZero reports whether d was not given.
func (d Duration) IsZero() bool { return d.Unit == 0 }

// Fixed is the length of d with days of 24 hours, and false for months and
// years.
func (d Duration) Fixed() (time.Duration, bool) {
	length := unitLength(d.Unit)
	return time.Duration(d.N) * length, length != 0
}

// Months is the length of d in months, and false for all that is not a number of
// months or years.
func (d Duration) Months() (int64, bool) {
	switch d.Unit {
	case 'n':
		return d.N, true
	case 'y':
		return 12 * d.N, true
	}
	return 0, false
}

// Steps is the number of timestamps of precision p in d; what is finer than one
// is cut. It is false for months and years.
func (d Duration) Steps(p Precision) (int64, bool) {
	fixed, ok := d.Fixed()
	return int64(fixed / p.Unit()), ok
}

// String is the spelling of d in a statement.
func (d Duration) String() string { return fmt.Sprintf("%d%c", d.N, d.Unit) }

// duration reads a span token.
func (p *parser) duration() Duration {
	if p.tok.kind != span {
		p.unexpected()
		return Duration{}
	}
	d, ok := parseDuration(p.tok.text)
	if !ok {
		p.fail(errorf(CodeSyntax, "syntax error near \"%s\": not a duration of at most 292 years", clip(p.tok.text)))
		return Duration{}
	}
	p.advance()
	return d
}

// parseDuration reads 10s, and 0.5s as 500a: the number is made whole by taking
// finer units. It refuses what does not fit into 64 bits of nanoseconds.
func parseDuration(s string) (Duration, bool) {
	last := len(s) - 1
	unit := s[last] | 0x20
	whole, fraction, _ := strings.Cut(s[:last], ".")
	d := Duration{Unit: unit}
	digits := whole + fraction
	if digits == "" {
		return d, false
	}
	for i := range len(digits) {
		if !isDigit(digits[i]) || d.N > (math.MaxInt64-int64(digits[i]-'0'))/10 {
			return d, false
		}
		d.N = d.N*10 + int64(digits[i]-'0')
	}
	length := unitLength(unit)
	if length == 0 {
		months, _ := d.Months()
		return d, fraction == "" && d.N <= 12*292 && months <= 12*292
	}
	divisor := int64(1)
	for range fraction {
		if divisor *= 10; divisor > 1e9 {
			return d, false
		}
	}
	if d.N > math.MaxInt64/int64(length) {
		return d, false
	}
	nanos := d.N * int64(length)
	if nanos%divisor != 0 {
		return d, false
	}
	nanos /= divisor
	for nanos%int64(unitLength(d.Unit)) != 0 {
		d.Unit = finer(d.Unit)
	}
	d.N = nanos / int64(unitLength(d.Unit))
	return d, true
}

// finer is the next unit below one of fixed length that is not the finest.
func finer(letter byte) byte {
	for i, u := range units {
		if u.letter == letter {
			return units[i-1].letter
		}
	}
	return letter
}
