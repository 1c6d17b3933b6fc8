package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tarbitrator/tarbitrator/arbitrator"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// town is a few hosts and an arbitrator in one process, with a perfect network.
type town struct {
	mu    sync.Mutex
	hosts map[id.UUID]*resident
	arb   *arbitrator.Machine
	deaf  atomic.Bool // the arbitrator is told nothing
	start time.Time
	conf  Config
}

// resident is one Host with its log and state machine.
type resident struct {
	*Host
	town *town
	uuid id.UUID
	log  *lockedLog
	list *listMachine
	stop context.CancelFunc
	done chan struct{}
}

// lockedLog is a memLog whose writes are durable a moment later.
type lockedLog struct {
	mu   sync.Mutex
	mem  *memLog
	host *Host
}

func (l *lockedLog) Append(seq uint64, ops []wal.Op) {
	l.mu.Lock()
	l.mem.do(ops)
	l.mu.Unlock()
	time.AfterFunc(100*time.Microsecond, func() { l.host.Durable(seq) })
}

func (l *lockedLog) Groups() []wal.GroupState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mem.Groups()
}

func (l *lockedLog) Entries(g id.Group, lo, hi id.Index, n uint64) ([]wal.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mem.Entries(g, lo, hi, n)
}

func (l *lockedLog) Term(g id.Group, i id.Index) (id.Term, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mem.Term(g, i)
}

func (l *lockedLog) Spare(g id.Group, keepBytes uint64) id.Index {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mem.Spare(g, keepBytes)
}

// listMachine applies by appending, and answers with the length.
type listMachine struct {
	mu      sync.Mutex
	applied []string
	index   id.Index
	serves  bool
	closed  bool
	fail    error
	shelf   *shelf // its disk
}

func (m *listMachine) Apply(entries []Entry) ([]any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	var results []any
	for _, e := range entries {
		m.applied = append(m.applied, string(e.Data))
		m.index = e.Index
		results = append(results, len(m.applied))
	}
	return results, nil
}

func (m *listMachine) Checkpoint(context.Context) (id.Index, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shelf != nil {
		m.shelf.save(m.index, m.applied)
	}
	return m.index, nil
}

func (m *listMachine) LeaderChanged(_ id.Term, _ id.UUID, self bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.serves = self
}

func (m *listMachine) Close() error { m.closed = true; return nil }

func (m *listMachine) list() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.applied)
}

func newTown() *town {
	return &town{hosts: map[id.UUID]*resident{}, arb: newArbitrator(), start: time.Now(), conf: DefaultConfig()}
}

func (w *town) move(name byte) *resident {
	return w.start1(id.UUID{name}, newMemLog(), newShelf())
}

// start1 starts a host over what an earlier one left on its disk.
func (w *town) start1(u id.UUID, mem *memLog, s *shelf) *resident {
	r := &resident{town: w, uuid: u, log: &lockedLog{mem: mem}, list: s.open(mem)}
	r.Host = New(w.conf, r.uuid, Log{r.log, r.log}, r, slog.New(slog.DiscardHandler))
	r.log.host = r.Host
	ctx, stop := context.WithCancel(context.Background())
	r.stop, r.done = stop, make(chan struct{})
	w.mu.Lock()
	w.hosts[r.uuid] = r
	w.mu.Unlock()
	go func() { _ = r.Run(ctx); close(r.done) }() // ends with ctx
	return r
}

// Send implements Carrier.
func (r *resident) Send(to id.UUID, class peer.Class, msgs []peer.Message) bool {
	w := r.town
	w.mu.Lock()
	defer w.mu.Unlock()
	if to == arbUUID {
		w.ask(r, msgs)
	} else if h := w.hosts[to]; h != nil {
		time.AfterFunc(50*time.Microsecond, func() { h.Receive(r.uuid, class, msgs) })
	}
	return true
}

func (w *town) ask(from *resident, msgs []peer.Message) {
	if w.deaf.Load() {
		return
	}
	events := []arbitrator.Event{arbitrator.Received{Cluster: cluster, From: from.uuid, To: arbUUID, Messages: msgs}}
	for len(events) > 0 {
		effects := w.arb.Step(time.Since(w.start), events)
		events = nil
		for _, e := range effects {
			switch e := e.(type) {
			case arbitrator.Write:
				events = append(events, arbitrator.Synced{Seq: e.Seq})
			case arbitrator.Send:
				if to := w.hosts[e.To]; to != nil {
					time.AfterFunc(50*time.Microsecond, func() { to.Receive(arbUUID, peer.Beats, e.Messages) })
				}
			}
		}
	}
}

// leave ends a host at once; the others learn that its port refuses them.
func (w *town) leave(r *resident) {
	r.stop()
	<-r.done
	w.mu.Lock()
	delete(w.hosts, r.uuid)
	rest := make([]*resident, 0, len(w.hosts))
	for _, h := range w.hosts {
		rest = append(rest, h)
	}
	w.mu.Unlock()
	for _, h := range rest {
		h.Linked(r.uuid, LinkRefused)
	}
}

// couple makes group 2 of two residents and returns its master and the other.
func (w *town) couple(t *testing.T, a, b *resident) (master, other *resident) {
	t.Helper()
	ctx := t.Context()
	members := []Member{{Replica: 1, UUID: a.uuid}, {Replica: 2, UUID: b.uuid}, {Replica: 3, UUID: arbUUID, Witness: true}}
	if err := a.Enroll(ctx, 2, 3, arbUUID); err != nil {
		t.Fatal(err)
	}
	for i, r := range []*resident{a, b} {
		spec := GroupSpec{Group: 2, Replica: id.Replica(i + 1), Members: members}
		if err := r.Create(ctx, spec, r.list); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []*resident{a, b} {
		if err := r.Form(ctx, 2); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(5 * time.Second)
	if s, _ := a.Status(2); s.Role == RoleMaster {
		return a, b
	}
	return b, a
}

func TestTheOtherHostGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		a, b := w.move('a'), w.move('b')
		master, other := w.couple(t, a, b)

		var clients sync.WaitGroup
		var mu sync.Mutex
		acked := map[string]bool{}
		for c := range 8 {
			clients.Go(func() {
				for i := range 50 {
					data := fmt.Sprintf("%d.%d", c, i)
					if _, err := master.Propose(t.Context(), 2, []byte(data)); err != nil {
						return // killed in between
					}
					mu.Lock()
					acked[data] = true
					mu.Unlock()
				}
			})
		}
		time.Sleep(3 * time.Millisecond)
		w.leave(master)
		clients.Wait()
		time.Sleep(time.Second)

		if _, err := master.Propose(t.Context(), 2, []byte("x")); !errors.Is(err, ErrNoGroup) && !errors.Is(err, ErrStopped) {
			t.Errorf("stopped host proposes: %v", err)
		}
		n, err := other.Propose(t.Context(), 2, []byte("last"))
		if err != nil {
			t.Fatalf("the other host does not go on: %v", err)
		}
		if err := other.Read(t.Context(), 2); err != nil {
			t.Fatalf("read: %v", err)
		}
		list := other.list.list()
		if len(list) != n.(int) || len(acked) == 0 {
			t.Errorf("got %v entries, result says %v; %d acknowledged", len(list), n, len(acked))
		}
		for data := range acked {
			if !slices.Contains(list, data) {
				t.Errorf("%s was acknowledged and is lost", data)
			}
		}
		w.leave(other)
	})
}

func TestFollowerNamesTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		a, b := w.move('a'), w.move('b')
		master, other := w.couple(t, a, b)
		_, err := other.Propose(t.Context(), 2, []byte("x"))
		var nl *NotLeaderError
		if !errors.As(err, &nl) || nl.Leader != master.uuid {
			t.Errorf("got %v, want a NotLeaderError that names %s", err, master.uuid.Short())
		}
		if err := other.Read(t.Context(), 2); !errors.As(err, &nl) {
			t.Errorf("a follower reads: %v", err)
		}
		if _, err := other.Propose(t.Context(), 9, []byte("x")); !errors.Is(err, ErrNoGroup) {
			t.Errorf("got %v, want %v", err, ErrNoGroup)
		}
		w.leave(a)
		w.leave(b)
	})
}

func TestHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		a, b := w.move('a'), w.move('b')
		master, other := w.couple(t, a, b)
		if err := master.HandOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if s, _ := other.Status(2); s.Role != RoleMaster {
			t.Errorf("after the hand-over the other is %v", s.Role)
		}
		w.leave(master)
		w.leave(other)
	})
}

// A leader without room on its disk refuses writes: another takes over, and
// commits with the arbitrator.
func TestFullLeaderGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		a, b := w.move('a'), w.move('b')
		master, other := w.couple(t, a, b)
		master.DiskSpace(true)
		time.Sleep(time.Second)
		if _, err := master.Propose(t.Context(), 2, []byte("no room")); err == nil {
			t.Error("a full host takes a write")
		}
		if _, err := other.Propose(t.Context(), 2, []byte("room")); err != nil {
			t.Errorf("the other host does not go on: %v", err)
		}
		other.DiskSpace(true)
		time.Sleep(time.Second)
		master.DiskSpace(false)
		other.DiskSpace(false)
		time.Sleep(time.Second)
		if got, want := master.list.list(), other.list.list(); !slices.Equal(got, want) {
			t.Errorf("with room again the one that was full has %v, the other %v", got, want)
		}
		w.leave(master)
		w.leave(other)
	})
}

// A full host takes no entries from others: without the arbitrator nobody could
// commit in its place, and readers keep the leader they have.
func TestFullLeaderStaysWithoutArbitrator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		a, b := w.move('a'), w.move('b')
		master, other := w.couple(t, a, b)
		w.deaf.Store(true)
		time.Sleep(time.Minute)
		master.DiskSpace(true)
		time.Sleep(time.Second)
		if err := master.Read(t.Context(), 2); err != nil {
			t.Errorf("read at a full leader: %v", err)
		}
		w.leave(master)
		w.leave(other)
	})
}

func TestAStateMachineThatFailsStopsItsGroupOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		a, b := w.move('a'), w.move('b')
		master, other := w.couple(t, a, b)
		master.list.mu.Lock()
		master.list.fail = errors.New("disk is on fire")
		master.list.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := master.Propose(ctx, 2, []byte("x")); !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("got %v, want %v", err, ErrUnknownOutcome)
		}
		time.Sleep(3 * time.Second)
		if s, _ := master.Status(2); s.Faulty == nil {
			t.Error("the failed group is not faulty")
		}
		if _, err := other.Propose(t.Context(), 2, []byte("y")); err != nil {
			t.Errorf("the other host does not go on: %v", err)
		}
		w.leave(master)
		w.leave(other)
	})
}

func TestRestartReplaysFromTheMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		a, b := w.move('a'), w.move('b')
		master, other := w.couple(t, a, b)
		for i := range 5 {
			if _, err := master.Propose(t.Context(), 2, fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		w.leave(other)
		other = w.start1(other.uuid, other.log.mem, other.list.shelf)
		master.Linked(other.uuid, LinkUp)
		stored, err := other.Stored()
		if err != nil || len(stored) != 1 || !stored[0].Formed || len(stored[0].Members) != 3 {
			t.Fatalf("stored %+v, %v", stored, err)
		}
		if err := other.Attach(t.Context(), 2, other.list); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if got, want := other.list.list(), master.list.list(); !slices.Equal(got, want) {
			t.Errorf("replayed %v, want %v", got, want)
		}
		if s, _ := other.Status(2); s.Role != RoleSlave {
			t.Errorf("after the restart it is %v, want slave", s.Role)
		}
		if err := other.Drop(t.Context(), 2); err != nil || !other.list.closed {
			t.Errorf("drop: %v, closed %v", err, other.list.closed)
		}
		w.leave(master)
		w.leave(other)
	})
}

// A host that died while it dropped a replica does not attach it again, but
// must still forget its log.
func TestDropWithoutAttach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		a, b := w.move('a'), w.move('b')
		_, other := w.couple(t, a, b)
		w.leave(other)
		other = w.start1(other.uuid, other.log.mem, other.list.shelf)
		if err := other.Drop(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		if stored, err := other.Stored(); err != nil || len(stored) != 0 {
			t.Errorf("the log still holds %+v, %v", stored, err)
		}
		if err := other.Drop(t.Context(), 2); err != nil {
			t.Errorf("dropping it again: %v", err)
		}
		w.leave(a)
		w.leave(b)
		w.leave(other)
	})
}
