package node

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/conf"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/mnode"
	"github.com/tarbitrator/tarbitrator/node/host"
)

// stoppedHost is the directory of a host with the metadata and one shard.
type stoppedHost struct {
	t   *testing.T
	dir string
}

func newStoppedHost(t *testing.T) *stoppedHost {
	s := &stoppedHost{t: t, dir: t.TempDir()}
	s.open(func(r *Recovery) {
		var ops []wal.Op
		for _, g := range []id.Group{1, 5} {
			op := consensus.Remains{Group: g, Term: 3, Last: wal.Position{Index: 9, Term: 3}}.Only(2, r.record.Identity().UUID, []byte("x"), []byte("y"))
			op.Start = &wal.Position{Index: 9, Term: 3}
			ops = append(ops, op)
		}
		s.write(r, ops)
	})
	return s
}

// open is one run of the tool, up to where it knows what there is.
func (s *stoppedHost) open(use func(*Recovery)) {
	s.t.Helper()
	r := &Recovery{config: conf.Config{}}
	defer func() {
		if err := r.Close(); err != nil {
			s.t.Fatal(err)
		}
	}()
	var err error
	if r.record, err = host.OpenRecord(s.dir); err != nil {
		s.t.Fatal(err)
	}
	fs, err := wal.DirFS(filepath.Join(s.dir, "wal"))
	if err != nil {
		s.t.Fatal(err)
	}
	if r.log, err = wal.Open(fs, wal.Options{}); err != nil {
		s.t.Fatal(err)
	}
	if r.groups, err = consensus.ReadRemains(r.log); err != nil {
		s.t.Fatal(err)
	}
	me, lost := r.record.Identity().UUID, id.UUID{0xa}
	group := func(g id.Group) mnode.Group {
		return mnode.Group{ID: g, State: mnode.Formed, NextReplica: 4, Members: []mnode.Member{{Replica: 1, Dnode: 1, UUID: lost}, {Replica: 2, Dnode: 2, UUID: me}}}
	}
	r.view = &mnode.View{Dnodes: []mnode.Dnode{{ID: 1, UUID: lost}, {ID: 2, UUID: me}}, Groups: []mnode.Group{group(1), group(5)}}
	use(r)
}

func (s *stoppedHost) write(r *Recovery, ops []wal.Op) {
	s.t.Helper()
	if err := r.log.Append(ops); err != nil {
		s.t.Fatal(err)
	}
	if err := r.log.Flush(); err != nil {
		s.t.Fatal(err)
	}
	if err := r.log.Sync(); err != nil {
		s.t.Fatal(err)
	}
}

// A run that died is ended by the next one, wherever it died: a crash leaves of
// one write to the log all, nothing, or the first part.
func TestRecoveryGoesOnWhereItDied(t *testing.T) {
	for name, groupsDone := range map[string]int{"before the log": 0, "in the log": 1, "after the log": 2} {
		t.Run(name, func(t *testing.T) {
			s := newStoppedHost(t)
			var plan host.Recovery
			s.open(func(r *Recovery) {
				c, err := r.view.Survive(r.record.Identity().UUID)
				if err != nil {
					t.Fatal(err)
				}
				plan = host.Recovery{At: time.Unix(1e9, 0).UTC(), On: "b:6030", Survivor: 2, Replicas: c.Replicas, GivenUp: []id.UUID{{0xa}}}
				if err := r.record.BeginRecovery(plan); err != nil {
					t.Fatal(err)
				}
				part := plan
				part.Replicas = plan.Replicas[:groupsDone]
				if err := r.rewriteLog(part); err != nil {
					t.Fatal(err)
				}
			})
			s.open(func(r *Recovery) {
				if err := r.record.Whole(); err == nil {
					t.Error("the host may start half way")
				}
				if err := r.Rewrite(time.Now()); err != nil {
					t.Fatal(err)
				}
			})
			s.open(func(r *Recovery) {
				if err := r.record.Whole(); err != nil {
					t.Error(err)
				}
				for i, g := range r.groups {
					last := id.Index(15) // 9, the first change of members, x, y, the second one
					if g.Group == id.Mnode {
						last = 16 // once, not once for each run
					}
					if len(g.Members) != 1 || g.Replica != plan.Replicas[i].To || g.Last.Index != last || g.Commit != last || !g.Formed {
						t.Errorf("group %d: %+v, want replica %d alone with %d entries", g.Group, g, plan.Replicas[i].To, last)
					}
				}
			})
		})
	}
}
