package demo

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tarbitrator/tarbitrator/internal/cli/screen"
)

var rewrite = flag.Bool("rewrite", false, "write the golden frames anew")

// second is the view after the master was killed and has come back.
func second() *view {
	now := time.Date(2026, 5, 1, 12, 0, 20, 0, time.UTC)
	v := &view{
		now: now, elapsed: 20 * time.Second, service: "partly", mode: "sync-recover", feed: "closing",
		rows: 31_800, stall: 131 * time.Millisecond, sinceBlow: 131 * time.Millisecond, arbBytes: 412.4,
		processes: []shownProcess{
			{"host A", "127.0.0.1:34567", 4712, "slave"}, {"host B", "127.0.0.1:34569", 4713, "master"}, {"arbitrator", "127.0.0.1:34571", 0, ""},
		},
		blows: []blow{{now.Add(-6 * time.Second), "host A", true}, {now.Add(-2 * time.Second), "host A", false}, {now.Add(-time.Second), "arbitrator", true}, {now.Add(-250 * time.Millisecond), "arbitrator", false}, {now.Add(-time.Hour), "host B", true}},
	}
	for i := range 48 {
		n := int64(400 + 10*(i%5))
		if i == 23 {
			n = 90
		}
		v.columns = append(v.columns, n)
	}
	for i := range 12 {
		v.events = append(v.events, event{time.Duration(i) * time.Second, fmt.Sprintf("CREATE TABLE demo.counted%d (ts TIMESTAMP, n BIGINT), as long as a line may become", i)})
	}
	return v
}

func TestFrame(t *testing.T) {
	for _, c := range []struct {
		name          string
		width, height int
		story         func(*view)
	}{
		{"usual", 80, 24, func(*view) {}},
		{"large", 120, 50, func(*view) {}},
		{"low", 80, 16, func(*view) {}},
		{"narrow", 64, 24, func(*view) {}},
		{"too_small", 40, 6, func(*view) {}},
		{"tiny", 10, 1, func(*view) {}},
		{"begin", 80, 24, func(v *view) {
			*v = view{now: v.now, arbBytes: -1, sinceBlow: -1, processes: []shownProcess{{"host A", "127.0.0.1:34567", 4712, ""}}, events: v.events[:1]}
		}},
		{"no_master", 80, 24, func(v *view) { v.service, v.mode, v.feed = "none", "unknown", "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := second()
			c.story(v)
			lines := frame(v, c.width, c.height, screen.Paint{})
			if len(lines) > c.height {
				t.Errorf("%d lines on a terminal of %d", len(lines), c.height)
			}
			for _, l := range lines {
				if n := utf8.RuneCountInString(l); n > c.width {
					t.Errorf("a line of %d on a terminal of %d: %q", n, c.width, l)
				}
			}
			got := strings.Join(lines, "\n") + "\n"
			path := filepath.Join("testdata", c.name+".golden")
			if *rewrite {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// What the view shows of the load is what was acknowledged.
func TestLoadIsMeasured(t *testing.T) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	after := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	l := &load{}
	if got := l.stall(start, after(500)); got != 0 {
		t.Errorf("a stall of %v before anything was acknowledged", got)
	}
	for _, ms := range []int{100, 150, 450, 500} {
		l.mu.acks = append(l.mu.acks, after(ms))
	}
	for _, c := range []struct {
		since, now int
		want       time.Duration
	}{
		{0, 510, 300 * time.Millisecond},   // 150 to 450
		{0, 900, 400 * time.Millisecond},   // since 500, still lasting
		{420, 510, 50 * time.Millisecond},  // 450 to 500
		{200, 510, 250 * time.Millisecond}, // from the blow to 450
	} {
		if got := l.stall(after(c.since), after(c.now)); got != c.want {
			t.Errorf("from %d to %d: %v, want %v", c.since, c.now, got, c.want)
		}
	}
	got := fmt.Sprint(l.columns(after(520), 100*time.Millisecond, 4))
	if want := "[3 0 0 6]"; got != want { // from 120 on in steps of 100: the first came before that
		t.Errorf("columns %s, want %s", got, want)
	}
}
