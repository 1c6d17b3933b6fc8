package query

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/node/host"
)

// The answers about the cluster end with a column that says how old they are:
// a host without a master shows what it knows.

// seen is how old what a row says is.
func seen(age time.Duration) sql.Value {
	switch {
	case age < 0:
		return text("never")
	case age < 50*time.Millisecond:
		return text("now")
	}
	return text(fmt.Sprintf("%.1f s ago", age.Seconds()))
}

var seenColumn = varchar("seen", 16)

func (e *Engine) showDnodes() *Result {
	o := e.cluster.Overview()
	t := newTable(column("id", sql.TypeSmallInt), varchar("end_point", 134), column("vnodes", sql.TypeSmallInt),
		column("cores", sql.TypeSmallInt), varchar("status", 10), varchar("role", 5), column("create_time", sql.TypeTimestamp),
		varchar("offline reason", 256), varchar("version", 64), seenColumn)
	add := func(d *host.DnodeRow) {
		t.add(integer(int64(d.ID)), text(d.EndPoint), integer(int64(d.Vnodes)), integer(int64(d.Cores)), text(d.Status),
			text(d.Role), milliseconds(d.Created), text(d.Reason), text(d.Version), seen(d.Seen))
	}
	for i := range o.Dnodes {
		add(&o.Dnodes[i])
	}
	if o.Arbitrator != nil { // always last
		add(o.Arbitrator)
	}
	return t.result(sql.Millisecond)
}

func (e *Engine) showMnodes() *Result {
	t := newTable(column("id", sql.TypeSmallInt), varchar("end_point", 134), varchar("role", 12),
		column("create_time", sql.TypeTimestamp), seenColumn)
	for _, m := range e.cluster.Overview().Mnodes {
		t.add(integer(int64(m.ID)), text(m.EndPoint), text(m.Role), milliseconds(m.Created), seen(m.Seen))
	}
	return t.result(sql.Millisecond)
}

// showVgroups lists the groups of a database, or of all.
func (e *Engine) showVgroups(ctx context.Context, s Session, q *sql.Show) (*Result, error) {
	name := q.Database
	if name == "" {
		name = s.Database
	}
	if name != "" {
		if _, known := e.cluster.View().Database(name); !known {
			if _, err := e.database(ctx, name); err != nil {
				return nil, err
			}
		}
	}
	var rows []host.GroupRow
	for _, g := range e.cluster.Overview().Groups {
		if name == "" || g.Database == name {
			rows = append(rows, g)
		}
	}
	replicas := largest(rows, 1, func(g host.GroupRow) int { return len(g.Members) })
	columns := []sql.Column{column("vgId", sql.TypeInt), column("tables", sql.TypeInt), varchar("status", 10), column("onlines", sql.TypeInt)}
	for i := range replicas {
		columns = append(columns, column(fmt.Sprintf("v%d_dnode", i+1), sql.TypeSmallInt), varchar(fmt.Sprintf("v%d_status", i+1), 9))
	}
	t := newTable(append(columns, varchar("mode", 12), varchar("feed", 8), varchar("db_name", 64), varchar("waits_for", 256), varchar("copied", 64), seenColumn)...)
	for _, g := range rows {
		row := []sql.Value{integer(int64(g.Group)), integer(g.Tables), text(g.Status), integer(int64(g.Onlines))}
		for i := range replicas {
			if i < len(g.Members) {
				row = append(row, integer(int64(g.Members[i].Dnode)), text(g.Members[i].Role.String()))
			} else {
				row = append(row, sql.Value{}, sql.Value{})
			}
		}
		t.add(append(row, mode(g.Safety()), text(g.Feed), text(g.Database), text(g.Waits), text(copied(g)), seen(g.Seen))...)
	}
	return t.result(sql.Millisecond), nil
}

// copied says how far the copies are that replicas of a group are getting.
func copied(g host.GroupRow) string {
	var parts []string
	for _, m := range g.Members {
		if c := m.Copy; c.Bytes > 0 {
			parts = append(parts, fmt.Sprintf("dnode %d: %d %% of %d MB", m.Dnode, 100*c.Done/c.Bytes, (c.Bytes+999_999)/1_000_000))
		}
	}
	return strings.Join(parts, ", ")
}

func mode(m consensus.Mode) sql.Value {
	if m == consensus.ModeUnknown {
		return sql.Value{}
	}
	return text(m.String())
}

// showTransactions lists the changes of the cluster that are under way, with
// what each waits for. It is empty when there is none.
func (e *Engine) showTransactions() *Result {
	t := newTable(column("id", sql.TypeInt), column("create_time", sql.TypeTimestamp), varchar("stage", 12), varchar("oper", 20),
		varchar("db", 64), varchar("stable", 192), column("failed_times", sql.TypeInt), column("last_exec_time", sql.TypeTimestamp),
		varchar("last_action_info", 256), column("vgId", sql.TypeInt), column("dnode", sql.TypeSmallInt))
	o := e.cluster.Overview()
	for i, task := range o.Tasks {
		stage := "running"
		if task.Waiting != "" {
			stage = "waiting"
		}
		var vgroup, dnode, database sql.Value
		if g, ok := o.View.Group(task.Group); ok && g.Database != "" {
			database = text(g.Database)
		}
		if task.Group != 0 {
			vgroup = integer(int64(task.Group))
		}
		if task.Dnode != 0 {
			dnode = integer(int64(task.Dnode))
		}
		t.add(integer(int64(i+1)), milliseconds(task.Since), text(stage), text(task.What), database, sql.Value{}, sql.Value{}, sql.Value{},
			text(task.Waiting), vgroup, dnode)
	}
	return t.result(sql.Millisecond)
}

func (e *Engine) showAlive() *Result {
	t := newTable(column("status", sql.TypeInt))
	t.add(integer(int64(e.cluster.Overview().Alive)))
	return t.result(sql.Millisecond)
}

// tableCounts is how many tables each group holds.
func (e *Engine) tableCounts() map[id.Group]int64 {
	counts := map[id.Group]int64{}
	for _, g := range e.cluster.Overview().Groups {
		counts[g.Group] = g.Tables
	}
	return counts
}

// showAlarms is a statement of ours; others of this dialect have none like it.
func (e *Engine) showAlarms() *Result {
	t := newTable(varchar("code", 32), varchar("level", 8), varchar("object", 96), column("since", sql.TypeTimestamp),
		varchar("what", 512), varchar("next_step", 512))
	for _, a := range e.cluster.Alarms() {
		t.add(text(string(a.Code)), text(a.Level.String()), text(a.Object), milliseconds(a.Since), text(a.What), text(a.Next))
	}
	return t.result(sql.Millisecond)
}
