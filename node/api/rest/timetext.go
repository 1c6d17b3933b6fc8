package rest

import (
	"time"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// timeZone is the zone of the text of timestamps; nil is UTC.
type timeZone = *time.Location

// timeText writes timestamps as RFC 3339 with as many decimals as the precision
// has, always. Rows of a result are close to each other in time, so everything
// but the decimals is kept from one to the next.
type timeText struct {
	zone      timeZone
	precision sql.Precision

	second int64  // that head and tail stand for
	head   []byte // "2024-05-01T08:00:00. with the opening quote; nil: none yet
	tail   []byte // Z" or +08:00" with the closing quote
}

func (t *timeText) append(b []byte, ts int64) []byte {
	perSecond := int64(time.Second / t.precision.Unit())
	second, rest := ts/perSecond, ts%perSecond
	if rest < 0 { // before 1970 decimals still count forwards
		second--
		rest += perSecond
	}
	if t.head == nil || second != t.second {
		t.turn(second)
	}
	b = append(b, t.head...)
	for unit := perSecond / 10; unit > 0; unit /= 10 {
		b = append(b, byte('0'+rest/unit%10))
	}
	return append(b, t.tail...)
}

func (t *timeText) turn(second int64) {
	at := time.Unix(second, 0).UTC()
	if t.zone != nil {
		at = at.In(t.zone)
	}
	t.second = second
	t.head = at.AppendFormat(t.head[:0], `"2006-01-02T15:04:05.`)
	t.tail = at.AppendFormat(t.tail[:0], `Z07:00"`)
}
