package vnode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tarbitrator/tarbitrator/internal/checkfile"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// What is in the directory of a replica: docs/format/vnode.md.
const (
	statePrefix = "state-" // a whole state; behind it the index that it is a copy of, or 0
	copyName    = "copy"   // a state on its way in
	gonePrefix  = "gone-"  // what is being removed
)

// home is the directory of a replica. Of the states in it one is current; others
// are old, or finished copies that the log has not named yet.
//
// Invariant: the current state is the newest one whose index the log's mark has
// reached. So a finished copy must be out of the way before the log may get a
// mark at or above it for another reason than that it was installed; and what is
// current goes only after another is.
type home struct {
	dir string
	// turn holds a token while nobody changes which states there are. It is no
	// mutex as the change waits for the disk.
	turn chan struct{}
	// discarded holds a token while there may be something to remove.
	discarded chan struct{}

	// ---- owned by whose turn it is ----
	reached  id.Index   // a mark that the log may have
	finished []id.Index // whole copies that the log has not named, as far as is known here
	coming   id.Index   // of the copy on its way, open or left; zero: none
	open     bool       // somebody is writing it
}

// openHome makes the directory, if there is none, and finds the current state by
// the log's mark. Older states go away; a finished copy that the log has not
// named becomes one on its way again, as nobody knows what will come of it.
func openHome(dir string, mark id.Index) (h *home, current id.Index, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, 0, err
	}
	h = &home{dir: dir, turn: make(chan struct{}, 1), discarded: make(chan struct{}, 1), reached: mark}
	h.turn <- struct{}{}
	h.wake() // for what the last run has left
	states, err := h.states()
	if err != nil {
		return nil, 0, err
	}
	current, found := id.Index(0), false
	for _, index := range states {
		if index <= mark || index == 0 {
			current, found = index, true
		}
	}
	if !found && len(states) > 0 {
		return nil, 0, fmt.Errorf("%s begins with entry %d, but the log was durable only up to %d: the log is not the one that belongs to it, the replica must be replaced",
			h.state(states[0]), states[0], mark)
	}
	for _, index := range states {
		switch {
		case index < current:
			err = h.discard(h.state(index))
		case index > current:
			err = h.unfinish(index)
		}
		if err != nil {
			return nil, 0, err
		}
	}
	if !found {
		if err := os.Mkdir(h.state(0), 0o700); err != nil {
			return nil, 0, err
		}
	}
	if p, err := readProgress(h.copy()); err == nil {
		h.coming = p.index
	}
	if err := h.discardStale(); err != nil {
		return nil, 0, err
	}
	return h, current, errors.Join(checkfile.SyncDir(dir), checkfile.SyncDir(filepath.Dir(dir)))
}

// state is the directory of the state that began with index.
func (h *home) state(index id.Index) string {
	return filepath.Join(h.dir, fmt.Sprintf("%s%020d", statePrefix, index))
}

func (h *home) copy() string { return filepath.Join(h.dir, copyName) }

// states is the indexes of all states, rising.
func (h *home) states() ([]id.Index, error) {
	names, err := os.ReadDir(h.dir)
	if err != nil {
		return nil, err
	}
	var list []id.Index
	for _, name := range names {
		digits, ok := strings.CutPrefix(name.Name(), statePrefix)
		if !ok {
			continue
		}
		index, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || h.state(id.Index(index)) != filepath.Join(h.dir, name.Name()) {
			return nil, fmt.Errorf("%s in %s is not the name of a state", name.Name(), h.dir)
		}
		list = append(list, id.Index(index))
	}
	slices.Sort(list)
	return list, nil
}

// take waits for the turn; give hands it on.
func (h *home) take() (give func()) {
	<-h.turn
	return func() { h.turn <- struct{}{} }
}

// errOvertaken is why a copy is of no use any more.
var errOvertaken = errors.New("the log has brought this replica further meanwhile")

// receive begins a copy, or goes on with it. Only one is open at a time.
func (h *home) receive(index id.Index) error {
	defer h.take()()
	switch {
	case h.open:
		return errors.New("another one is on its way")
	case index <= h.reached:
		return errOvertaken
	}
	h.open, h.coming = true, index
	return nil
}

// leave lets go of the copy on its way.
func (h *home) leave() error {
	defer h.take()()
	h.open = false
	return h.discardStale()
}

// discardCopy discards the copy on its way, if there is one.
func (h *home) discardCopy() error {
	err := h.discard(h.copy())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// discardStale discards a copy that nobody is writing and nobody can use.
// Whoever calls it has the turn.
func (h *home) discardStale() error {
	if h.open || h.coming > h.reached {
		return nil
	}
	h.coming = 0
	return h.discardCopy()
}

// keep makes the copy on its way, which is whole and synced, a finished one.
func (h *home) keep() error {
	defer h.take()()
	index := h.coming
	switch {
	case index <= h.reached:
		return errOvertaken
	case slices.Contains(h.finished, index): // what is there is the same state
		return h.discardCopy()
	}
	if err := os.Rename(h.copy(), h.state(index)); err != nil {
		return err
	}
	h.coming = 0
	h.finished = append(h.finished, index)
	return checkfile.SyncDir(h.dir)
}

// overtake puts copies that the log has brought this replica past out of the
// way. After it the log may have index as its mark.
func (h *home) overtake(index id.Index) error {
	defer h.take()()
	h.reached = max(h.reached, index)
	return h.discardPassed()
}

// install makes sure that the finished copy of index is there, now that the log
// has named it, and puts older ones out of the way.
func (h *home) install(index id.Index) error {
	defer h.take()()
	i := slices.Index(h.finished, index)
	if i < 0 {
		return errors.New("it is not there")
	}
	h.finished = slices.Delete(h.finished, i, i+1)
	h.reached = max(h.reached, index)
	return h.discardPassed()
}

// discardPassed discards the copies up to what is reached, finished ones
// durably. Whoever calls it has the turn.
func (h *home) discardPassed() error {
	for i := len(h.finished) - 1; i >= 0; i-- {
		index := h.finished[i]
		if index > h.reached {
			continue
		}
		err := h.discard(h.state(index))
		if err == nil {
			err = checkfile.SyncDir(h.dir)
		}
		if err != nil {
			return err
		}
		h.finished = slices.Delete(h.finished, i, i+1)
	}
	return h.discardStale()
}

// unfinish takes the finished copy of index for the one on its way, instead of
// what there may be of another.
func (h *home) unfinish(index id.Index) error {
	if err := h.discardCopy(); err != nil {
		return err
	}
	return os.Rename(h.state(index), h.copy())
}

// discard takes the name from a directory that is to be removed, so that what a
// crash leaves of it is not taken for anything.
func (h *home) discard(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	gone, err := os.MkdirTemp(h.dir, gonePrefix)
	if err != nil {
		return err
	}
	defer h.wake()
	return os.Rename(dir, filepath.Join(gone, filepath.Base(dir)))
}

// wake says that there may be something to remove.
func (h *home) wake() {
	select {
	case h.discarded <- struct{}{}:
	default:
	}
}

// clear removes what was discarded.
func (h *home) clear() error {
	names, err := os.ReadDir(h.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name.Name(), gonePrefix) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(h.dir, name.Name())))
		}
	}
	return err
}
