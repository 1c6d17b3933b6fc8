package query

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// evaluate runs SELECT expr without FROM and prints its only cell.
func evaluate(t *testing.T, expr string) (string, error) {
	t.Helper()
	parsed, err := sql.Parse("SELECT " + expr)
	if err != nil {
		return "", err
	}
	zone := time.FixedZone("", 2*3600)
	k := &compiler{moment: sql.Moment{Now: time.UnixMilli(1_000_000), Zone: zone}, session: Session{User: "root", Database: "d"}}
	r, err := k.constants(parsed.(*sql.Select))
	if err != nil {
		return "", err
	}
	if r.Rows != 1 || len(r.Columns) != 1 {
		t.Fatalf("%s: %d rows of %d columns", expr, r.Rows, len(r.Columns))
	}
	v := r.Columns[0].Value(0)
	if v.IsNull() {
		return "NULL", nil
	}
	return v.SQL(), nil
}

func TestExpressions(t *testing.T) {
	for expr, want := range map[string]string{
		"1":                                   "1",
		"'x'":                                 "'x'",
		"1 + 2 * 3":                           "7e+00",
		"7 % 4":                               "3e+00",
		"1 / 0":                               "NULL",
		"NULL + 1":                            "NULL",
		"1 < 2":                               "true",
		"9007199254740993 = 9007199254740992": "false", // a float would not see it
		"18446744073709551615 > -1":           "true",
		"'10' = 10":                           "true",
		"'b' > 'a'":                           "true",
		"NULL = NULL":                         "NULL",
		"NULL IS NULL":                        "true",
		"1 IS NOT NULL":                       "true",
		"NOT NULL":                            "NULL",
		"FALSE AND NULL":                      "false",
		"TRUE AND NULL":                       "NULL",
		"TRUE OR NULL":                        "true",
		"3 BETWEEN 1 AND 3":                   "true",
		"3 NOT BETWEEN 1 AND 3":               "false",
		"2 IN (1, 2)":                         "true",
		"2 NOT IN (1, NULL)":                  "NULL",
		"'abc' LIKE 'a%'":                     "true",
		"'abc' NOT LIKE '_'":                  "true",
		"NOW()":                               "1000000",
		"NOW() + 1s":                          "1001000",
		"NOW() - 1s = 999000":                 "true",
		"DATABASE()":                          "'d'",
		"CURRENT_USER()":                      "'root'",
		"SERVER_STATUS()":                     "1",
		"SERVER_VERSION() LIKE '3.3.6.0%'":    "true",
	} {
		got, err := evaluate(t, expr)
		if err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", expr, got, err, want)
		}
	}
}

func TestExpressionsThatCannotBe(t *testing.T) {
	for expr, want := range map[string]string{
		"nosuch":         "Invalid column name",
		"sqrt(4)":        "not supported in this version",
		"'a' + 1":        "text is no number",
		"1 = 'x'":        "not a number",
		"SUM(1)":         "not supported in this version",
		"NOW() = 'when'": "is not a time",
	} {
		if got, err := evaluate(t, expr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %s, %v, want an error with %q", expr, got, err, want)
		}
	}
}

func TestLike(t *testing.T) {
	for _, c := range []struct {
		s, pattern string
		want       bool
	}{
		{"", "", true}, {"", "%", true}, {"", "_", false}, {"a", "", false},
		{"abc", "abc", true}, {"abc", "ab", false}, {"abc", "a%c", true}, {"abc", "%%c", true},
		{"abcbd", "a%bd", true}, {"abcbd", "a%bc", false}, {"größe", "gr__e", true}, {"größe", "gr___e", false},
		{"a%b", `a\%b`, true}, {"axb", `a\%b`, false}, {"a_b", `a\_b`, true}, {"ABC", "abc", false},
	} {
		if got := like(c.s, c.pattern); got != c.want {
			t.Errorf("%q LIKE %q: got %v", c.s, c.pattern, got)
		}
	}
	// A pattern of many % takes no longer than the two lengths allow.
	like(strings.Repeat("a", 10_000), strings.Repeat("%a", 1000)+"b")
}

func TestWindows(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zone data here:", err)
	}
	at := func(s string) int64 {
		ts, err := sql.ParseTime(s, berlin, sql.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		return ts
	}
	for _, c := range []struct{ interval, time, start, end string }{
		{"INTERVAL(10s)", "2024-05-01 08:00:17", "2024-05-01 08:00:10", "2024-05-01 08:00:20"},
		{"INTERVAL(1m, 5s)", "2024-05-01 08:00:03", "2024-05-01 07:59:05", "2024-05-01 08:00:05"},
		{"INTERVAL(1d)", "2024-05-01 08:00:17", "2024-05-01", "2024-05-02"},
		{"INTERVAL(1d)", "2024-03-31 12:00:00", "2024-03-31", "2024-04-01"}, // a day of 23 hours
		{"INTERVAL(1n)", "2024-02-29 23:59:59", "2024-02-01", "2024-03-01"},
		{"INTERVAL(1y)", "2024-02-29 23:59:59", "2024-01-01", "2025-01-01"},
		{"INTERVAL(1s)", "1969-12-31 23:59:59.5", "1969-12-31 23:59:59", "1970-01-01 00:00:00"},
	} {
		parsed, err := sql.Parse("SELECT COUNT(*) FROM t " + c.interval)
		if err != nil {
			t.Fatal(err)
		}
		k := &compiler{moment: sql.Moment{Zone: berlin}}
		of, err := k.windows(parsed.(*sql.Select).Window)
		if err != nil {
			t.Fatal(err)
		}
		if start, end := of(at(c.time)); start != at(c.start) || end != at(c.end) {
			t.Errorf("%s of %s: got %s to %s, want %s to %s", c.interval, c.time,
				time.UnixMilli(start).In(berlin), time.UnixMilli(end).In(berlin), c.start, c.end)
		}
	}
}

func TestPartialErrorNamesTables(t *testing.T) {
	err := error(&PartialError{Tables: []string{"t1", "t2"}, Rows: 5, Err: context.DeadlineExceeded})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "5 rows are stored, those of t1, t2") {
		t.Errorf("got %v", err)
	}
}
