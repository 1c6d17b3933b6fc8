package vnode

import (
	"context"
	"fmt"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Install implements consensus.Snapshotter. Who reads the old state is told
// ErrReplaced; it is closed and removed beside, by Run.
func (v *Vnode) Install(index id.Index) error {
	old := v.current.Load()
	if old.start == index { // when it was opened
		return nil
	}
	next, err := v.openInstalled(index)
	if err != nil {
		return fmt.Errorf("install copy of group %d at entry %d: %w (the log goes on behind it: restart this host, and if that does not help the replica must be replaced)",
			v.cfg.Group, index, err)
	}
	v.mu.Lock()
	v.mu.ended = append(v.mu.ended, old)
	v.mu.Unlock()
	v.current.Store(next)
	old.end(ErrReplaced)
	v.home.wake()
	return nil
}

func (v *Vnode) openInstalled(index id.Index) (*state, error) {
	if err := v.home.install(index); err != nil {
		return nil, err
	}
	return v.openState(index)
}

// sweepStates closes states that were replaced, and removes what is of no use
// any more, until ctx ends. What it does not get to goes at the next start.
func (v *Vnode) sweepStates(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.home.discarded:
		}
		for s := v.nextEnded(); s != nil; s = v.nextEnded() {
			select {
			case <-ctx.Done():
				return // Close goes on
			case <-s.idle:
			}
			if err := v.removeState(s); err != nil {
				v.log.Warn("old state can't be removed, the next start will try again", "dir", s.dir, "err", err)
			}
		}
		if err := v.home.clear(); err != nil {
			v.log.Warn("directories can't be removed, the next start will try again", "dir", v.cfg.Dir, "err", err)
		}
	}
}

// nextEnded is a state that was replaced and is still open, nil if there is
// none.
func (v *Vnode) nextEnded() *state {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.mu.ended) == 0 {
		return nil
	}
	return v.mu.ended[0]
}

// removeState closes a state that was replaced and takes its name.
func (v *Vnode) removeState(s *state) error {
	v.mu.Lock()
	v.mu.ended = v.mu.ended[1:]
	v.mu.Unlock()
	if err := s.close(); err != nil {
		return err
	}
	return v.home.discard(s.dir)
}
