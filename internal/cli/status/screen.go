package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tarbitrator/tarbitrator/client"
	"github.com/tarbitrator/tarbitrator/internal/cli/screen"
)

// shownDatabases bounds the list; those that are not well are always in it.
const shownDatabases = 12

// Screen draws a status. It is a pure function: paint decides about colours.
func Screen(s *client.Status, paint screen.Paint) string {
	p := &page{at: s.At}
	p.Paint = paint
	p.head(s)
	p.machines(s.Machines)
	p.databases(s.Databases)
	p.tasks(s.Tasks)
	p.failovers(s.Failovers)
	p.alarms(s.Alarms)
	return p.String()
}

// page is a screen that is being drawn.
type page struct {
	screen.Page
	at time.Time
}

// head answers the three questions: does it serve, how safe is the data, what
// may fail next.
func (p *page) head(s *client.Status) {
	p.Printf("cluster   %s\n", s.Cluster)
	p.Printf("seen by   dnode %d (%s) at %s\n\n", s.Dnode, s.EndPoint, s.At.Format(time.DateTime))
	service := map[string]string{
		"full":   p.Paint.Good("fully available"),
		"partly": p.Paint.Bad("partly available") + ": someone is away, or some of it has no master",
		"none":   p.Paint.Bad("not available") + ": no master",
	}[s.Service]
	p.Printf("service   %s\n", service)
	p.Printf("data      %s\n", p.safety(s))
	if s.Service != "none" {
		p.Field("may fail", mayFail(s.Machines))
	}
}

func (p *page) safety(s *client.Status) string {
	since := screen.Span(s.At.Sub(s.ModeSince))
	if s.ModeSince.Sub(s.Started) < 2*time.Second {
		since = "at least " + since // it was so when this host started
	}
	switch s.Mode {
	case "sync":
		return p.Paint.Good("sync") + " for " + since + ": every acknowledged row is on all its replicas"
	case "async":
		return p.Paint.Bad("async") + " for " + since + ": replicas are away, new rows are not on them"
	case "sync-recover":
		return p.Paint.Bad("sync-recover") + " for " + since + ": a replica catches up"
	}
	return p.Paint.Bad("unknown") + ": something has no master"
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

// stale is when the age of a row, in seconds, is worth a word: hosts report once
// a second.
const stale = 3

func (p *page) machines(machines []client.Machine) {
	rows := [][]string{{"machine", "address", "state", "leads", ""}}
	for _, m := range machines {
		leads := fmt.Sprintf("%d of %d", m.Leads, m.Groups)
		if m.Name == "arbitrator" {
			leads = "votes"
		}
		note := m.Reason
		if note == "" && m.SeenSeconds >= stale {
			note = "seen " + screen.Span(time.Duration(m.SeenSeconds*float64(time.Second))) + " ago"
		}
		if m.SeenSeconds < 0 && note == "" {
			note = "never heard of"
		}
		rows = append(rows, []string{m.Name, m.EndPoint, m.State, leads, note})
	}
	p.Table(rows)
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
	p.Table(rows)
	if more := len(databases) - shownDatabases; more > 0 {
		p.Printf("and %d more, see SHOW VGROUPS\n", more)
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

// shownTasks bounds the list: a thousand groups that move are one thing to know.
const shownTasks = 6

func (p *page) tasks(list []client.Task) {
	if len(list) == 0 {
		return
	}
	rows := [][]string{{"under way", "", "for", "state"}}
	for _, t := range list[:min(len(list), shownTasks)] {
		since := ""
		if !t.Since.IsZero() {
			since = screen.Span(p.at.Sub(t.Since))
		}
		rows = append(rows, []string{t.What, t.Object, since, t.Waiting})
	}
	p.Table(rows)
	if more := len(list) - shownTasks; more > 0 {
		p.Printf("and %d more\n", more)
	}
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
	p.Table(rows)
}

func (p *page) alarms(list []client.Alarm) {
	if len(list) == 0 {
		p.Printf("\nalarms    %s\n", p.Paint.Good("none"))
		return
	}
	p.Printf("\nalarms    %d, the most urgent first\n", len(list))
	for _, a := range list {
		p.Printf("\n%s %s, %s for %s\n", p.Paint.Level(a.Level, a.Code), a.Object, a.Level, screen.Span(p.at.Sub(a.Since)))
		p.Wrapped("  ", a.What)
		p.Wrapped("  next: ", a.Next)
	}
}
