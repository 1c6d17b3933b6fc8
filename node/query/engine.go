package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/alarm"
	"github.com/tarbitrator/tarbitrator/internal/conf"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/mnode"
	"github.com/tarbitrator/tarbitrator/node/host"
	"github.com/tarbitrator/tarbitrator/vnode"
)

// Version is what SERVER_VERSION() says. Clients of this dialect look at its
// start to learn which generation they speak to.
const Version = "3.3.6.0-tarbitrator"

// Cluster is what the query layer asks of its host. *host.Host is one, but for
// Vnode, which knows what kind of shard the host was given.
type Cluster interface {
	// View is the newest metadata that this host has. It costs nothing.
	View() *mnode.View
	// Refresh is the metadata as of now, asked of the mnode's master.
	Refresh(ctx context.Context) (*mnode.View, error)
	// Overview is what is known about the state of the cluster. It never waits.
	Overview() host.Overview
	// Failovers are the changes of master, the newest first. It never waits.
	Failovers() []mnode.Failover
	// Alarms are those that hold now, the most urgent first. It never waits.
	Alarms() []alarm.Alarm
	// Vnode is this host's replica of a group, if it has one.
	Vnode(g id.Group) (*vnode.Vnode, bool)
	// Forward runs a method on the host that leads a group. It waits for a
	// master until ctx ends. The body carries its own identity, so it may be
	// sent again when nobody knows whether it has run.
	Forward(ctx context.Context, g id.Group, method string, body []byte) ([]byte, error)

	// What changes the metadata. Each waits until this host's own View holds
	// the change.
	CreateDnode(ctx context.Context, endPoint string) (id.Host, error)
	DropDnode(ctx context.Context, n id.Host) error
	RestoreDnode(ctx context.Context, n id.Host) error
	SetArbitrator(ctx context.Context, endPoint string) error
	CreateDatabase(ctx context.Context, name string, o mnode.Options) error
	AlterDatabase(ctx context.Context, name string, keepMinutes int64) error
	AlterReplica(ctx context.Context, name string, replica int) error
	DropDatabase(ctx context.Context, name string) error
	CreateUser(ctx context.Context, name, password string) error
	AlterUser(ctx context.Context, name, password string) error
	DropUser(ctx context.Context, name string) error
}

// Config holds what the query layer needs to know. Fixed after New.
type Config struct {
	MaxWait time.Duration  // for a master (maxRetryWaitTime); default 20 s
	Zone    *time.Location // of time literals without one (timezone); default the system's
	Boot    uint64         // of this process: with a count it names a statement (R46)
	// Code finds the number and text of an error in the one table, which stands
	// above this package. It is used to carry errors between hosts.
	Code func(error) (code uint16, text string)
	// Variables are the configuration of this host, Shared those that must be
	// equal on all.
	Variables, Shared []conf.Variable
}

// Engine runs statements. It may be used by any number of goroutines.
type Engine struct {
	config  Config
	cluster Cluster
	log     *slog.Logger
	seq     atomic.Uint64
	inserts pool
}

// New makes an engine.
func New(config Config, cluster Cluster, log *slog.Logger) *Engine {
	if config.MaxWait == 0 {
		config.MaxWait = 20 * time.Second
	}
	if config.Zone == nil {
		config.Zone = time.Local
	}
	return &Engine{config: config, cluster: cluster, log: log}
}

// Run runs one statement of a client. It waits for masters as long as the
// configuration allows, and drops the statement when ctx ends.
func (e *Engine) Run(ctx context.Context, s Session, statement []byte) (*Result, error) {
	text := string(statement)
	parsed, err := sql.Parse(text)
	if err != nil {
		return nil, err
	}
	s.Database = fold(s.Database)
	if s.Zone == nil {
		s.Zone = e.config.Zone
	}
	most := e.config.MaxWait
	if _, slow := parsed.(*sql.CreateDatabase); slow {
		most += createGrace
	}
	waiting, cancel := context.WithTimeoutCause(ctx, most, errWaited)
	defer cancel()
	result, err := e.run(waiting, s, parsed, text)
	if err != nil {
		if gone := ctx.Err(); gone != nil {
			return nil, gone // nobody waits for the answer any more
		}
		return nil, err
	}
	return result, nil
}

// fold gives a name from a path the form that it has in a statement.
func fold(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}

// createGrace is how much longer CREATE DATABASE may take: the mnode's master
// itself waits as long for the new groups, and its answer says so.
const createGrace = 5 * time.Second

// errWaited ends a statement that has waited as long as it may.
var errWaited = fmt.Errorf("waited as long as maxRetryWaitTime allows: %w", context.DeadlineExceeded)

func (e *Engine) run(ctx context.Context, s Session, parsed sql.Statement, text string) (*Result, error) {
	moment := sql.Moment{Now: time.Now(), Zone: s.Zone}
	switch q := parsed.(type) {
	case *sql.Insert:
		return e.insert(ctx, s, q, moment)
	case *sql.Select:
		return e.query(ctx, s, q, moment, text)
	case *sql.Use:
		if _, ok := e.cluster.View().Database(q.Database); !ok {
			if _, err := e.database(ctx, q.Database); err != nil {
				return nil, err
			}
		}
		return &Result{}, nil
	case *sql.Show:
		return e.show(ctx, s, q, text)
	case *sql.Describe:
		return e.describe(ctx, s, q)
	case *sql.CreateTable, *sql.CreateChildTables, *sql.DropTable:
		return e.tables(ctx, s, parsed, moment, text)
	}
	return e.administer(ctx, parsed)
}

// next draws n numbers for statements and returns the first.
func (e *Engine) next(n int) vnode.StatementID {
	last := e.seq.Add(uint64(n))
	return vnode.StatementID{Boot: e.config.Boot, Seq: last - uint64(n) + 1}
}

// database finds a database. A name that this host does not know is believed
// to be wrong only after the mnode's master has been asked.
func (e *Engine) database(ctx context.Context, name string) (mnode.Database, error) {
	if name == "" {
		return mnode.Database{}, &sql.Error{Code: sql.CodeNoDatabase, Text: "Database not specified"}
	}
	db, ok := e.cluster.View().Database(name)
	if ok && db.Ready {
		return db, nil
	}
	if v, err := e.cluster.Refresh(ctx); err == nil {
		db, ok = v.Database(name)
	} else if !ok {
		return mnode.Database{}, err
	}
	switch {
	case !ok:
		return mnode.Database{}, &mnode.Error{Code: mnode.CodeNoDatabase, Text: "Database not exist: " + name}
	case len(db.Groups) == 0:
		return mnode.Database{}, &mnode.Error{Code: mnode.CodeCreating, Text: "Database in creating status: " + name}
	}
	return db, nil
}

// inDatabase is the name of the database that a table is in.
func inDatabase(s Session, t sql.TableName) string {
	if t.Database != "" {
		return t.Database
	}
	return s.Database
}

// precisionOf is the unit of a database's timestamps.
func precisionOf(db mnode.Database) sql.Precision {
	switch db.Options.Precision {
	case "us":
		return sql.Microsecond
	case "ns":
		return sql.Nanosecond
	}
	return sql.Millisecond
}

// elsewhere reports whether an error means that another host, or this one a
// moment later, can do what was asked; nothing was done yet.
func elsewhere(err error) bool {
	var other *consensus.NotLeaderError
	return errors.As(err, &other) || errors.Is(err, consensus.ErrNoGroup) || errors.Is(err, consensus.ErrLost) ||
		errors.Is(err, consensus.ErrStopped) || errors.Is(err, vnode.ErrReplaying) || errors.Is(err, vnode.ErrClosed)
}

// forwardable reports whether the host that leads should be asked, also because
// it may know what became of the statement.
func forwardable(err error) bool {
	return elsewhere(err) || errors.Is(err, consensus.ErrUnknownOutcome)
}
