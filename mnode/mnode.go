package mnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Mnode is this host's replica of the metadata: a consensus.StateMachine that
// publishes each state as a View. Apply and Install are called by one goroutine
// at a time; everything else may be called by any.
type Mnode struct {
	dir   string
	log   *slog.Logger
	view  atomic.Pointer[View]
	saved atomic.Uint64 // index of the View in the file

	mu struct {
		sync.Mutex
		changed chan struct{} // closed at the next change of View or leadership
		leads   bool
		term    id.Term
		leader  id.UUID
	}
}

var _ consensus.StateMachine = (*Mnode)(nil)

// Open reads the last checkpoint in dir, which it makes if there is none, or the
// copy of another replica's state that has taken its place. mark is what the log
// says is durable here (consensus.Stored.Mark), zero for a new replica. What was
// applied after it comes again through Apply.
func Open(dir string, mark id.Index, log *slog.Logger) (*Mnode, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open metadata: %w", err)
	}
	m := &Mnode{dir: dir, log: log}
	v, err := load(dir)
	if err != nil {
		return nil, err
	}
	named, err := m.settle(v.Index, mark)
	if err != nil {
		return nil, fmt.Errorf("open metadata: %w", err)
	}
	if named {
		if v, err = load(dir); err != nil {
			return nil, err
		}
	}
	m.mu.changed = make(chan struct{})
	m.view.Store(v)
	m.saved.Store(uint64(v.Index))
	return m, nil
}

// Applied is the last entry that the View holds.
func (m *Mnode) Applied() id.Index { return m.view.Load().Index }

// View returns the newest state that this host has applied. It is immutable.
func (m *Mnode) View() *View { return m.view.Load() }

// Watch returns a channel that is closed at the next change of the View or of
// leadership. Ask for it before looking.
func (m *Mnode) Watch() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.changed
}

// Leads reports whether this host is the mnode master, and in which term.
func (m *Mnode) Leads() (id.Term, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.term, m.mu.leads
}

// changeLocked wakes everyone who watches.
func (m *Mnode) changeLocked() {
	close(m.mu.changed)
	m.mu.changed = make(chan struct{})
}

// Apply implements consensus.StateMachine. An entry that can't be read stops
// the group on this host: going on without it would differ from the others.
func (m *Mnode) Apply(entries []consensus.Entry) ([]any, error) {
	results := make([]any, len(entries))
	was := m.view.Load()
	next := was.clone()
	for i, e := range entries {
		if e.Index <= was.Index {
			continue // replayed after a restart
		}
		envelope, err := DecodeEnvelope(e.Data)
		if err != nil {
			return nil, fmt.Errorf("apply metadata entry %d: %w", e.Index, err)
		}
		results[i] = envelope.apply(next, e.Index, e.Term)
	}
	if next.Index != was.Index {
		m.publish(next)
	}
	return results, nil
}

func (m *Mnode) publish(v *View) {
	m.view.Store(v)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changeLocked()
}

// Checkpoint implements consensus.StateMachine: the whole state is one small
// file that is replaced in one step.
func (m *Mnode) Checkpoint(context.Context) (id.Index, error) {
	v := m.view.Load()
	if uint64(v.Index) <= m.saved.Load() {
		return v.Index, nil
	}
	err := save(filepath.Join(m.dir, fileName), v)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) { // the old file is as it was
		err = fmt.Errorf("%w: %w", consensus.ErrDiskFull, err)
	}
	if err != nil {
		return 0, fmt.Errorf("checkpoint metadata %d: %w", v.Index, err)
	}
	m.saved.Store(uint64(v.Index))
	return v.Index, nil
}

// LeaderChanged implements consensus.StateMachine.
func (m *Mnode) LeaderChanged(term id.Term, leader id.UUID, self bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.term, m.mu.leader, m.mu.leads = term, leader, self
	m.changeLocked()
}

// Close implements consensus.StateMachine.
func (m *Mnode) Close() error {
	m.LeaderChanged(0, id.UUID{}, false)
	return nil
}

// Proposer is what the metadata needs of the replicated log.
type Proposer interface {
	Propose(ctx context.Context, group id.Group, data []byte) (any, error)
}

// propose puts one command into the log and returns what it did.
func propose(ctx context.Context, log Proposer, e Envelope) (Result, error) {
	data, err := e.Encode()
	if err != nil {
		return Result{}, err
	}
	answer, err := log.Propose(ctx, id.Mnode, data)
	if err != nil {
		return Result{}, fmt.Errorf("propose metadata: %w", err)
	}
	result, ok := answer.(Result)
	if !ok { // applied before this host could tell: restored from a snapshot
		return Result{}, fmt.Errorf("propose metadata: %w", consensus.ErrUnknownOutcome)
	}
	return result, nil
}

// Birth founds a cluster on the first host: its first command. It may be
// repeated until it is known to be done.
func Birth(ctx context.Context, log Proposer, c Found) error {
	hash, err := HashPassword(DefaultPassword)
	if err != nil {
		return err
	}
	c.RootHash = hash
	result, err := propose(ctx, log, Envelope{At: time.Now().UTC(), Command: c})
	if err != nil {
		return fmt.Errorf("found the cluster: %w", err)
	}
	if result.Err != nil && !errors.Is(result.Err, &Error{Code: CodeConflict}) {
		return fmt.Errorf("found the cluster: %w", result.Err)
	}
	return nil
}
