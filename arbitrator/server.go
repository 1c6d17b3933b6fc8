package arbitrator

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

const (
	// sightingsEvery is how often what hosts told is written down: the rhythm
	// of the pulse (R19).
	sightingsEvery = 5 * time.Second
	// generationEvery is how often all hosts are told the generation. Leaders
	// hear it with every answer, so it is for the others, and dear: to tell two
	// hosts costs 320 bytes on the wire with all headers.
	generationEvery = 15 * time.Second
)

// maxOutstanding is how many batches may wait for the disk before the machine
// takes no more: one that is being synced and one that gathers. Connections are
// held back meanwhile.
const maxOutstanding = 2

// Server gives a Machine a disk and a port. Its loop owns the machine and the
// store; a Writer syncs, all clusters' changes together; the carrier's
// goroutines only fill the intake.
type Server struct {
	addr    string
	store   *Store
	writer  *wal.Writer
	net     *peer.Net
	intake  *intake
	log     *slog.Logger
	started time.Time

	done   atomic.Uint64 // number of the last batch that is durable
	synced chan struct{} // capacity 1: done has changed
	full   atomic.Bool   // the disk has no space left
	asked  chan chan<- Status
	copied chan id.Cluster // a host says that this directory is an old copy; full: it will say so again

	// ---- owned by Run's loop ----
	machine *Machine
	number  uint64    // of the last batch
	pending []pending // batches that are not durable yet, oldest first
	seen    map[id.Cluster]time.Time
	told    uint64 // generation that all hosts were told
}

// pending is a batch on its way to the disk.
type pending struct {
	number uint64
	seq    uint64 // of the machine's Write in it, or of the last one before
	since  time.Time
}

// NewServer returns a server for a store that OpenStore returned, and the
// records that were in it. addr is where it listens, for status screens.
func NewServer(store *Store, records []Record, addr string, log *slog.Logger) *Server {
	s := &Server{
		addr: addr, store: store, log: log, started: time.Now(), intake: newIntake(),
		synced: make(chan struct{}, 1), asked: make(chan chan<- Status),
		copied: make(chan id.Cluster, 16), seen: make(map[id.Cluster]time.Time),
	}
	s.machine = NewMachine(DefaultConfig(), store.UUID(), store.Generation(), records)
	s.writer = wal.NewWriter(store.Log(), wal.WriterConfig{Log: log, Full: s.full.Store, Done: func(n uint64) {
		s.done.Store(n)
		select {
		case s.synced <- struct{}{}:
		default:
		}
	}})
	return s
}

// Run serves connections of l until ctx ends (the answer is nil) or the disk
// fails: then nobody knows what is on it, and the process must stop. It closes
// l and the store.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var nonce [8]byte
	rand.Read(nonce[:]) // never fails (crypto/rand, Go 1.24)
	if err := s.store.Begin(binary.LittleEndian.Uint64(nonce[:])); err != nil {
		l.Close()
		return errors.Join(fmt.Errorf("vote store: %w", err), s.store.Log().Close())
	}
	s.net = peer.NewNet(peer.Config{
		UUID: s.store.UUID(), Keys: s.store, // no Addr: hosts know best where they reach it
		Offer: s.store.Starts(), Judge: s.judge, OnSequence: s.store.Heard, OnRefusedAsCopy: s.refused,
		OnFrame: func(from peer.Remote, _ peer.Class, msgs []peer.Message) { s.intake.put(ctx, frame{from, msgs}) },
	}, peer.Identity{}, s.log)
	s.net.Handle("cluster.lookup", true, s.lookup)

	var wg sync.WaitGroup
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the loop, to sync the last batch
	defer stopWriting()
	var writeErr error
	written := make(chan struct{})
	go func() {
		defer close(written)
		writeErr = s.writer.Run(writing)
		stop(writeErr)
	}()
	carrying, stopCarrying := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the loop, to carry its last words
	defer stopCarrying()
	wg.Go(func() {
		if err := s.net.Run(carrying, l); ctx.Err() == nil {
			stop(err)
		}
	})
	s.loop(ctx)
	stopCarrying()
	wg.Wait()
	stopWriting()
	<-written
	if err := s.store.Log().Close(); err != nil && writeErr == nil {
		writeErr = fmt.Errorf("close vote store: %w", err)
	}
	if writeErr != nil {
		return fmt.Errorf("vote store: %w", writeErr)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// loop owns the machine: it hands it what came in and what became durable, and
// carries out what it answers.
func (s *Server) loop(ctx context.Context) {
	save, tell := time.NewTicker(sightingsEvery), time.NewTicker(generationEvery)
	defer func() {
		save.Stop()
		tell.Stop()
		s.saveSightings()
		s.tellGeneration() // a goodbye
	}()
	for ctx.Err() == nil {
		ready := s.intake.ready
		if len(s.pending) >= maxOutstanding {
			ready = nil
		}
		var events []Event
		select {
		case <-ctx.Done():
			return
		case answer := <-s.asked:
			answer <- s.status()
			continue
		case <-save.C:
			s.saveSightings()
			continue
		case <-tell.C:
			s.tellGeneration()
			continue
		case c := <-s.copied:
			events = append(events, RolledBack{Cluster: c})
		case <-s.synced:
			events = s.settle(events)
		case <-ready:
			if events = s.receive(events); len(events) == 0 {
				continue
			}
		}
		s.act(s.machine.Step(time.Since(s.started), events))
	}
}

// settle tells the machine what has become durable.
func (s *Server) settle(events []Event) []Event {
	done, seq := s.done.Load(), uint64(0)
	for len(s.pending) > 0 && s.pending[0].number <= done {
		seq = s.pending[0].seq
		s.pending = s.pending[1:]
	}
	if seq == 0 {
		return events
	}
	return append(events, Synced{Seq: seq})
}

// receive takes the frames that wait. A cluster is known from its first
// enrolment on: until then, nothing but enrolment is heard; afterwards, nobody
// without its secret.
func (s *Server) receive(events []Event) []Event {
	now := time.Now()
	for _, f := range s.intake.take() {
		secret, known := s.store.Secret(f.remote.Cluster)
		if !known {
			known = s.adopt(&f)
			secret = f.remote.Secret
		}
		if known && secret != f.remote.Secret {
			s.log.Warn("cluster introduced itself twice with different secrets", "cluster", uint64(f.remote.Cluster), "addr", f.remote.Addr)
			s.net.Close(f.remote)
			continue
		}
		if known {
			s.seen[f.remote.Cluster] = now
			if op, news := s.store.Note(f.remote); news {
				s.append([]wal.Op{op}, 0)
			}
		}
		events = append(events, Received{Cluster: f.remote.Cluster, From: f.remote.UUID, To: s.store.UUID(), Messages: f.messages})
	}
	return events
}

// adopt makes the cluster of f known if f enrols a replica here. The secret
// becomes durable before the record, and so before any answer.
func (s *Server) adopt(f *frame) bool {
	enrols := false
	for i := range f.messages {
		m := &f.messages[i]
		enrols = enrols || m.Kind == peer.KindEnroll && m.Enroll.Witness == s.store.UUID()
	}
	if !enrols {
		return false
	}
	op, ok := s.store.Adopt(f.remote.Cluster, f.remote.Secret)
	if !ok {
		s.log.Error("no room for another cluster", "cluster", uint64(f.remote.Cluster), "limit", maxClusters)
		f.messages = nil
		return false
	}
	s.append([]wal.Op{op}, 0)
	s.log.Info("cluster enrolled", "cluster", uint64(f.remote.Cluster), "host", uint32(f.remote.Host), "addr", f.remote.Addr)
	return true
}

// judge is a peer.Config's Judge.
func (s *Server) judge(c id.Cluster, u id.UUID, o peer.Offer) error {
	news, err := s.store.Judge(c, u, o)
	if news {
		s.log.Error("a host's data directory is refused: what it offers does not continue what was seen of it",
			"cluster", uint64(c), "host", u, "err", err)
	}
	return err
}

// refused is a peer.Config's OnRefusedAsCopy.
func (s *Server) refused(by peer.Remote, why string) {
	s.log.Debug("a host refuses this directory", "cluster", uint64(by.Cluster), "host", uint32(by.Host), "why", why)
	select {
	case s.copied <- by.Cluster:
	default:
	}
}

// tellGeneration tells the hosts how far this directory has come, if that is
// news (R30).
func (s *Server) tellGeneration() {
	if g := s.machine.Generation(); g > s.told {
		s.told = g
		s.net.TellSequence(g)
	}
}

// saveSightings makes durable what no other write has taken along.
func (s *Server) saveSightings() {
	if ops := s.store.Sightings(); len(ops) > 0 {
		s.append(ops, 0)
	}
}

// append sends a batch to the disk. seq is that of the Write in it; zero: none.
func (s *Server) append(ops []wal.Op, seq uint64) {
	s.number++
	if seq == 0 && len(s.pending) > 0 {
		seq = s.pending[len(s.pending)-1].seq
	}
	s.pending = append(s.pending, pending{s.number, seq, time.Now()})
	s.writer.Append(s.number, ops)
}

// act carries out the machine's effects.
func (s *Server) act(effects []Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case Write:
			s.append(append(s.store.Ops(e), s.store.Sightings()...), e.Seq)
		case Send:
			// A frame that finds no room is lost; the hosts repeat themselves.
			s.net.SendTo(e.Cluster, e.To, peer.Beats, e.Messages)
		case Report:
			if e.Bad {
				s.log.Error(e.What, e.Args...)
			} else {
				s.log.Info(e.What, e.Args...)
			}
		}
	}
}

// lookupRequest and lookupReply are the call cluster.lookup: does somebody know
// a cluster that has a host with this end point?
type lookupRequest struct {
	EndPoint string `json:"end_point"`
}

type lookupReply struct {
	Known   bool       `json:"known"`
	Cluster id.Cluster `json:"cluster,string"`
	Dnode   id.Host    `json:"dnode"`
	Witness string     `json:"witness"`
	Others  []string   `json:"others,omitempty"` // end points of the cluster's other hosts
}

// lookup answers a host that wonders whether to found a cluster. It needs no
// secret: who asks knows the end point already.
func (s *Server) lookup(_ context.Context, _ id.UUID, req []byte) ([]byte, error) {
	var q lookupRequest
	if err := json.Unmarshal(req, &q); err != nil {
		return nil, fmt.Errorf("read cluster.lookup: %w", err)
	}
	r := lookupReply{Witness: s.store.UUID().String()}
	r.Cluster, r.Dnode, r.Others, r.Known = s.store.Lookup(q.EndPoint)
	return json.Marshal(r)
}
