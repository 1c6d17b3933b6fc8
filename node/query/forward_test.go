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
	"github.com/tarbitrator/tarbitrator/node/host"
	"github.com/tarbitrator/tarbitrator/vnode"
)

// lostGroup is a group whose only reachable replica is this host's: it was
// deposed, and there is no other master.
type lostGroup struct {
	Cluster
	v *vnode.Vnode
	n id.Index
}

func (l *lostGroup) Vnode(id.Group) (*vnode.Vnode, bool) { return l.v, true }

func (l *lostGroup) Forward(_ context.Context, g id.Group, _ string, _ []byte) ([]byte, error) {
	return nil, &host.NoMasterError{Group: g, Err: &consensus.NotLeaderError{Group: g}}
}

// Propose applies the first entry and loses sight of all others.
func (l *lostGroup) Propose(_ context.Context, _ id.Group, data []byte) (any, error) {
	if l.n++; l.n > 1 {
		return nil, consensus.ErrUnknownOutcome
	}
	results, err := l.v.Apply([]consensus.Entry{{Index: l.n, Term: 1, Data: data}})
	if err != nil {
		return nil, err
	}
	return results[0], nil
}

func (l *lostGroup) Read(context.Context, id.Group) error { return nil }

// What may be in the log of the host that was asked may be stored, also when no
// other host has ever heard of it.
func TestUnknownOutcomeOfThisHost(t *testing.T) {
	l := &lostGroup{}
	var err error
	l.v, err = vnode.Open(vnode.Config{Dir: t.TempDir(), Group: 2, Cluster: 7}, l, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = l.v.Run(t.Context()) })
	defer func() {
		if err := l.v.Close(); err != nil {
			t.Error(err)
		}
		running.Wait()
	}()
	l.v.LeaderChanged(1, id.UUID{1}, true)
	create := vnode.CreateTable{Name: "t", Columns: []sql.Column{column("ts", sql.TypeTimestamp), column("v", sql.TypeDouble)}}
	if _, err := l.v.Write(t.Context(), vnode.Statement{ID: vnode.StatementID{Boot: 1, Seq: 1}, Op: create}); err != nil {
		t.Fatal(err)
	}
	e := New(Config{Boot: 2}, l, slog.New(slog.DiscardHandler))
	rows := sql.NewRows([]sql.Column{column("v", sql.TypeDouble)}, 1)
	rows.Timestamps = append(rows.Timestamps, time.Now().UnixMilli())
	rows.Columns[0].AppendValue(sql.Value{Type: sql.TypeDouble, Float: 1})
	_, err = e.write(t.Context(), &batch{group: 2, tables: []vnode.TableRows{{Table: "t", Rows: rows}}})
	if !errors.Is(err, consensus.ErrUnknownOutcome) {
		t.Errorf("the client is told %v, want that the outcome is unknown", err)
	}
}
