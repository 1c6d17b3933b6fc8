package status

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tarbitrator/tarbitrator/client"
)

// width is that of the narrowest terminal that people use. No line is longer,
// unless a name is.
const width = 80

// shownDatabases bounds the list; those that are not well are always in it.
const shownDatabases = 12

// Screen draws a status. It is a pure function: paint decides about colours.
func Screen(s *client.Status, paint Paint) string {
	p := &page{paint: paint, at: s.At}
	p.head(s)
	p.machines(s.Machines)
	p.databases(s.Databases)
	p.failovers(s.Failovers)
	p.alarms(s.Alarms)
	return p.b.String()
}

// page is a screen that is being drawn.
type page struct {
	b     strings.Builder
	paint Paint
	at    time.Time
}

func (p *page) printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

// head answers the three questions: does it serve, how safe is the data, what
// may fail next.
func (p *page) head(s *client.Status) {
	p.printf("cluster   %s\n", s.Cluster)
	p.printf("seen by   dnode %d (%s) at %s\n\n", s.Dnode, s.EndPoint, s.At.Format(time.DateTime))
	service := map[string]string{
		"full":   p.paint.good("fully available"),
		"partly": p.paint.bad("partly available") + ": someone is away, or some of it has no master",
		"none":   p.paint.bad("not available") + ": no master",
	}[s.Service]
	p.printf("service   %s\n", service)
	p.printf("data      %s\n", p.safety(s))
	if s.Service != "none" {
		p.field("may fail", mayFail(s.Machines))
	}
}

func (p *page) safety(s *client.Status) string {
	since := span(s.At.Sub(s.ModeSince))
	if s.ModeSince.Sub(s.Started) < 2*time.Second {
		since = "at least " + since // it was so when this host started
	}
	switch s.Mode {
	case "sync":
		return p.paint.good("sync") + " for " + since + ": every acknowledged row is on all its replicas"
	case "async":
		return p.paint.bad("async") + " for " + since + ": replicas are away, new rows are not on them"
	case "sync-recover":
		return p.paint.bad("sync-recover") + " for " + since + ": a replica catches up"
	}
	return p.paint.bad("unknown") + ": something has no master"
}

// mayFail says which machines service could do without now, one at a time.
func mayFail(machines []client.Machine) string {
	var may []string
	var stops []string // those whose loss stops something, with what
	for _, m := range machines {
		switch {
		case m.State != "ready":
		case len(m.Stops) == 0:
			may = append(may, m.Name)
		default:
			stops = append(stops, fmt.Sprintf("%s (stops %s)", m.Name, some(m.Stops, 2)))
		}
	}
	switch {
	case len(may) == 0:
		return "nothing: the next machine that fails stops service"
	case len(stops) == 0 && len(may) > 1:
		return "any one of " + strings.Join(may, ", ")
	case len(stops) == 0:
		return strings.Join(may, " or ")
	}
	return strings.Join(may, " or ") + "; not " + strings.Join(stops, ", not ")
}

// some names the first few of a list.
func some(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func (p *page) machines(machines []client.Machine) {
	rows := [][]string{{"machine", "address", "state", "leads", ""}}
	for _, m := range machines {
		leads := fmt.Sprintf("%d of %d", m.Leads, m.Groups)
		if m.Name == "arbitrator" {
			leads = "votes"
		}
		note := m.Reason
		if note == "" && m.SeenSeconds > 1 {
			note = "seen " + span(time.Duration(m.SeenSeconds*float64(time.Second))) + " ago"
		}
		if m.SeenSeconds < 0 && note == "" {
			note = "never heard of"
		}
		rows = append(rows, []string{m.Name, m.EndPoint, m.State, leads, note})
	}
	p.table(rows)
}

func (p *page) databases(databases []client.Database) {
	slices.SortStableFunc(databases, func(a, b client.Database) int { return rank(a) - rank(b) })
	rows := [][]string{{"database", "replicas", "vgroups", "master", "safety"}}
	for _, d := range databases[:min(len(databases), shownDatabases)] {
		name, master := d.Name, strings.Join(d.Masters, ", ")
		if name == "" {
			name = "(metadata)"
		}
		if missing := d.Vgroups - d.Led; missing > 0 {
			master = strings.TrimPrefix(fmt.Sprintf("%s, none for %d", master, missing), ", ")
		}
		rows = append(rows, []string{name, fmt.Sprint(d.Replicas), fmt.Sprint(d.Vgroups), master, d.Mode})
	}
	p.table(rows)
	if more := len(databases) - shownDatabases; more > 0 {
		p.printf("and %d more, see SHOW VGROUPS\n", more)
	}
}

// rank puts what is not well first, and the metadata before its like.
func rank(d client.Database) int {
	r := 2 * slices.Index([]string{"unknown", "async", "sync-recover", "sync"}, d.Mode)
	if d.Name == "" {
		r--
	}
	return r
}

func (p *page) failovers(list []client.Failover) {
	if len(list) == 0 {
		return
	}
	rows := [][]string{{"last changes of master", "", "after", ""}}
	for _, f := range list {
		rows = append(rows, []string{
			f.At.In(p.at.Location()).Format(time.DateTime), strings.TrimPrefix(f.From+" to "+f.To, " to "),
			fmt.Sprintf("%d ms", f.Milliseconds), f.Cause,
		})
	}
	p.table(rows)
}

func (p *page) alarms(list []client.Alarm) {
	if len(list) == 0 {
		p.printf("\nalarms    %s\n", p.paint.good("none"))
		return
	}
	p.printf("\nalarms    %d, the most urgent first\n", len(list))
	for _, a := range list {
		p.printf("\n%s %s, %s for %s\n", p.paint.level(a.Level, a.Code), a.Object, a.Level, span(p.at.Sub(a.Since)))
		p.wrapped("  ", a.What)
		p.wrapped("  next: ", a.Next)
	}
}

// ---- layout ----

// field prints a name and a text that may need more lines.
func (p *page) field(name, text string) { p.wrapped(fmt.Sprintf("%-10s", name), text) }

// wrapped prints text after an indent, its further lines below it.
func (p *page) wrapped(indent, text string) {
	line := indent
	for i, word := range strings.Fields(text) {
		if i > 0 && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			p.printf("%s\n", strings.TrimRight(line, " "))
			line = strings.Repeat(" ", utf8.RuneCountInString(indent)) + word
			continue
		}
		if i > 0 {
			line += " "
		}
		line += word
	}
	p.printf("%s\n", strings.TrimRight(line, " "))
}

// table prints rows in columns; what does not fit of the last one goes below.
func (p *page) table(rows [][]string) {
	p.printf("\n")
	wide := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			wide[i] = max(wide[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row[:len(row)-1] {
			fmt.Fprintf(&line, "%s%s  ", cell, strings.Repeat(" ", wide[i]-utf8.RuneCountInString(cell)))
		}
		p.wrapped(line.String(), row[len(row)-1])
	}
}

// span is a duration as people say it, with two units at most.
func span(d time.Duration) string {
	for _, u := range []struct {
		unit, part time.Duration
		name, sub  string
	}{{24 * time.Hour, time.Hour, "d", "h"}, {time.Hour, time.Minute, "h", "min"}, {time.Minute, time.Second, "min", "s"}} {
		if d < u.unit {
			continue
		}
		text := fmt.Sprintf("%d %s", d/u.unit, u.name)
		if rest := d % u.unit / u.part; rest > 0 {
			text += fmt.Sprintf(" %d %s", rest, u.sub)
		}
		return text
	}
	return fmt.Sprintf("%d s", max(d, 0)/time.Second)
}
