package arbitrator

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// Begin counts this start of the directory and makes it durable: nothing may be
// said to anybody before (R42). What a start found in its log is the generation,
// which hosts hear with every answer (R30). It must come before anything else is
// appended to the log, and once.
func (s *Store) Begin(nonce uint64) error {
	if s.startsSlot == 0 {
		s.startsSlot = s.take()
	}
	s.starts = s.starts.Next(nonce, s.generation)
	err := s.log.Append([]wal.Op{{Group: s.startsSlot, Meta: appendStarts(nil, &s.starts)}})
	if err == nil {
		err = s.log.Flush()
	}
	if err == nil {
		err = s.log.Sync()
	}
	if err != nil {
		return fmt.Errorf("count this start: %w", err)
	}
	return nil
}

// Starts is what the directory says of itself.
func (s *Store) Starts() peer.Offer { return s.starts }

// Judge decides whether a host's directory continues what was seen of it, and
// remembers it if so (R42). news reports that the directory was not refused
// before. Of a host that has said nothing yet there is nothing to judge.
func (s *Store) Judge(c id.Cluster, u id.UUID, o peer.Offer) (news bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.mu.clusters[c]
	if k == nil {
		return false, nil
	}
	for host, m := range k.hosts {
		if m.UUID != u {
			continue
		}
		seen, err := m.Seen.Judge(o)
		if err != nil {
			news, m.OldCopy = !m.OldCopy, true
			k.hosts[host] = m
			return news, err
		}
		if seen != m.Seen {
			s.mu.unsaved[c] = true
		}
		m.Seen, m.OldCopy = seen, false
		k.hosts[host] = m
	}
	return false, nil
}

// Heard notes how far the log of a host has come. For a host that follows, and
// so has nothing else to say here, it is the first that is heard of it.
func (s *Store) Heard(from peer.Remote, sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.mu.clusters[from.Cluster]
	if k == nil {
		return
	}
	if k.note(from) {
		s.mu.unsaved[from.Cluster] = true
	}
	if m := k.hosts[from.Host]; m.UUID == from.UUID && m.Seen.Heard(from.Start, sequence) {
		k.hosts[from.Host] = m
		s.mu.unsaved[from.Cluster] = true
	}
}

// Sightings returns the operations that make durable what Judge and Heard have
// noted since the last call.
func (s *Store) Sightings() []wal.Op {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.unsaved) == 0 {
		return nil
	}
	ops := make([]wal.Op, 0, len(s.mu.unsaved))
	for _, c := range slices.Sorted(maps.Keys(s.mu.unsaved)) {
		k := s.mu.clusters[c]
		ops = append(ops, wal.Op{Group: k.slot, Meta: appendCluster(nil, c, k)})
	}
	clear(s.mu.unsaved)
	return ops
}
