package query

import (
	"context"
	"errors"
	"strconv"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// The ports of end points that name none.
const (
	defaultPort           = 6030
	defaultArbitratorPort = 6042
)

// administer runs what changes the cluster's metadata.
func (e *Engine) administer(ctx context.Context, parsed sql.Statement) (*Result, error) {
	var err error
	switch q := parsed.(type) {
	case *sql.CreateDnode:
		_, err = e.cluster.CreateDnode(ctx, endPoint(q.EndPoint, defaultPort))
	case *sql.DropDnode:
		err = e.dropDnode(ctx, q)
	case *sql.RestoreDnode:
		err = e.cluster.RestoreDnode(ctx, id.Host(q.ID))
	case *sql.AlterArbitrator:
		at := ""
		if q.EndPoint != (sql.EndPoint{}) {
			at = endPoint(q.EndPoint, defaultArbitratorPort)
		}
		err = e.cluster.SetArbitrator(ctx, at)
	case *sql.CreateDatabase:
		err = e.createDatabase(ctx, q)
	case *sql.DropDatabase:
		err = e.cluster.DropDatabase(ctx, q.Name)
		if q.IfExists && errors.Is(err, &mnode.Error{Code: mnode.CodeNoDatabase}) {
			err = nil
		}
	case *sql.AlterDatabase:
		err = e.alterDatabase(ctx, q)
	case *sql.CreateUser:
		err = e.cluster.CreateUser(ctx, q.Name, q.Password)
	case *sql.AlterUser:
		err = e.cluster.AlterUser(ctx, q.Name, q.Password)
	case *sql.DropUser:
		err = e.cluster.DropUser(ctx, q.Name)
	default:
		err = unsupported(parsed.String())
	}
	if err != nil {
		return nil, err
	}
	return &Result{}, nil
}

// endPoint is e with a port, as a host writes its own.
func endPoint(e sql.EndPoint, port uint16) string {
	if e.Port == 0 {
		e.Port = port
	}
	return e.String() // the brackets of an IPv6 address are part of Host
}

func (e *Engine) dropDnode(ctx context.Context, q *sql.DropDnode) error {
	if q.Unsafe { // FORCE is for hosts that are offline: those are dropped anyway
		return unsupported("DROP DNODE UNSAFE")
	}
	if q.ID != 0 {
		return e.cluster.DropDnode(ctx, id.Host(q.ID))
	}
	v, err := e.cluster.Refresh(ctx)
	if err != nil {
		return err
	}
	at := endPoint(q.EndPoint, defaultPort)
	d, ok := v.DnodeAt(at)
	if !ok {
		return &mnode.Error{Code: mnode.CodeNoDnode, Text: "Dnode does not exist: " + at}
	}
	return e.cluster.DropDnode(ctx, d.ID)
}

// createDatabase waits until the database can be used, also with IF NOT EXISTS
// when another client has just created it.
func (e *Engine) createDatabase(ctx context.Context, q *sql.CreateDatabase) error {
	err := e.cluster.CreateDatabase(ctx, q.Name, options(q))
	if q.IfNotExists && errors.Is(err, &mnode.Error{Code: mnode.CodeDatabaseExists}) {
		_, err = e.database(ctx, q.Name)
	}
	return err
}

// options are those that have effect, and what else the statement said.
func options(q *sql.CreateDatabase) mnode.Options {
	o := mnode.DefaultOptions()
	o.Replica = int(q.Options.Replica)
	o.Vgroups = int(q.Options.VGroups)
	o.KeepMinutes = q.Options.KeepMinutes[2]
	o.DurationMinutes = q.Options.DurationMinutes
	o.Precision = q.Options.Precision.String()
	o.Strict = q.Options.Strict != "off"
	for _, s := range q.Given {
		switch s.Option {
		case "replica", "vgroups", "keep", "duration", "precision", "strict":
			continue
		}
		o.Others = append(o.Others, mnode.Option{Name: s.Option, Value: settingText(s)})
	}
	return o
}

func settingText(s sql.Setting) string {
	if len(s.Ints) == 0 {
		return s.Text
	}
	text := ""
	for i, n := range s.Ints {
		if i > 0 {
			text += ","
		}
		text += strconv.FormatInt(n, 10)
	}
	return text
}

func (e *Engine) alterDatabase(ctx context.Context, q *sql.AlterDatabase) error {
	if len(q.Given) == 1 && q.Given[0].Option == "replica" {
		return e.cluster.AlterReplica(ctx, q.Name, int(q.Given[0].Ints[0]))
	}
	if len(q.Given) != 1 || q.Given[0].Option != "keep" || len(q.Given[0].Ints) == 0 {
		return unsupported("ALTER DATABASE of anything but REPLICA")
	}
	keep := q.Given[0].Ints
	return e.cluster.AlterDatabase(ctx, q.Name, keep[len(keep)-1])
}

// describe answers DESCRIBE.
func (e *Engine) describe(ctx context.Context, s Session, q *sql.Describe) (*Result, error) {
	db, err := e.database(ctx, inDatabase(s, q.Table))
	if err != nil {
		return nil, err
	}
	sh, err := e.askShape(ctx, db, shardOf(q.Table.Name, db.Groups), q.Table.Name)
	if err != nil {
		return nil, err
	}
	t := newTable(varchar("field", 64), varchar("type", 20), column("length", sql.TypeInt), varchar("note", 12))
	for i, c := range sh.columns {
		note := ""
		if i == 0 {
			note = "PRIMARY KEY"
		}
		t.add(text(c.Name), text(c.Type.String()), integer(int64(declared(c))), text(note))
	}
	for _, c := range sh.tags {
		t.add(text(c.Name), text(c.Type.String()), integer(int64(declared(c))), text("TAG"))
	}
	return t.result(sql.Millisecond), nil
}

func declared(c sql.Column) int {
	if w := c.Type.Width(); w > 0 {
		return w
	}
	return c.Length
}
