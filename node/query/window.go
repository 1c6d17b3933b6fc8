package query

import (
	"time"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// windows is the function that finds the window of a timestamp; nil without
// INTERVAL. Windows start at multiples of their width from 1970 UTC, plus the
// offset; those of whole days and more start at midnight of the session's zone.
func (k *compiler) windows(w *sql.Window) (func(ts int64) (start, end int64), error) {
	if w == nil {
		return nil, nil
	}
	if !w.Sliding.IsZero() && w.Sliding != w.Width {
		return nil, unsupported("SLIDING other than by the width of the window")
	}
	if w.Fill != sql.FillNone {
		return nil, unsupported("FILL")
	}
	var offset int64
	if !w.Offset.IsZero() {
		var ok bool
		if offset, ok = w.Offset.Steps(k.precision); !ok {
			return nil, unsupported("an offset of months or years")
		}
	}
	if months, ok := w.Width.Months(); ok {
		return k.monthWindows(months, offset)
	}
	width, _ := w.Width.Steps(k.precision)
	if width <= 0 {
		return nil, &sql.Error{Code: sql.CodeOutOfRange, Text: "Value out of range: INTERVAL of " + w.Width.String() + " is finer than the database's precision"}
	}
	if w.Width.Unit == 'd' || w.Width.Unit == 'w' {
		return k.dayWindows(width, offset), nil
	}
	return func(ts int64) (int64, int64) {
		start := floor(ts-offset, width) + offset
		return start, start + width
	}, nil
}

// floor is the largest multiple of width that is not above n.
func floor(n, width int64) int64 {
	rest := n % width
	if rest < 0 {
		rest += width
	}
	return n - rest
}

// dayWindows follow the clocks of the zone: what is a multiple of days there
// need not be one in UTC.
func (k *compiler) dayWindows(width, offset int64) func(int64) (int64, int64) {
	return func(ts int64) (int64, int64) {
		shift := k.zoneShift(ts)
		start := floor(ts-offset+shift, width) + offset
		end := start + width
		start -= k.zoneShift(start - shift)
		return start, end - k.zoneShift(end-shift)
	}
}

// zoneShift is how far the zone's clocks are ahead of UTC at ts.
func (k *compiler) zoneShift(ts int64) int64 {
	_, seconds := k.precision.Time(ts).In(k.moment.Zone).Zone()
	return int64(time.Duration(seconds) * time.Second / k.precision.Unit())
}

func (k *compiler) monthWindows(months, offset int64) (func(int64) (int64, int64), error) {
	if months <= 0 {
		return nil, &sql.Error{Code: sql.CodeOutOfRange, Text: "Value out of range: INTERVAL of no months"}
	}
	start := func(month int64) int64 {
		return k.precision.Of(time.Date(1970, time.Month(1+month), 1, 0, 0, 0, 0, k.moment.Zone)) + offset
	}
	return func(ts int64) (int64, int64) {
		at := k.precision.Time(ts - offset).In(k.moment.Zone)
		month := floor(int64(at.Year()-1970)*12+int64(at.Month())-1, months)
		return start(month), start(month + months)
	}, nil
}
