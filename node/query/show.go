package query

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/conf"
	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/mnode"
	"github.com/tarbitrator/tarbitrator/vnode"
)

// show answers SHOW. What is about the cluster comes from what this host knows,
// without waiting for anyone; what is about tables comes from their masters.
func (e *Engine) show(ctx context.Context, s Session, q *sql.Show, text string) (*Result, error) {
	switch q.Kind {
	case sql.ShowDatabases:
		return e.showDatabases(), nil
	case sql.ShowTables, sql.ShowStables:
		return e.showTables(ctx, s, q, text)
	case sql.ShowDnodes:
		return e.showDnodes(), nil
	case sql.ShowMnodes:
		return e.showMnodes(), nil
	case sql.ShowVgroups:
		return e.showVgroups(ctx, s, q)
	case sql.ShowClusterAlive:
		return e.showAlive(), nil
	case sql.ShowTransactions:
		return e.showTransactions(), nil
	case sql.ShowCluster:
		return e.showCluster(), nil
	case sql.ShowFailovers:
		return e.showFailovers(), nil
	case sql.ShowAlarms:
		return e.showAlarms(), nil
	case sql.ShowUsers:
		return e.showUsers(), nil
	case sql.ShowVariables:
		return showVariables(e.config.Variables), nil
	case sql.ShowClusterVariables:
		return showVariables(e.config.Shared), nil
	case sql.ShowCreateDatabase:
		return e.showCreateDatabase(ctx, q)
	}
	return nil, unsupported(q.String())
}

func milliseconds(t time.Time) sql.Value {
	if t.IsZero() {
		return sql.Value{}
	}
	return instant(sql.Millisecond.Of(t))
}

func (e *Engine) showDatabases() *Result {
	t := newTable(varchar("name", 64), column("create_time", sql.TypeTimestamp), column("vgroups", sql.TypeInt),
		column("ntables", sql.TypeBigInt), column("replica", sql.TypeTinyInt), varchar("strict", 4), varchar("duration", 10),
		varchar("keep", 32), varchar("precision", 2), varchar("status", 10))
	tables := e.tableCounts()
	for _, db := range e.cluster.View().Databases {
		o, status := db.Options, "ready"
		if !db.Ready {
			status = "creating"
		}
		var n int64
		for _, g := range db.Groups {
			n += tables[g]
		}
		keep := mnode.Span(o.KeepMinutes)
		t.add(text(db.Name), milliseconds(db.Created), integer(int64(len(db.Groups))), integer(n), integer(int64(o.Replica)),
			text(onOff(o.Strict)), text(mnode.Span(o.DurationMinutes)), text(strings.Join([]string{keep, keep, keep}, ",")),
			text(o.Precision), text(status))
	}
	return t.result(sql.Millisecond)
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func (e *Engine) showCreateDatabase(ctx context.Context, q *sql.Show) (*Result, error) {
	db, err := e.database(ctx, q.Database)
	if err != nil {
		return nil, err
	}
	t := newTable(varchar("Database", 64), varchar("Create Database", 4096))
	t.add(text(db.Name), text(fmt.Sprintf("CREATE DATABASE `%s` %s", db.Name, db.Options)))
	return t.result(sql.Millisecond), nil
}

func (e *Engine) showUsers() *Result {
	t := newTable(varchar("name", 24), column("super", sql.TypeTinyInt), column("enable", sql.TypeTinyInt),
		column("sysinfo", sql.TypeTinyInt), column("create_time", sql.TypeTimestamp))
	for _, u := range e.cluster.View().Users {
		super := int64(0)
		if u.Super {
			super = 1
		}
		t.add(text(u.Name), integer(super), integer(1), integer(1), milliseconds(u.Created))
	}
	return t.result(sql.Millisecond)
}

func (e *Engine) showCluster() *Result {
	c := e.cluster.View().Cluster
	t := newTable(column("id", sql.TypeBigInt), varchar("name", 64), column("uptime", sql.TypeInt),
		column("create_time", sql.TypeTimestamp), varchar("version", 10))
	t.add(integer(int64(c.ID)), text(c.Name), integer(int64(time.Since(c.Created).Seconds())), milliseconds(c.Created),
		text(strings.SplitN(Version, "-", 2)[0]))
	return t.result(sql.Millisecond)
}

func showVariables(list []conf.Variable) *Result {
	t := newTable(varchar("name", 64), varchar("value", 256), varchar("scope", 8), varchar("info", 256))
	for _, v := range list {
		t.add(text(v.Name), text(v.Value), text(v.Scope), text(v.Info))
	}
	return t.result(sql.Millisecond)
}

// showTables lists tables or super tables of a database.
func (e *Engine) showTables(ctx context.Context, s Session, q *sql.Show, statement string) (*Result, error) {
	name := q.Database
	if name == "" {
		name = s.Database
	}
	db, err := e.database(ctx, name)
	if err != nil {
		return nil, err
	}
	r := &request{database: name, text: statement, parsed: q, moment: sql.Moment{Zone: s.Zone}}
	groups := db.Groups
	if q.Kind == sql.ShowStables {
		groups = groups[:1] // every group has all of them
	}
	answers, err := e.parts(ctx, r, groups)
	if err != nil {
		return nil, err
	}
	all := answers[0]
	for _, p := range answers[1:] {
		if len(p.columns) != 1 {
			return nil, errPart
		}
		all.columns[0].Append(&p.columns[0], 0, p.rows)
		all.rows += p.rows
	}
	sortPart(all, []sortKey{{}})
	return &Result{Columns: all.columns, Rows: all.rows}, nil
}

// showPart lists what one group has.
func (e *Engine) showPart(ctx context.Context, v *vnode.Vnode, q *sql.Show) (*part, error) {
	if err := v.Read(ctx); err != nil {
		return nil, err
	}
	var names []string
	title := "table_name"
	if q.Kind == sql.ShowStables {
		title = "stable_name"
		for _, st := range v.Stables() {
			names = append(names, st.Name)
		}
	} else {
		for _, t := range v.Tables() {
			names = append(names, t.Name)
		}
	}
	t := newTable(varchar(title, vnode.MaxNameBytes))
	for _, n := range names {
		if q.Like == "" || like(n, q.Like) {
			t.add(text(n))
		}
	}
	return &part{columns: t.columns, rows: t.rows}, nil
}

// largest is the most of something over a list, at least least.
func largest[T any](list []T, least int, of func(T) int) int {
	if len(list) == 0 {
		return least
	}
	return max(least, of(slices.MaxFunc(list, func(a, b T) int { return cmp.Compare(of(a), of(b)) })))
}
