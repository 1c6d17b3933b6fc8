package sql

import (
	"errors"
	"math"
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		text string
		zone *time.Location
		p    Precision
		want string // RFC 3339, or an error
	}{
		{"2024-05-01 08:00:00", time.UTC, Millisecond, "2024-05-01T08:00:00Z"},
		{"2024-05-01T08:00:00", time.UTC, Millisecond, "2024-05-01T08:00:00Z"},
		{"2024-05-01", time.UTC, Millisecond, "2024-05-01T00:00:00Z"},
		{"2024-05-01", berlin, Millisecond, "2024-04-30T22:00:00Z"},
		{"2024-05-01 08:00:00.5", berlin, Millisecond, "2024-05-01T06:00:00.5Z"},
		{"2024-01-01 08:00:00", berlin, Millisecond, "2024-01-01T07:00:00Z"},
		{"2024-05-01T08:00:00Z", berlin, Millisecond, "2024-05-01T08:00:00Z"},
		{"2024-05-01 08:00:00z", berlin, Millisecond, "2024-05-01T08:00:00Z"},
		{"2024-05-01T08:00:00+08:00", berlin, Millisecond, "2024-05-01T00:00:00Z"},
		{"2024-05-01T08:00:00-0330", berlin, Millisecond, "2024-05-01T11:30:00Z"},
		{"2024-05-01T08:00:00.123456789Z", time.UTC, Nanosecond, "2024-05-01T08:00:00.123456789Z"},
		{"2024-05-01T08:00:00.123456789Z", time.UTC, Microsecond, "2024-05-01T08:00:00.123456Z"},
		{"2024-05-01T08:00:00.999999999Z", time.UTC, Millisecond, "2024-05-01T08:00:00.999Z"},
		{"1969-12-31T23:59:59.9999Z", time.UTC, Millisecond, "1969-12-31T23:59:59.999Z"},
		{"0001-01-01", time.UTC, Microsecond, "0001-01-01T00:00:00Z"},
		{"9999-12-31 23:59:59", time.UTC, Millisecond, "9999-12-31T23:59:59Z"},
		{"2024-02-29", time.UTC, Millisecond, "2024-02-29T00:00:00Z"},
		{"9999-12-31", time.UTC, Nanosecond, "out of range"},
		{"1600-01-01", time.UTC, Nanosecond, "out of range"},
		{"2023-02-29", time.UTC, Millisecond, "not a time"},
		{"2024-13-01", time.UTC, Millisecond, "not a time"},
		{"2024-00-01", time.UTC, Millisecond, "not a time"},
		{"2024-05-00", time.UTC, Millisecond, "not a time"},
		{"2024-05-01 24:00:00", time.UTC, Millisecond, "not a time"},
		{"2024-05-01 08:60:00", time.UTC, Millisecond, "not a time"},
		{"2024-05-01 08:00:60", time.UTC, Millisecond, "not a time"},
		{"2024-05-01 08:00", time.UTC, Millisecond, "not a time"},
		{"2024-05-01 08:00:00.", time.UTC, Millisecond, "not a time"},
		{"2024-05-01 08:00:00.1234567890", time.UTC, Millisecond, "not a time"},
		{"2024-05-01_08:00:00", time.UTC, Millisecond, "not a time"},
		{"2024-05-01T", time.UTC, Millisecond, "not a time"},
		{"2024-5-1", time.UTC, Millisecond, "not a time"},
		{"2024-05-01 08:00:00+15:00", time.UTC, Millisecond, "not a time"},
		{"2024-05-01 08:00:00*08:00", time.UTC, Millisecond, "not a time"},
		{"2024-05-01 08:00:00+08", time.UTC, Millisecond, "not a time"},
		{"2024-05-01 08:00:00Zx", time.UTC, Millisecond, "not a time"},
		{"", time.UTC, Millisecond, "not a time"},
		{"1714550400000", time.UTC, Millisecond, "not a time"},
	}
	for _, tt := range tests {
		ts, err := ParseTime(tt.text, tt.zone, tt.p)
		got := tt.p.Time(ts).Format(time.RFC3339Nano)
		if e := (*Error)(nil); errors.As(err, &e) {
			got = map[Code]string{CodeValueType: "not a time", CodeOutOfRange: "out of range"}[e.Code]
		}
		if got != tt.want {
			t.Errorf("%q in %s: got %s, want %s", tt.text, tt.p, got, tt.want)
		}
	}
}

func TestMomentTime(t *testing.T) {
	tests := []struct {
		sql  string
		p    Precision
		want int64
		code Code
	}{
		{"now", Nanosecond, 1714552200123456789, 0},
		{"now()", Microsecond, 1714552200123456, 0},
		{"now - 1h + 1s", Millisecond, 1714548601123, 0},
		{"today()", Millisecond, 1714514400000, 0},
		{"today + 1d", Millisecond, 1714600800000, 0},
		{"'2024-05-01' + 12h", Millisecond, 1714557600000, 0},
		{"1000 - 1u", Millisecond, 1000, 0},
		{"1000 - 1u", Nanosecond, 0, 0},
		{"-1000", Millisecond, -1000, 0},
		{"now + 1n", Millisecond, 0, CodeValueType},
		{"now * 2", Millisecond, 0, CodeValueType},
		{"now + 1", Millisecond, 0, CodeValueType},
		{"1h + now", Millisecond, 0, CodeValueType},
		{"now(1)", Millisecond, 0, CodeValueType},
		{"ts", Millisecond, 0, CodeValueType},
		{"NULL", Millisecond, 0, CodeValueType},
		{"1.5", Millisecond, 0, CodeValueType},
		{"'x'", Millisecond, 0, CodeValueType},
		{"9223372036854775807 + 1a", Millisecond, 0, CodeOutOfRange},
		{"-9223372036854775808 - 1a", Millisecond, 0, CodeOutOfRange},
	}
	for _, tt := range tests {
		s, err := Parse("SELECT " + tt.sql)
		if err != nil {
			t.Errorf("%s: %v", tt.sql, err)
			continue
		}
		got, err := testMoment.Time(s.(*Select).Items[0].Expr, tt.p)
		if e := (*Error)(nil); errors.As(err, &e) != (tt.code != 0) || e != nil && e.Code != tt.code {
			t.Errorf("%s: got error %v, want code 0x%04X", tt.sql, err, uint16(tt.code))
		} else if tt.code == 0 && got != tt.want {
			t.Errorf("%s in %s: got %d, want %d", tt.sql, tt.p, got, tt.want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	tests := []struct{ text, want string }{
		{"10s", "10s"}, {"0.5s", "500a"}, {"1.5h", "90m"}, {"1.0d", "1d"}, {"0.25w", "42h"}, {"3b", "3b"}, {"7N", "7n"},
		{"2y", "2y"}, {"0s", "0s"}, {"106751d", "106751d"}, {"106752d", ""}, {"9223372036854775807b", "9223372036854775807b"},
		{"9223372036854775808b", ""}, {"0.3b", ""}, {"1.1n", ""}, {"293y", ""}, {"3505n", ""}, {"0.0000000001w", ""},
		{"1.000000000s", "1s"}, {"1e3s", ""}, {".s", ""},
	}
	for _, tt := range tests {
		d, ok := parseDuration(tt.text)
		got := d.String()
		if !ok {
			got = ""
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestPrecisionIsExact(t *testing.T) {
	for _, p := range []Precision{Millisecond, Microsecond, Nanosecond} {
		for _, ts := range []int64{0, 1, -1, 999, -999, 1714552200123, -62135596800000, math.MaxInt64 / 2, math.MinInt64 / 2} {
			if got := p.Of(p.Time(ts)); got != ts {
				t.Errorf("%s: %d becomes %d", p, ts, got)
			}
		}
	}
}

// FuzzParseTime: what is accepted is the same instant as time.Parse says, where
// that knows the form at all.
func FuzzParseTime(f *testing.F) {
	f.Add("2024-05-01T08:00:00.123456789+08:00")
	f.Add("2024-05-01 08:00:00")
	f.Add("2024-02-30")
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseTime(s, time.UTC)
		for _, layout := range []string{time.DateOnly, time.DateTime, "2006-01-02T15:04:05", time.RFC3339Nano} {
			want, err := time.Parse(layout, s)
			if err == nil && ok && !got.Equal(want) {
				t.Errorf("%q: got %v, want %v", s, got, want)
			}
		}
		if ok {
			if year := got.Year(); year < -1 || year > 10000 {
				t.Errorf("%q: got year %d", s, year)
			}
		}
	})
}
