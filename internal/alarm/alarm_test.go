package alarm

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// An alarm tells its story once: raised after it has lasted, cleared when it is
// gone, silent in between.
func TestBoard(t *testing.T) {
	away := Finding{Code: ArbitratorUnreachable, Object: "arbitrator"}
	full := Finding{Code: DiskFull, Object: "dnode 1"}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var b Board
	for _, look := range []struct {
		second int
		found  []Finding
		want   string
		raised int
	}{
		{0, nil, "", 0},
		{1, []Finding{away}, "", 0},
		{10, []Finding{away}, "", 0},
		{11, []Finding{away}, "raised ARBITRATOR_UNREACHABLE since 1", 1},
		{12, []Finding{away, away}, "", 1},
		{13, []Finding{away, full}, "raised DISK_FULL since 13", 2},
		{14, []Finding{full}, "cleared ARBITRATOR_UNREACHABLE since 1", 1},
		{15, []Finding{away, full}, "", 1},
		{16, nil, "cleared DISK_FULL since 13", 0}, // the other one had not lasted
		{26, []Finding{away}, "", 0},               // and starts anew
	} {
		var said []string
		for _, c := range b.Step(start.Add(time.Duration(look.second)*time.Second), look.found) {
			word := "cleared"
			if c.Raised {
				word = "raised"
			}
			said = append(said, fmt.Sprintf("%s %s since %.0f", word, c.Code, c.Since.Sub(start).Seconds()))
		}
		if got := strings.Join(said, ", "); got != look.want {
			t.Errorf("second %d: got %q, want %q", look.second, got, look.want)
		}
		if got := b.Raised(); len(got) != look.raised {
			t.Errorf("second %d: %d alarms are raised, want %d: %v", look.second, len(got), look.raised, got)
		}
	}
}

// The most urgent comes first, then what explains others, then the oldest.
func TestOrder(t *testing.T) {
	var b Board
	now := time.Unix(1000, 0)
	b.Step(now, []Finding{{Code: DefaultPassword, Object: "user root"}})
	b.Step(now.Add(time.Second), []Finding{
		{Code: NoArbitrator, Object: "cluster"}, {Code: DefaultPassword, Object: "user root"},
		{Code: DiskFull, Object: "dnode 2"}, {Code: DiskFull, Object: "dnode 1"}, {Code: Async, Object: "database d"},
	})
	b.Step(now.Add(passing+time.Second), []Finding{
		{Code: NoArbitrator, Object: "cluster"}, {Code: DefaultPassword, Object: "user root"},
		{Code: DiskFull, Object: "dnode 2"}, {Code: DiskFull, Object: "dnode 1"}, {Code: Async, Object: "database d"},
	})
	var got []string
	for _, a := range b.Raised() {
		got = append(got, a.Object)
	}
	if want := []string{"dnode 1", "dnode 2", "database d", "cluster", "user root"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The manual has a paragraph on every alarm, and on no other.
func TestEveryAlarmIsInTheManual(t *testing.T) {
	b, err := os.ReadFile("../../docs/operate/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[Code]bool{}
	for line := range strings.Lines(string(b)) {
		if word, ok := strings.CutPrefix(strings.TrimSpace(line), "### "); ok {
			documented[Code(word)] = true
		}
	}
	for _, k := range kinds {
		if !documented[k.code] {
			t.Errorf("docs/operate/alerts.md has no paragraph ### %s", k.code)
		}
	}
	for code := range documented {
		if code.rank() < 0 {
			t.Errorf("docs/operate/alerts.md explains %s, which is no alarm", code)
		}
	}
}
