package arbitrator

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/internal/wal/waltest"
)

// running is a server under test.
type running struct {
	*Server
	addr string
	stop func() error
}

func serve(t *testing.T, fs wal.FS) *running {
	t.Helper()
	store, err := OpenStore(fs, wal.Options{SegmentBytes: 64 << 10, CacheBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	records := store.Records()
	s := NewServer(store, records, l.Addr().String(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	r := &running{Server: s, addr: l.Addr().String()}
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = r.stop() })
	return r
}

// client is a host that speaks to an arbitrator.
type client struct {
	*peer.Net
	witness id.UUID
	answers chan peer.Message
}

func connect(t *testing.T, addr string, witness id.UUID, self peer.Identity) *client {
	t.Helper()
	c := &client{witness: witness, answers: make(chan peer.Message, 100)}
	up := make(chan struct{}, 100)
	c.Net = peer.NewNet(peer.Config{
		UUID: id.UUID{byte(self.Host)}, Addr: "host:6030",
		OnFrame: func(_ peer.Remote, _ peer.Class, msgs []peer.Message) {
			for _, m := range msgs {
				c.answers <- m
			}
		},
		OnLink: func(_ peer.Remote, s peer.LinkState) {
			if s == peer.LinkUp {
				up <- struct{}{}
			}
		},
	}, self, slog.New(slog.DiscardHandler))
	c.SetPeers([]peer.Peer{{UUID: witness, Addrs: []string{addr}, Arbitrator: true}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx, l)
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-up:
	case <-time.After(20 * time.Second):
		t.Fatalf("no link to the arbitrator: %+v", c.Links())
	}
	return c
}

// ask sends a message and waits for its answer.
func (c *client) ask(t *testing.T, m peer.Message) peer.Message {
	t.Helper()
	if !c.Send(c.witness, peer.Beats, []peer.Message{m}) {
		t.Fatal("not connected")
	}
	select {
	case a := <-c.answers:
		return a
	case <-time.After(20 * time.Second):
		t.Fatalf("no answer to %+v", m)
		return peer.Message{}
	}
}

func (c *client) enroll(t *testing.T, g id.Group, r id.Replica) peer.Message {
	t.Helper()
	return c.ask(t, peer.Message{Kind: peer.KindEnroll, Group: g, To: r, Enroll: &peer.Enroll{Witness: c.witness}})
}

func (c *client) vote(t *testing.T, g id.Group, from, to id.Replica, term uint64) peer.Message {
	t.Helper()
	return c.ask(t, peer.Message{Kind: peer.KindRaft, Group: g, From: from, To: to, Raft: &raftpb.Message{
		Type: raftpb.MsgVote.Enum(), From: new(uint64(from)), To: new(uint64(to)), Term: &term,
		Index: new(uint64(1)), LogTerm: new(uint64(1)),
	}})
}

func status(t *testing.T, s *Server) Status {
	t.Helper()
	rec := httptest.NewRecorder()
	s.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/status", nil))
	var st Status
	if err := json.NewDecoder(rec.Body).Decode(&st); err != nil {
		t.Fatal(err)
	}
	return st
}

var hostOne = peer.Identity{Cluster: tale, Host: 1, Secret: peer.Secret{42}}

// A cluster enrols, votes, and finds its vote again after the arbitrator has
// lost power; a thief of the cluster's number does not get in.
func TestServerRemembers(t *testing.T) {
	disk := waltest.NewDisk(1)
	s := serve(t, disk)
	uuid := s.store.UUID()
	a := connect(t, s.addr, uuid, hostOne)
	if got := a.vote(t, 7, 1, 3, 2); got.Kind != peer.KindRefusal || got.Refusal != peer.UnknownGroup {
		t.Errorf("vote before enrolment: %+v", got)
	}
	if _, known := s.store.Secret(tale); known {
		t.Error("a cluster is known before it has enrolled")
	}
	if got := a.enroll(t, 7, 3); got.Kind != peer.KindEnrolled {
		t.Fatalf("enrol: %+v", got)
	}
	if got := a.vote(t, 7, 1, 3, 2); got.Raft.GetType() != raftpb.MsgVoteResp || got.Raft.GetReject() {
		t.Fatalf("vote: %+v", got)
	}
	st := status(t, s.Server)
	if st.Identity != uuid.String() || st.Disk != "ok" || len(st.Clusters) != 1 || st.Clusters[0].Replicas != 1 ||
		len(st.Clusters[0].Hosts) != 1 || !st.Clusters[0].Hosts[0].Connected || st.Clusters[0].Hosts[0].EndPoint != "host:6030" {
		t.Errorf("status: %+v", st)
	}
	disk.PowerOff()
	if err := s.stop(); err == nil {
		t.Error("a server whose disk is gone stops without an error")
	}

	s = serve(t, disk)
	if s.store.UUID() != uuid || s.store.Generation() == 0 {
		t.Fatalf("after the power cut: uuid %v, generation %d", s.store.UUID(), s.store.Generation())
	}
	b := connect(t, s.addr, uuid, peer.Identity{Cluster: tale, Host: 2, Secret: peer.Secret{42}})
	if got := b.vote(t, 7, 2, 3, 2); !got.Raft.GetReject() {
		t.Errorf("a second vote in one term: %+v", got)
	}
	if c, host, _, ok := s.store.Lookup("host:6030"); !ok || c != tale || host == 0 {
		t.Errorf("lookup: %v %v %v", c, host, ok)
	}
}

// A guest may ask which cluster an end point belongs to.
func TestLookup(t *testing.T) {
	s := serve(t, waltest.NewDisk(2))
	a := connect(t, s.addr, s.store.UUID(), hostOne)
	a.enroll(t, 7, 3)
	guest := peer.NewNet(peer.Config{UUID: id.UUID{7}}, peer.Identity{}, slog.New(slog.DiscardHandler))
	for addr, want := range map[string]lookupReply{
		"host:6030": {Known: true, Cluster: tale, Dnode: 1, Witness: s.store.UUID().String()},
		"else:6030": {Witness: s.store.UUID().String()},
	} {
		req, _ := json.Marshal(lookupRequest{addr})
		body, err := guest.CallAddr(t.Context(), s.addr, "cluster.lookup", req)
		var got lookupReply
		if err := errors.Join(err, json.Unmarshal(body, &got)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("lookup of %s: %s, %v", addr, body, err)
		}
	}
}

// A host that asks about its own end point is told where the others are: they
// can let it in again.
func TestLookupNamesTheOthers(t *testing.T) {
	s := serve(t, waltest.NewDisk(2))
	a := connect(t, s.addr, s.store.UUID(), hostOne)
	a.enroll(t, 7, 3)
	for host, addr := range map[id.Host]string{1: "host:6030", 2: "other:6030", 3: "third:6030"} {
		s.store.Note(peer.Remote{Cluster: tale, Host: host, UUID: id.UUID{byte(host)}, Addr: addr})
	}
	c, host, others, ok := s.store.Lookup("other:6030")
	if want := []string{"host:6030", "third:6030"}; !ok || c != tale || host != 2 || !slices.Equal(others, want) {
		t.Errorf("got cluster %v, dnode %d, others %v, %v, want %v", c, host, others, ok, want)
	}
}

// Two that claim the same cluster number: the first to enrol has it.
func TestFirstEnrolmentCounts(t *testing.T) {
	s := serve(t, waltest.NewDisk(3))
	a := connect(t, s.addr, s.store.UUID(), hostOne)
	thief := connect(t, s.addr, s.store.UUID(), peer.Identity{Cluster: tale, Host: 2, Secret: peer.Secret{1}})
	if got := a.enroll(t, 7, 3); got.Kind != peer.KindEnrolled {
		t.Fatalf("enrol: %+v", got)
	}
	thief.Send(thief.witness, peer.Beats, []peer.Message{{Kind: peer.KindPing}})
	if got := a.ask(t, peer.Message{Kind: peer.KindPing}); got.Kind != peer.KindPong {
		t.Errorf("ping: %+v", got)
	}
	select {
	case m := <-thief.answers:
		t.Errorf("the thief was answered: %+v", m)
	default:
	}
}

// A full disk stops no votes: the log has a reserve for them.
func TestDiskFull(t *testing.T) {
	disk := waltest.NewDisk(4)
	s := serve(t, disk)
	a := connect(t, s.addr, s.store.UUID(), hostOne)
	a.enroll(t, 7, 3)
	disk.SetCapacity(disk.Used())
	for term := range uint64(3000) {
		if got := a.vote(t, 7, 1, 3, term+2); got.Raft.GetReject() {
			t.Fatalf("vote of term %d: %+v", term+2, got)
		}
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

// A failed sync stops the process: nobody knows what is on the disk.
func TestFailedSync(t *testing.T) {
	disk := waltest.NewDisk(5)
	s := serve(t, disk)
	a := connect(t, s.addr, s.store.UUID(), hostOne)
	a.enroll(t, 7, 3)
	disk.FailSyncs(1)
	a.Send(a.witness, peer.Beats, []peer.Message{{Kind: peer.KindEnroll, Group: 8, To: 3, Enroll: &peer.Enroll{Witness: a.witness}}})
	if err := s.stop(); err == nil || !strings.Contains(err.Error(), "vote store") {
		// The batch may not have reached the disk before the stop: then the last one has failed.
		t.Errorf("after a failed sync: %v", err)
	}
}

func TestMetrics(t *testing.T) {
	s := serve(t, waltest.NewDisk(6))
	rec := httptest.NewRecorder()
	s.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	body, _ := io.ReadAll(rec.Body)
	for _, want := range []string{"# HELP tarbitrator_clusters ", "# TYPE tarbitrator_feeds_total counter\ntarbitrator_feeds_total 0\n", "tarbitrator_disk_ok 1\n"} {
		if !strings.Contains(string(body), want) {
			t.Errorf("metrics lack %q:\n%s", want, body)
		}
	}
	rec = httptest.NewRecorder()
	s.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/healthz", nil))
	if rec.Code != 200 {
		t.Errorf("healthz: %d", rec.Code)
	}
}

// A cluster that floods waits for itself; others pass it by.
func TestIntakeIsFair(t *testing.T) {
	in := newIntake()
	flood := frame{peer.Remote{Cluster: 1}, make([]peer.Message, 600)}
	frames := 0
	for in.offer(flood) == nil {
		if frames++; frames > maxFrames {
			t.Fatal("a cluster may queue without end")
		}
	}
	in.put(t.Context(), frame{peer.Remote{Cluster: 2}, make([]peer.Message, 1)})
	count := map[id.Cluster]int{}
	for _, f := range in.take() {
		count[f.remote.Cluster] += len(f.messages)
	}
	if count[1] != maxMessages || count[2] != 1 {
		t.Errorf("one step takes %v", count)
	}
	total := count[1]
	for range maxFrames {
		for _, f := range in.take() {
			total += len(f.messages)
		}
	}
	if total != frames*600 || len(in.mu.queues) != 0 {
		t.Errorf("%d messages came through, %d queues are left", total, len(in.mu.queues))
	}
}
