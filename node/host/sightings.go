package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/checkfile"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

var sightingsMagic = checkfile.Magic{'T', 'A', 'R', 'S', 'E', 'E', 'N', '1'}

const (
	sightingsName = "sightings"
	// sightingsEvery is how often a host tells how far its log has come, and
	// writes down what it was told: the rhythm of the pulse (R19). A copy that
	// is younger passes if this host dies, too.
	sightingsEvery = 5 * time.Second
)

// Sightings is what this host remembers of other directories, the arbitrator's
// included, so that an old copy of one is known when it comes back (R30, R42).
//
// Judge, Heard and Copy may be called by any goroutine and wait for no disk.
type Sightings struct {
	path string
	log  *slog.Logger
	wake chan struct{} // capacity 1: save before the next round

	mu struct {
		sync.Mutex
		seen    map[id.UUID]peer.Sighting
		copies  map[id.UUID]error // directories that are refused now
		changed bool              // since the last save
	}

	// ---- owned by Run ----
	unkept bool // the last save failed, and that was said
}

// sighted is one line of the file.
type sighted struct {
	UUID id.UUID
	peer.Sighting
}

// OpenSightings reads what earlier starts have seen. A file that can't be read
// costs nothing but what it remembers, so it stops nobody.
func OpenSightings(dir string, log *slog.Logger) *Sightings {
	s := &Sightings{path: filepath.Join(dir, sightingsName), log: log, wake: make(chan struct{}, 1)}
	s.mu.seen, s.mu.copies = map[id.UUID]peer.Sighting{}, map[id.UUID]error{}
	b, err := checkfile.Read(s.path, sightingsMagic)
	if errors.Is(err, fs.ErrNotExist) {
		return s
	}
	var list []sighted
	if err == nil {
		list, err = decodeSightings(b)
	}
	if err != nil {
		log.Error("what was seen of other data directories is lost: an old copy of one may pass until it is seen again", "err", err)
	}
	for _, x := range list {
		s.mu.seen[x.UUID] = x.Sighting
	}
	return s
}

func decodeSightings(b []byte) ([]sighted, error) {
	var list []sighted
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("read sightings: %w", err)
	}
	for _, x := range list {
		if x.UUID.IsZero() || x.Boot == 0 || x.Highest < x.Sequence {
			return nil, fmt.Errorf("read sightings: start %d of %s at %d of %d", x.Boot, x.UUID.Short(), x.Sequence, x.Highest)
		}
	}
	return list, nil
}

// Judge decides whether a directory continues what was seen of it, and
// remembers it if so. It is a peer.Config's Judge.
func (s *Sightings) Judge(_ id.Cluster, u id.UUID, o peer.Offer) error {
	s.mu.Lock()
	was := s.mu.seen[u]
	now, err := was.Judge(o)
	before := s.mu.copies[u]
	if err == nil {
		s.mu.seen[u] = now
		s.mu.changed = s.mu.changed || now != was
		delete(s.mu.copies, u)
	} else {
		s.mu.copies[u] = err
	}
	s.mu.Unlock()
	if now.Start != was.Start {
		poke(s.wake)
	}
	switch {
	case err != nil && before == nil:
		s.log.Error("a data directory is refused: what it offers does not continue what was seen of it", "peer", u, "err", err)
	case err == nil && before != nil:
		s.log.Info("a data directory is no longer refused", "peer", u, "start", o.Boot)
	}
	return err
}

// Heard notes how far another directory's log has come. It is a peer.Config's
// OnSequence.
func (s *Sightings) Heard(from peer.Remote, sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.mu.seen[from.UUID]
	if x.Heard(from.Start, sequence) {
		s.mu.seen[from.UUID] = x
		s.mu.changed = true
	}
}

// HeardAnswers notes the arbitrator's generation, which all its answers carry
// (R30).
func (s *Sightings) HeardAnswers(from peer.Remote, msgs []peer.Message) {
	generation := uint64(0)
	for i := range msgs {
		if a := msgs[i].Answer; a != nil {
			generation = max(generation, a.Generation)
		}
	}
	if generation > 0 {
		s.Heard(from, generation)
	}
}

// Copy says why a directory is refused; nil: it is not.
func (s *Sightings) Copy(u id.UUID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.copies[u]
}

// LinkLost makes Run write down what was heard: whoever has gone may come back
// as something else.
func (s *Sightings) LinkLost() { poke(s.wake) }

// Run tells others how far this host's log has come, and keeps what they tell,
// until ctx ends; then it does both once more.
func (s *Sightings) Run(ctx context.Context, sequence func() uint64, tell func(sequence uint64)) error {
	tick := time.NewTicker(sightingsEvery)
	defer tick.Stop()
	told := uint64(0)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-s.wake:
			s.save()
			continue
		}
		if now := sequence(); now > told {
			told = now
			tell(now)
		}
		s.save()
	}
	return nil
}

// save replaces the file if anything has changed. A disk that refuses it stops
// nothing: the next round tries again.
func (s *Sightings) save() {
	s.mu.Lock()
	if !s.mu.changed {
		s.mu.Unlock()
		return
	}
	s.mu.changed = false
	list := make([]sighted, 0, len(s.mu.seen))
	for u, x := range s.mu.seen {
		list = append(list, sighted{u, x})
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b sighted) int { return slices.Compare(a.UUID[:], b.UUID[:]) })
	b, err := json.Marshal(list)
	if err == nil {
		err = checkfile.Write(s.path, sightingsMagic, b)
	}
	if err != nil {
		if !s.unkept {
			s.log.Warn("what was seen of other data directories can't be written down", "err", err)
		}
		s.unkept = true
		s.mu.Lock()
		s.mu.changed = true
		s.mu.Unlock()
		return
	}
	if s.unkept {
		s.log.Info("what was seen of other data directories is written down again")
	}
	s.unkept = false
}
