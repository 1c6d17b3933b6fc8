package query

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/mnode"
	"github.com/tarbitrator/tarbitrator/node/host"
	"github.com/tarbitrator/tarbitrator/vnode"
)

// lostGroup is a group whose only reachable replica is this host's: it was
// deposed, and there is no other master.
type lostGroup struct {
	Cluster
	v     *vnode.Vnode
	n     id.Index
	keeps id.Index // how many entries
}

func (l *lostGroup) Vnode(id.Group) (*vnode.Vnode, bool) { return l.v, true }

func (l *lostGroup) Forward(_ context.Context, g id.Group, _ string, _ []byte) ([]byte, error) {
	return nil, &host.NoMasterError{Group: g, Err: &consensus.NotLeaderError{Group: g}}
}

// Propose applies the first entries and loses sight of all others.
func (l *lostGroup) Propose(_ context.Context, _ id.Group, data []byte) (any, error) {
	if l.n++; l.n > l.keeps {
		return nil, consensus.ErrUnknownOutcome
	}
	results, err := l.v.Apply([]consensus.Entry{{Index: l.n, Term: 1, Data: data}})
	if err != nil {
		return nil, err
	}
	return results[0], nil
}

func (l *lostGroup) Read(context.Context, id.Group) error { return nil }

// open makes the replica of the group, which has a table t.
func (l *lostGroup) open(t *testing.T) {
	t.Helper()
	var err error
	l.v, err = vnode.Open(vnode.Config{Dir: t.TempDir(), Group: 2, Cluster: 7}, 0, l, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = l.v.Run(t.Context()) })
	t.Cleanup(func() {
		if err := l.v.Close(); err != nil {
			t.Error(err)
		}
		running.Wait()
	})
	l.v.LeaderChanged(1, id.UUID{1}, true)
	create := vnode.CreateTable{Name: "t", Columns: []sql.Column{column("ts", sql.TypeTimestamp), column("v", sql.TypeDouble)}}
	if _, err := l.v.Write(t.Context(), vnode.Statement{ID: vnode.StatementID{Boot: 1, Seq: 1}, Op: create}); err != nil {
		t.Fatal(err)
	}
}

// What may be in the log of the host that was asked may be stored, also when no
// other host has ever heard of it.
func TestUnknownOutcomeOfThisHost(t *testing.T) {
	l := &lostGroup{keeps: 1}
	l.open(t)
	e := New(Config{Boot: 2}, l, slog.New(slog.DiscardHandler))
	rows := sql.NewRows([]sql.Column{column("v", sql.TypeDouble)}, 1)
	rows.Timestamps = append(rows.Timestamps, time.Now().UnixMilli())
	rows.Columns[0].AppendValue(sql.Value{Type: sql.TypeDouble, Float: 1})
	_, err := e.write(t.Context(), &batch{group: 2, tables: []vnode.TableRows{{Table: "t", Rows: rows}}})
	if !errors.Is(err, consensus.ErrUnknownOutcome) {
		t.Errorf("the client is told %v, want that the outcome is unknown", err)
	}
}

// The answer of a DROP TABLE is lost and the statement comes again: it has
// dropped the table. Another statement has not.
func TestDropComesAgain(t *testing.T) {
	l := &lostGroup{keeps: 9}
	l.open(t)
	drop := &sql.DropTable{Tables: []sql.DroppedTable{{Table: sql.TableName{Name: "t"}}}}
	for i, want := range []int{1, 1, 0} {
		who := vnode.StatementID{Boot: 2, Seq: 1 + uint64(i)/2}
		d := &ddl{v: l.v, db: mnode.Database{Name: "d", Groups: []id.Group{2}}, r: &request{group: 2, id: who}}
		p, err := d.drop(t.Context(), drop)
		if err != nil || p.rows != want {
			t.Errorf("try %d: found %d tables, %v, want %d", i+1, p.rows, err, want)
		}
	}
}

// What one of two groups has done is not undone because the other has no master.
func TestDoneInPart(t *testing.T) {
	nobody := &host.NoMasterError{Group: 3, Err: &consensus.NotLeaderError{Group: 3}}
	change, query := &request{id: vnode.StatementID{Boot: 1, Seq: 1}}, &request{}
	for _, c := range []struct {
		name    string
		r       *request
		answers []*part
		unknown bool
	}{
		{"a change, in part", change, []*part{{}, nil}, true},
		{"a change, not at all", change, []*part{nil, nil}, false},
		{"a query", query, []*part{{}, nil}, false},
	} {
		if got := errors.Is(partly(c.r, c.answers, nobody), consensus.ErrUnknownOutcome); got != c.unknown {
			t.Errorf("%s: unknown is %v, want %v", c.name, got, c.unknown)
		}
	}
}
