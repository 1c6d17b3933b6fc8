package consensus

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// fullMachine can make no checkpoint while its disk is full.
type fullMachine struct {
	*listMachine
	full  atomic.Bool
	made  atomic.Uint64 // index of the last checkpoint
	calls atomic.Int64
}

func (m *fullMachine) Checkpoint(ctx context.Context) (id.Index, error) {
	m.calls.Add(1)
	if m.full.Load() {
		return 0, fmt.Errorf("write the state: %w", ErrDiskFull)
	}
	index, err := m.listMachine.Checkpoint(ctx)
	m.made.Store(uint64(index))
	return index, err
}

// A full disk heals by itself: a checkpoint that finds no room is tried again,
// and the group goes on.
func TestACheckpointWithoutRoomIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := newTown().move('a')
		sm := &fullMachine{listMachine: &listMachine{}}
		sm.full.Store(true)
		alone := GroupSpec{Group: 2, Replica: 1, Members: []Member{{Replica: 1, UUID: host.uuid}}}
		if err := host.Create(t.Context(), alone, sm); err != nil {
			t.Fatal(err)
		}
		if err := host.Form(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(2 * checkpointEvery)
			if _, err := host.Propose(t.Context(), 2, []byte("x")); err != nil {
				t.Fatalf("on a full disk: %v", err)
			}
		}
		if sm.made.Load() != 0 {
			t.Fatal("the disk was not full")
		}
		sm.full.Store(false)
		time.Sleep(2 * checkpointEvery)
		if s, _ := host.Status(2); s.Faulty != nil || uint64(s.Applied) != sm.made.Load() {
			t.Errorf("after there was room: fault %v, the checkpoint is at %d, applied is %d", s.Faulty, sm.made.Load(), s.Applied)
		}
		host.town.leave(host)
	})
}

// A group that is not written to makes no checkpoints, though its log ends with
// entries that are not for the state machine: those with which leaders begin.
func TestAQuietGroupMakesNoCheckpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := newTown().move('a')
		sm := &fullMachine{listMachine: &listMachine{}}
		alone := GroupSpec{Group: 2, Replica: 1, Members: []Member{{Replica: 1, UUID: host.uuid}}}
		if err := host.Create(t.Context(), alone, sm); err != nil {
			t.Fatal(err)
		}
		if err := host.Form(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * checkpointEvery)
		if s, _ := host.Status(2); s.Applied == 0 {
			t.Fatal("no leader has begun")
		}
		before := sm.calls.Load()
		time.Sleep(20 * checkpointEvery)
		if n := sm.calls.Load() - before; n > 0 {
			t.Errorf("%d checkpoints of a group in which nothing happened", n)
		}
		if _, err := host.Propose(t.Context(), 2, []byte("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * checkpointEvery)
		if s, _ := host.Status(2); uint64(s.Applied) != sm.made.Load() {
			t.Errorf("the checkpoint is at %d, applied is %d", sm.made.Load(), s.Applied)
		}
		host.town.leave(host)
	})
}
