package demo

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tarbitrator/tarbitrator/internal/cli/screen"
)

// view is what the live view shows at one moment. Every figure in it was
// measured; what is not known is empty.
type view struct {
	now       time.Time
	elapsed   time.Duration
	processes []shownProcess
	service   string // full, partly, none; empty: nobody tells
	mode      string // sync, async, ...
	feed      string // shut, open, closing
	rows      int64  // acknowledged so far
	stall     time.Duration
	sinceBlow time.Duration // worst since the last blow; negative: there was none
	arbBytes  float64       // per second on the arbitrator's connections; negative: not known
	columns   []int64       // rows acknowledged per span, the newest last
	blows     []blow
	events    []event
}

type shownProcess struct {
	name, address string
	pid           int // zero: it does not run
	role          string
}

// columnSpan is the time that one column of the graph stands for.
const columnSpan = 250 * time.Millisecond

// The smallest terminal that the view is drawn on.
const (
	leastWidth  = 64
	leastHeight = 14
)

// frame draws a view on a terminal of this size: at most height lines, none
// longer than width. It is a pure function.
func frame(v *view, width, height int, paint screen.Paint) []string {
	if width < leastWidth || height < leastHeight {
		return small(v, width, height)
	}
	lines := []string{fmt.Sprintf("two hosts and an arbitrator, killed in turn %*s", width-44, fmt.Sprintf("%.1f s", v.elapsed.Seconds())), ""}
	for _, p := range v.processes {
		state := paint.Bad("killed")
		if p.pid != 0 {
			state = fmt.Sprintf("%-8s pid %d", p.role, p.pid)
		}
		lines = append(lines, fmt.Sprintf("%-11s %-17s %s", p.name, p.address, state))
	}
	lines = append(lines, "", "data        "+v.safety(paint))
	lines = append(lines, fmt.Sprintf("rows        %d acknowledged, %d/s now", v.rows, v.perSecond()))
	lines = append(lines, "stall       "+v.stalls())
	traffic := "-"
	if v.arbBytes >= 0 {
		traffic = fmt.Sprintf("%.0f bytes/s to and from it over the last %v", v.arbBytes, rateOver)
	}
	lines = append(lines, "arbitrator  "+traffic)
	if room := height - len(lines); room >= 10 && len(v.columns) > 0 {
		lines = append(lines, "", fmt.Sprintf("rows acknowledged, a column for %v", columnSpan), bars(v.columns, width), v.marks(width))
	}
	lines = append(lines, "")
	for _, e := range v.events[max(0, len(v.events)-(height-len(lines))):] {
		lines = append(lines, cut(e.line(), width))
	}
	return lines
}

// small is what fits where the view does not: the newest lines.
func small(v *view, width, height int) []string {
	lines := []string{cut(fmt.Sprintf("%.1f s (%d x %d or more shows all)", v.elapsed.Seconds(), leastWidth, leastHeight), width)}
	for _, e := range v.events[max(0, len(v.events)-max(height-1, 0)):] {
		lines = append(lines, cut(e.line(), width))
	}
	return lines[:min(len(lines), max(height, 1))]
}

func (v *view) safety(paint screen.Paint) string {
	if v.service == "" {
		return "-"
	}
	mode := paint.Bad(v.mode)
	if v.mode == "sync" {
		mode = paint.Good(v.mode)
	}
	text := mode
	if v.feed != "" {
		text += ", feed " + v.feed
	}
	switch v.service {
	case "none":
		text += ", no master"
	case "partly":
		text += ", someone is away"
	}
	return text
}

// perSecond is how many rows were acknowledged in the last second, without the
// column that has just begun.
func (v *view) perSecond() (n int64) {
	const columns = int(time.Second / columnSpan)
	if len(v.columns) <= columns {
		return 0
	}
	for _, c := range v.columns[len(v.columns)-1-columns : len(v.columns)-1] {
		n += c
	}
	return n
}

func (v *view) stalls() string {
	if v.rows == 0 {
		return "-"
	}
	text := fmt.Sprintf("%d ms at worst", v.stall.Milliseconds())
	if v.sinceBlow >= 0 {
		text += fmt.Sprintf(", %d ms since the last blow", v.sinceBlow.Milliseconds())
	}
	return text
}

// levels are the heights of a bar; the first is for nothing at all.
var levels = []rune("·▁▂▃▄▅▆▇█")

// bars draws the newest columns as one line.
func bars(columns []int64, width int) string {
	columns = columns[max(0, len(columns)-width):]
	most := int64(1)
	for _, n := range columns {
		most = max(most, n)
	}
	var b strings.Builder
	for _, n := range columns {
		level := n * int64(len(levels)-1) / most
		if n > 0 {
			level = max(level, 1)
		}
		b.WriteRune(levels[level])
	}
	return b.String()
}

// marks says below the bars where processes were killed and came back.
func (v *view) marks(width int) string {
	n := min(len(v.columns), width)
	line := []rune(strings.Repeat(" ", n))
	for _, b := range v.blows {
		at := n - 1 - int(v.now.Sub(b.at)/columnSpan)
		if at < 0 || at >= n {
			continue
		}
		text := "+"
		if b.kills {
			text = "× " + b.name
		}
		rest := line[at:] // what an earlier one has written there gives way
		for i := range rest {
			rest[i] = ' '
		}
		copy(rest, []rune(text))
	}
	return strings.TrimRight(string(line), " ")
}

// cut shortens a line to the width of the terminal.
func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string(slices.Concat([]rune(s)[:max(width-1, 0)], []rune("…")))
}
