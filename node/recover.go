package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/conf"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/mnode"
	"github.com/tarbitrator/tarbitrator/node/host"
)

// Recovery makes a stopped data host the only one of its cluster (R35), when the
// others are lost for good and it lacks what was written without it. It holds
// the data directory from OpenRecovery to Close.
//
// What is done, in this order, so that there are never two masters:
//
//  1. no other data host answers;
//  2. the arbitrator retires its replicas of every group here: whoever comes
//     back gets no vote;
//  3. the log is rewritten in one write: every group has this host as its only
//     member, under a new replica id, so that nothing which is said to the old
//     one is heard;
//  4. the record of this host says so, and refuses the directories that were
//     given up.
//
// A death after 2 leaves a cluster without a master; the tool is run again.
type Recovery struct {
	config conf.Config
	record *host.Record
	log    *wal.Log
	view   *mnode.View // as of the end of the log
	groups []consensus.Remains
	net    *peer.Net
	frames chan []peer.Message
	slog   *slog.Logger
}

// Loss is what is known about one group.
type Loss struct {
	Group    id.Group
	Database string
	Kept     id.Index // entries that this host has
	// Counted: the arbitrator has told how far it goes. Then Least and Most are
	// the entries that are lost for certain and at worst.
	Counted     bool
	Least, Most id.Index
	Why         string // why it could not be counted
}

// ErrNoArbitrator means that an arbitrator did not answer: it can still vote for
// a host that was given up.
var ErrNoArbitrator = errors.New("the arbitrator does not answer")

// OpenRecovery opens the data directory of a stopped host.
func OpenRecovery(config conf.Config, log *slog.Logger) (r *Recovery, err error) {
	r = &Recovery{config: config, slog: log, frames: make(chan []peer.Message, 16)}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.record, err = host.OpenRecord(config.DataDir); err != nil {
		return r, err
	}
	if why := r.record.OldCopy(); why != "" {
		return r, fmt.Errorf("this directory is an old copy (%s): it must not go on", why)
	}
	if r.record.Identity().Cluster == 0 {
		return r, errors.New("this host has never been in a cluster: there is nothing to recover")
	}
	fs, err := wal.DirFS(filepath.Join(config.DataDir, "wal"))
	if err != nil {
		return r, err
	}
	if r.log, err = wal.Open(fs, wal.Options{}); err != nil {
		return r, fmt.Errorf("open log: %w", err)
	}
	if err = r.record.Begin(r.log.Found()); err != nil {
		return r, err
	}
	if r.groups, err = consensus.ReadRemains(r.log); err != nil {
		return r, err
	}
	r.view, err = r.readView()
	return r, err
}

// Close gives the directory back.
func (r *Recovery) Close() error {
	var errs []error
	if r.log != nil {
		errs = append(errs, r.log.Close())
	}
	if r.record != nil {
		errs = append(errs, r.record.Close())
	}
	return errors.Join(errs...)
}

// readView returns the metadata with everything that the log holds of it.
func (r *Recovery) readView() (*mnode.View, error) {
	g, ok := r.remains(id.Mnode)
	if !ok {
		return nil, errors.New("this host holds no replica of the metadata, so it can't go on alone")
	}
	m, err := mnode.Open(filepath.Join(r.config.DataDir, "mnode"), g.Mark, r.slog)
	if err != nil {
		return nil, err
	}
	for next := m.Applied() + 1; next <= g.Last.Index; {
		stored, err := r.log.Entries(id.Mnode, max(next, g.Mark+1), g.Last.Index+1, 1<<20)
		if err != nil {
			return nil, fmt.Errorf("read metadata: %w", err)
		}
		var entries []consensus.Entry
		for _, e := range stored {
			if next = e.Index + 1; e.Type == 0 && len(e.Data) > 0 {
				entries = append(entries, consensus.Entry{Index: e.Index, Term: e.Term, Data: e.Data})
			}
		}
		if _, err := m.Apply(entries); err != nil {
			return nil, err
		}
	}
	return m.View(), nil
}

func (r *Recovery) remains(g id.Group) (consensus.Remains, bool) {
	i := slices.IndexFunc(r.groups, func(x consensus.Remains) bool { return x.Group == g })
	if i < 0 {
		return consensus.Remains{}, false
	}
	return r.groups[i], true
}

// judge refuses directories that were given up here (R35) and old copies (R42).
func (n *Node) judge(c id.Cluster, u id.UUID, o peer.Offer) error {
	if err := n.record.GivenUp(u); err != nil {
		return err
	}
	return n.sightings.Judge(c, u, o)
}

// Lost lists the data hosts that are to be given up.
func (r *Recovery) Lost() []mnode.Dnode {
	return slices.DeleteFunc(r.view.Live(), func(d mnode.Dnode) bool { return d.UUID == r.record.Identity().UUID })
}

// Dnode is this host's number.
func (r *Recovery) Dnode() id.Host { return r.record.Identity().Dnode }

// Connect makes connections to the arbitrators that vote here, until ctx ends,
// and refuses if one of the other data hosts answers. The caller waits for
// done.
func (r *Recovery) Connect(ctx context.Context) (done <-chan struct{}, err error) {
	who := r.record.Identity()
	r.net = peer.NewNet(peer.Config{
		UUID: who.UUID, Addr: r.config.EndPoint(), Offer: r.record.Offer(),
		OnFrame: func(_ peer.Remote, _ peer.Class, msgs []peer.Message) {
			select {
			case r.frames <- msgs:
			case <-ctx.Done():
			}
		},
	}, peer.Identity{Cluster: who.Cluster, Host: who.Dnode, Secret: peer.Secret(who.Secret)}, r.slog)
	var peers []peer.Peer
	for u := range r.witnesses() {
		if addr := r.addressOf(u); addr != "" {
			peers = append(peers, peer.Peer{UUID: u, Addrs: []string{addr}, Arbitrator: true, Enrolled: true})
		}
	}
	r.net.SetPeers(peers)
	l, err := net.Listen("tcp", r.config.Listen(r.config.ServerPort))
	if err != nil {
		return nil, fmt.Errorf("take this host's port (is tnode still running?): %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.net.Run(ctx, l) // it ends with ctx
	}()
	for _, d := range r.Lost() {
		if r.answers(ctx, d) {
			return ended, fmt.Errorf("dnode %d answers at %s: it is not lost; start this host, and see tnode status", d.ID, d.EndPoint)
		}
	}
	return ended, nil
}

// answerWithin is how long a host or an arbitrator may take to answer here.
const answerWithin = 3 * time.Second

// answers reports whether a data host's process is there.
func (r *Recovery) answers(ctx context.Context, d mnode.Dnode) bool {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	body, _ := json.Marshal(map[string]string{"end_point": r.config.EndPoint()}) // a map of strings always can be
	_, err := r.net.CallAddr(ctx, d.EndPoint, "cluster.lookup", body)
	var said *peer.CallError
	return err == nil || errors.As(err, &said)
}

// witnesses lists the arbitrators that vote in groups here, with their replicas.
func (r *Recovery) witnesses() map[id.UUID][]peer.Message {
	list := map[id.UUID][]peer.Message{}
	for _, g := range r.groups {
		for _, m := range g.Members {
			if m.Witness && !m.UUID.IsZero() {
				list[m.UUID] = append(list[m.UUID], peer.Message{Group: g.Group, To: m.Replica})
			}
		}
	}
	return list
}

// addressOf is where an arbitrator was last, empty if nobody knows.
func (r *Recovery) addressOf(u id.UUID) string {
	for _, a := range append([]mnode.Arbitrator{r.view.Arbitrator}, r.view.Former...) {
		if a.UUID == u {
			return a.EndPoint
		}
	}
	return ""
}

// witness names a replica of an arbitrator.
type witness struct {
	group   id.Group
	replica id.Replica
}

// ask sends one message of a kind for every replica of an arbitrator, and
// returns what it answers to each. An answer to an earlier question is none.
func (r *Recovery) ask(ctx context.Context, kind peer.Kind, answers func(peer.Message) bool) (map[witness]peer.Message, error) {
	got := map[witness]peer.Message{}
	want := 0
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	again := time.NewTicker(answerWithin / 10)
	defer again.Stop()
	for u, replicas := range r.witnesses() {
		want += len(replicas)
		for len(got) < want {
			var open []peer.Message
			for _, m := range replicas {
				if _, done := got[witness{m.Group, m.To}]; !done {
					m.Kind, m.Enroll = kind, &peer.Enroll{Witness: u}
					open = append(open, m)
				}
			}
			r.net.Send(u, peer.Beats, open) // repeated below until it is answered
			select {
			case <-again.C:
			case msgs := <-r.frames:
				for _, m := range msgs {
					if answers(m) {
						got[witness{m.Group, m.From}] = m
					}
				}
			case <-ctx.Done():
				return got, fmt.Errorf("%w at %s", ErrNoArbitrator, r.addressOf(u))
			}
		}
	}
	return got, nil
}

// Losses tells of every group what is kept and what may be lost. The error says
// why the arbitrator could not be asked.
func (r *Recovery) Losses(ctx context.Context) ([]Loss, error) {
	positions, err := r.ask(ctx, peer.KindPosition, func(m peer.Message) bool {
		return m.Kind == peer.KindPosition || m.Kind == peer.KindRefusal
	})
	var list []Loss
	for _, g := range r.groups {
		known, _ := r.view.Group(g.Group)
		l := Loss{Group: g.Group, Database: known.Database, Kept: g.Last.Index}
		l.count(g, positions)
		list = append(list, l)
	}
	return list, err
}

// count fills in what the arbitrator has told. While its replica is being
// replaced there are two, and both know the truth or less.
func (l *Loss) count(g consensus.Remains, positions map[witness]peer.Message) {
	l.Why = "the arbitrator has no part in it"
	for _, w := range g.Members {
		if !w.Witness {
			continue
		}
		switch m, told := positions[witness{g.Group, w.Replica}]; {
		case told && m.Kind == peer.KindPosition:
			least, most := g.Missing(wal.Position{Index: m.Index, Term: m.Term})
			l.Counted, l.Least, l.Most = true, max(l.Least, least), max(l.Most, most)
		case told:
			l.Why = "the arbitrator refuses: " + m.Refusal.String()
		default:
			l.Why = "the arbitrator does not answer"
		}
	}
}

// Fence has the arbitrator retire its replicas of every group here.
func (r *Recovery) Fence(ctx context.Context) error {
	// The only refusal of a retirement is that there is no room; the others are
	// late answers about positions.
	answers, err := r.ask(ctx, peer.KindRetire, func(m peer.Message) bool {
		return m.Kind == peer.KindRetired || m.Kind == peer.KindRefusal && m.Refusal == peer.Full
	})
	if err != nil {
		return err
	}
	for w, m := range answers {
		if m.Kind == peer.KindRefusal {
			return fmt.Errorf("the arbitrator does not retire its replica of group %d: %s", w.group, m.Refusal)
		}
	}
	return nil
}

// Rewrite makes this host the only member of its groups. What an interrupted run
// has begun is ended as it was begun.
func (r *Recovery) Rewrite(now time.Time) error {
	plan, begun := r.record.Recovery()
	if !begun || plan.Done {
		command, err := r.view.Survive(r.record.Identity().UUID)
		if err != nil {
			return err
		}
		plan = host.Recovery{At: now.UTC(), On: r.config.EndPoint(), Survivor: command.Survivor, Replicas: command.Replicas}
		for _, d := range r.Lost() {
			if !d.UUID.IsZero() {
				plan.GivenUp = append(plan.GivenUp, d.UUID)
			}
		}
		if err := r.record.BeginRecovery(plan); err != nil {
			return err
		}
	}
	if err := r.rewriteLog(plan); err != nil {
		return err
	}
	return r.record.EndRecovery()
}

// rewriteLog does to the log what the plan says, in one write, unless that is
// done.
func (r *Recovery) rewriteLog(plan host.Recovery) error {
	last, err := mnode.Envelope{
		At: plan.At, Command: mnode.Recover{Survivor: plan.Survivor, Replicas: plan.Replicas},
	}.Encode()
	if err != nil {
		return err
	}
	var ops []wal.Op
	for _, n := range plan.Replicas {
		g, ok := r.remains(n.Group)
		switch {
		case !ok:
			return fmt.Errorf("the log has lost the replica of group %d: it can't go on", n.Group)
		case g.Replica == n.To:
			continue // by the run that was interrupted
		case n.Group == id.Mnode:
			ops = append(ops, g.Only(n.To, r.record.Identity().UUID, last))
		default:
			ops = append(ops, g.Only(n.To, r.record.Identity().UUID))
		}
	}
	err = r.log.Append(ops)
	if err == nil {
		err = r.log.Flush()
	}
	if err == nil {
		err = r.log.Sync()
	}
	if err != nil {
		return fmt.Errorf("rewrite the log: %w", err)
	}
	return nil
}
