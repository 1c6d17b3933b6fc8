package consensus

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// shelf is the disk of a listMachine: checkpoints, and copies on their way in.
type shelf struct {
	mu       sync.Mutex
	saved    map[id.Index][]string
	copied   *listCopy // the one that is received, or finished
	wrote    int       // pieces, all in all
	installs int
	open1    atomic.Int64 // snapshots that are open
	spoil    int          // so many copies turn out to be damaged

	// step, if not nil, is called before each act on a copy.
	step func(act string) error
}

func newShelf() *shelf { return &shelf{saved: map[id.Index][]string{}} }

func (s *shelf) save(at id.Index, list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved[at] = slices.Clone(list)
}

func (s *shelf) before(act string) error {
	s.mu.Lock()
	step := s.step
	s.mu.Unlock()
	if step == nil {
		return nil
	}
	return step(act)
}

// open is what a state machine does at start: it takes the finished copy that
// the log's mark names, or the checkpoint.
func (s *shelf) open(log *memLog) *listMachine {
	m := &listMachine{shelf: s}
	for _, g := range log.Groups() {
		state, ok := s.saved[g.Mark]
		if c := s.copied; c != nil && c.finished && c.index == g.Mark {
			state, ok = c.list, true
		}
		if ok {
			m.applied, m.index = slices.Clone(state), g.Mark
		}
	}
	return m
}

// Snapshot implements Snapshotter: every entry is a piece.
func (m *listMachine) Snapshot() (Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.shelf.before("snapshot"); err != nil {
		return nil, err
	}
	m.shelf.open1.Add(1)
	return &listSnapshot{m: m, list: slices.Clone(m.applied), index: m.index}, nil
}

type listSnapshot struct {
	m     *listMachine
	list  []string
	index id.Index
}

func (s *listSnapshot) Index() id.Index { return s.index }
func (s *listSnapshot) Bytes() uint64   { return uint64(len(strings.Join(s.list, ""))) }
func (s *listSnapshot) Close() error    { s.m.shelf.open1.Add(-1); return nil }

func (s *listSnapshot) Read(after []byte) (piece, next []byte, err error) {
	at := 0
	if after != nil {
		if at, err = strconv.Atoi(string(after)); err != nil {
			return nil, nil, err
		}
	}
	if at == len(s.list) {
		return nil, nil, io.EOF
	}
	if err := s.m.shelf.before("read"); err != nil {
		return nil, nil, err
	}
	return []byte(s.list[at]), fmt.Append(nil, at+1), nil
}

func (s *listSnapshot) Digest(context.Context) ([]byte, error) { return digestOf(s.list), nil }

func digestOf(list []string) []byte {
	sum := sha256.Sum256([]byte(strings.Join(list, "\n")))
	return sum[:]
}

// listCopy is a copy on a shelf.
type listCopy struct {
	s        *shelf
	snapshot SnapshotID
	index    id.Index
	list     []string
	finished bool
}

// Receive implements Snapshotter.
func (m *listMachine) Receive(snapshot SnapshotID, index id.Index) (Copy, error) {
	s := m.shelf
	if err := s.before("receive"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.copied; c == nil || c.snapshot != snapshot {
		s.copied = &listCopy{s: s, snapshot: snapshot, index: index}
	}
	return s.copied, nil
}

func (c *listCopy) After() []byte {
	if len(c.list) == 0 {
		return nil
	}
	return fmt.Append(nil, len(c.list))
}

func (c *listCopy) Write(piece, next []byte) error {
	if err := c.s.before("write"); err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.wrote++
	c.list = append(c.list, string(piece))
	if string(next) != strconv.Itoa(len(c.list)) {
		return fmt.Errorf("piece %s is number %d", next, len(c.list))
	}
	return nil
}

func (c *listCopy) Finish(_ context.Context, digest []byte) error {
	if err := c.s.before("finish"); err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	damaged := c.s.spoil > 0
	if damaged {
		c.s.spoil--
	}
	if damaged || !slices.Equal(digest, digestOf(c.list)) {
		c.s.copied = nil
		return errors.New("the digests differ")
	}
	c.finished = true
	return nil
}

func (c *listCopy) Close() error { return nil }

// Install implements Snapshotter.
func (m *listMachine) Install(index id.Index) error {
	s := m.shelf
	if err := s.before("install"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.copied == nil || !s.copied.finished || s.copied.index != index {
		return fmt.Errorf("no finished copy of %d", index)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied, m.index = slices.Clone(s.copied.list), index
	s.installs++
	return nil
}

// Call implements Carrier.
func (r *resident) Call(ctx context.Context, to id.UUID, method string, req []byte) ([]byte, error) {
	r.town.mu.Lock()
	h := r.town.hosts[to]
	r.town.mu.Unlock()
	if h == nil {
		return nil, peer.ErrUnreachable
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := make(chan outcome, 1)
	go func() { // until ctx ends
		b, err := h.Methods()[method](ctx, r.uuid, req)
		out <- outcome{b, err}
	}()
	select {
	case o := <-out:
		return o.result.([]byte), o.err
	case <-h.done:
		return nil, peer.ErrBroken
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// again starts a host that has left.
func (w *town) again(t *testing.T, r *resident) *resident {
	t.Helper()
	n := w.start1(r.uuid, r.log.mem, r.list.shelf)
	w.mu.Lock()
	var others []*resident
	for _, h := range w.hosts {
		if h != n {
			others = append(others, h)
		}
	}
	w.mu.Unlock()
	for _, h := range others {
		h.Linked(n.uuid, LinkUp)
		n.Linked(h.uuid, LinkUp)
	}
	if err := n.Attach(t.Context(), 2, n.list); err != nil {
		t.Fatal(err)
	}
	return n
}

// lag makes a pair of hosts, of which the second is away and so far behind that
// the first has cut its log.
func (w *town) lag(t *testing.T, entries int) (master, other *resident) {
	t.Helper()
	w.conf.KeepForReplicaBytes = 500 // five entries of a memLog
	a, b := w.move('a'), w.move('b')
	master, other = w.couple(t, a, b)
	w.leave(other)
	for i := range entries {
		if _, err := master.Propose(t.Context(), 2, fmt.Append(nil, "value ", i)); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * checkpointEvery)
	if start := master.log.Groups()[0].Start.Index; start < id.Index(entries/2) {
		t.Fatalf("the log begins after %d: no copy is needed", start)
	}
	return master, other
}

func (w *town) end(t *testing.T, hosts ...*resident) {
	t.Helper()
	for _, h := range hosts {
		w.leave(h)
		if n := h.list.shelf.open1.Load(); n != 0 {
			t.Errorf("%d snapshots were left open", n)
		}
	}
}

// within waits until c is closed.
func within(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatal("no copy within a minute")
	}
}

func sameLists(t *testing.T, a, b *resident) {
	t.Helper()
	if x, y := a.list.list(), b.list.list(); !slices.Equal(x, y) {
		t.Errorf("%d values on one host, %d on the other", len(x), len(y))
	}
}

func TestCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		master, other := w.lag(t, 100)
		other = w.again(t, other)
		time.Sleep(3 * time.Second)
		sameLists(t, master, other)
		if s := other.list.shelf; s.installs != 1 || s.wrote != 100 {
			t.Errorf("%d copies of %d pieces, want one of 100", s.installs, s.wrote)
		}
		if _, err := master.Propose(t.Context(), 2, []byte("after it")); err != nil {
			t.Fatal(err)
		}
		w.leave(master) // and the copy leads, with the arbitrator's vote
		time.Sleep(time.Second)
		if _, err := other.Propose(t.Context(), 2, []byte("alone")); err != nil {
			t.Errorf("the host with the copy does not go on: %v", err)
		}
		if n := len(other.list.list()); n != 102 {
			t.Errorf("it holds %d values, want 102", n)
		}
		w.end(t, other)
		w.end(t)
	})
}

// A process that ends anywhere in a copy leaves one whole state behind, and goes
// on where it was.
func TestCopyIsResumed(t *testing.T) {
	for _, at := range []struct {
		act string
		n   int // the how manieth
	}{{"receive", 1}, {"write", 1}, {"write", 50}, {"write", 100}, {"finish", 1}, {"install", 1}} {
		t.Run(fmt.Sprintf("%s %d", at.act, at.n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTown()
				master, other := w.lag(t, 100)
				s := other.list.shelf
				reached := make(chan struct{})
				n := 0
				s.step = func(act string) error { // from here on nothing happens on this disk
					if act == at.act {
						n++
					}
					if n == at.n {
						close(reached)
					}
					if n >= at.n {
						return errors.New("the process is gone")
					}
					return nil
				}
				other = w.again(t, other)
				within(t, reached)
				w.leave(other)
				s.step = nil
				other = w.again(t, other)
				time.Sleep(5 * time.Second)
				sameLists(t, master, other)
				if s.wrote != 100 {
					t.Errorf("%d pieces were written, want each of 100 once", s.wrote)
				}
				w.end(t, master, other)
			})
		})
	}
}

// The other side dies: its snapshot is gone, and the copy begins again.
func TestCopyFromADyingHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		master, other := w.lag(t, 100)
		reached := make(chan struct{})
		n := 0
		other.list.shelf.step = func(act string) error {
			if n++; n == 50 {
				close(reached)
				time.Sleep(time.Second)
			}
			return nil
		}
		other = w.again(t, other)
		within(t, reached)
		w.leave(master)
		time.Sleep(3 * time.Second)
		if s, _ := other.Status(2); s.Role == RoleMaster {
			t.Error("a host that lacks what was acknowledged leads")
		}
		master = w.again(t, master)
		time.Sleep(20 * time.Second)
		sameLists(t, master, other)
		w.end(t, master, other)
	})
}

// However long it takes to check a copy, the log behind it stays.
func TestLogStaysWhileACopyIsFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		master, other := w.lag(t, 100)
		other.list.shelf.step = func(act string) error {
			if act == "finish" {
				time.Sleep(5 * readIdle)
			}
			return nil
		}
		other = w.again(t, other)
		for range 50 {
			time.Sleep(5 * time.Second)
			if _, err := master.Propose(t.Context(), 2, []byte("meanwhile")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * readIdle)
		sameLists(t, master, other)
		if s := other.list.shelf; s.installs != 1 {
			t.Errorf("%d copies, want one", s.installs)
		}
		w.end(t, master, other)
	})
}

// A damaged copy is thrown away.
func TestDamagedCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		master, other := w.lag(t, 100)
		other.list.shelf.spoil = 2
		other = w.again(t, other)
		time.Sleep(20 * time.Second)
		sameLists(t, master, other)
		if s := other.list.shelf; s.wrote != 300 || s.installs != 1 {
			t.Errorf("%d pieces, %d installed, want 300 and 1", s.wrote, s.installs)
		}
		w.end(t, master, other)
	})
}

// While a copy is under way both sides say how far it is; dropping the replica
// ends it at once.
func TestCopyIsSeenAndDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		master, other := w.lag(t, 100)
		master.list.shelf.step = func(act string) error {
			if act == "read" {
				time.Sleep(100 * time.Millisecond)
			}
			return nil
		}
		other = w.again(t, other)
		time.Sleep(5 * time.Second)
		for _, h := range []*resident{master, other} {
			st, _ := h.Status(2)
			if m := st.Members[1]; other.uuid == m.UUID && (m.CopyBytes == 0 || h == master && m.CopyDone == 0) {
				t.Errorf("the copy is not seen: %+v", m)
			}
		}
		if err := other.Drop(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if st, _ := other.Status(2); len(st.Members) > 0 {
			t.Errorf("after the drop there is %+v", st)
		}
		w.end(t, other)
		for range 3 { // nobody reads, so the log is let go
			time.Sleep(readIdle)
			if _, err := master.Propose(t.Context(), 2, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		if n := master.list.shelf.open1.Load(); n != 0 {
			t.Errorf("%d snapshots are still open", n)
		}
		g := master.log.Groups()[0]
		if g.Start.Index+6 < g.Mark {
			t.Errorf("the log is kept from %d on, with its mark at %d", g.Start.Index+1, g.Mark)
		}
		w.end(t, master)
	})
}

// A group that the machine has stopped lets nobody wait.
func TestHaltAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		a, b := w.move('a'), w.move('b')
		master, other := w.couple(t, a, b)
		out := make(chan outcome, 1)
		master.replica(2).expectApplied(1000, out)
		master.inbox.put(Failed{Group: 2, Err: errors.New("out of order")})
		if o := <-out; !errors.Is(o.err, ErrStopped) {
			t.Errorf("got %v, want %v", o.err, ErrStopped)
		}
		w.end(t, master, other)
	})
}

// TestCopyBodiesGolden compares the wire form of each body with the one that
// other versions of this program were built with.
func TestCopyBodiesGolden(t *testing.T) {
	g := group{members: map[id.Replica]Member{1: {Replica: 1, UUID: id.UUID{1}}, 2: {Replica: 2, UUID: id.UUID{2}, Witness: true}}, confIndex: 3}
	g.setConf(confOf(1, 2))
	var got strings.Builder
	for _, body := range []struct {
		name  string
		bytes []byte
	}{
		{"open", openCopy{group: 2, above: 70}.encode()},
		{"opened", openedCopy{snapshot: SnapshotID{1, 2}, image: Image{Index: 900, Term: 2, Record: g.encodeConf(nil, g.conf)}, bytes: 1000}.encode()},
		{"at", atCopy{group: 2, snapshot: SnapshotID{7}, after: []byte("key")}.encode()},
		{"pieces", pieces{list: []piece{{[]byte("abc"), []byte("k")}, {nil, []byte("l")}}}.encode()},
		{"last pieces", pieces{list: []piece{{[]byte("abc"), []byte("k")}}, end: true}.encode()},
	} {
		fmt.Fprintf(&got, "%s %x\n", body.name, body.bytes)
	}
	want, err := os.ReadFile("testdata/copy.golden")
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

// FuzzCopyBodies: what a decoder takes is what encodes to the same bytes, and it
// panics at nothing.
func FuzzCopyBodies(f *testing.F) {
	g := group{members: map[id.Replica]Member{1: {Replica: 1, UUID: id.UUID{1}}}, confIndex: 3}
	g.setConf(confOf(1))
	f.Add(openCopy{group: 2, above: 70}.encode())
	f.Add(openedCopy{snapshot: SnapshotID{1}, image: Image{Index: 9, Term: 2, Record: g.encodeConf(nil, g.conf)}, bytes: 100}.encode())
	f.Add(atCopy{group: 2, snapshot: SnapshotID{7}, after: []byte("k")}.encode())
	f.Add(pieces{list: []piece{{[]byte("abc"), []byte("k")}}, end: true}.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := decodeOpenCopy(b); err == nil {
			if again, err := decodeOpenCopy(o.encode()); err != nil || again != o {
				t.Errorf("%+v became %+v, %v", o, again, err)
			}
		}
		if o, err := decodeOpenedCopy(b); err == nil {
			again, err := decodeOpenedCopy(o.encode())
			if err != nil || again.snapshot != o.snapshot || again.image.Index != o.image.Index || string(again.image.Record) != string(o.image.Record) {
				t.Errorf("%+v became %+v, %v", o, again, err)
			}
		}
		if a, err := decodeAtCopy(b); err == nil {
			if again, err := decodeAtCopy(a.encode()); err != nil || string(again.after) != string(a.after) {
				t.Errorf("%+v became %+v, %v", a, again, err)
			}
		}
		if p, err := decodePieces(b); err == nil {
			again, err := decodePieces(p.encode())
			if err != nil || len(again.list) != len(p.list) || again.end != p.end {
				t.Errorf("%d pieces became %d, %v", len(p.list), len(again.list), err)
			}
		}
	})
}

func confOf(voters ...uint64) *raftpb.ConfState { return &raftpb.ConfState{Voters: voters} }
