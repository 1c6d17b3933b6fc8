package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/pprof"

	"golang.org/x/sync/errgroup"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// stack is one data host without a database: log, carrier, consensus.
type stack struct {
	host   *consensus.Host
	net    *peer.Net
	cancel context.CancelFunc
	run    *errgroup.Group
}

func newStack(ctx context.Context, dir string, self id.UUID, port string, other id.UUID, otherPort string, witness id.UUID) (*stack, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	fs, err := wal.DirFS(dir)
	if err != nil {
		return nil, err
	}
	log, err := wal.Open(fs, wal.Options{})
	if err != nil {
		return nil, err
	}
	s := &stack{}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	writer := wal.NewWriter(log, wal.WriterConfig{
		Done: func(seq uint64) { s.host.Durable(seq) },
		Full: func(full bool) { s.host.DiskSpace(full) },
		Log:  logger,
	})
	s.net = peer.NewNet(peer.Config{
		UUID: self, Addr: addr(port),
		OnFrame: func(from peer.Remote, class peer.Class, msgs []peer.Message) { s.host.Receive(from.UUID, class, msgs) },
		OnLink: func(r peer.Remote, state peer.LinkState) {
			s.host.Linked(r.UUID, consensus.LinkState(state))
		},
	}, identity, logger)
	s.host = consensus.New(consensus.DefaultConfig(), self, consensus.Log{LogReader: log, Appender: writer}, s.net, logger)
	s.net.SetPeers([]peer.Peer{
		{UUID: other, Addrs: []string{addr(otherPort)}},
		{UUID: witness, Addrs: []string{addr(arbitratorPort)}, Arbitrator: true},
	})
	l, err := net.Listen("tcp", addr(port))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	ctx, s.cancel = context.WithCancel(ctx)
	s.run, ctx = errgroup.WithContext(ctx)
	s.run.Go(func() error { return writer.Run(ctx) })
	s.run.Go(func() error { return s.net.Run(ctx, l) })
	s.run.Go(func() error { return s.host.Run(ctx) })
	return s, nil
}

func (s *stack) stop() {
	s.cancel()
	_ = s.run.Wait() // it was told to end
}

// nothing is a state machine that keeps nothing. Its checkpoint stays where the
// log starts, so that the log is kept whole.
type nothing struct {
	consensus.Snapshotter // never called: no host stays away
	results               []any
}

func newNothing() *nothing { return &nothing{} }

func (n *nothing) Apply(entries []consensus.Entry) ([]any, error) {
	if len(n.results) < len(entries) {
		n.results = make([]any, 2*len(entries))
	}
	return n.results[:len(entries)], nil
}

func (n *nothing) Checkpoint(context.Context) (id.Index, error) { return 1, nil }
func (n *nothing) LeaderChanged(id.Term, id.UUID, bool)         {}
func (n *nothing) Close() error                                 { return nil }

func startProfile() (stop func()) {
	if *profile == "" {
		return func() {}
	}
	f, err := os.Create(*profile)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return func() {}
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return func() { pprof.StopCPUProfile(); f.Close() }
}
