package consensus

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// groupLog is one group's log as the Raft library reads it: the newest entries
// from memory, older ones from the disk. It implements raft.Storage.
//
// Invariants:
//
//	start.Index <= index of recent[0] - 1, recent is contiguous up to last
//	everything from start+1 to last can be read, from recent or from reader
//	durable <= last; an entry above durable may be lost in a power cut, and so
//	may a start above it
type groupLog struct {
	group  id.Group
	reader LogReader

	start   wal.Position // the log starts after it
	last    wal.Position
	durable id.Index
	hard    wal.HardState // as last handed to the log
	initial *raftpb.ConfState
	image   func() (*raftpb.Snapshot, error) // answers Snapshot

	recent      []*raftpb.Entry
	recentBytes uint64

	// unsynced lists the appends that were handed to the log and are not
	// durable yet, oldest first.
	unsynced []appended
}

// appended says that entries up to last become durable with Write seq.
type appended struct {
	seq  uint64
	last id.Index
}

// keepRecentBytes bounds the entries kept in memory for a group once they are
// applied and durable. A replica that lags further is served from the disk.
const keepRecentBytes = 4 << 20

func (l *groupLog) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	term, vote, commit := uint64(l.hard.Term), uint64(l.hard.Vote), uint64(l.hard.Commit)
	return &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}, l.initial, nil
}

func (l *groupLog) FirstIndex() (uint64, error)         { return uint64(l.start.Index) + 1, nil }
func (l *groupLog) LastIndex() (uint64, error)          { return uint64(l.last.Index), nil }
func (l *groupLog) Snapshot() (*raftpb.Snapshot, error) { return l.image() }

// oldest is the index of the first entry in memory, last+1 if there is none.
func (l *groupLog) oldest() id.Index { return l.last.Index + 1 - id.Index(len(l.recent)) }

func (l *groupLog) Term(i uint64) (uint64, error) {
	t, err := l.term(id.Index(i))
	return uint64(t), err
}

func (l *groupLog) term(i id.Index) (id.Term, error) {
	switch {
	case i == l.last.Index:
		return l.last.Term, nil
	case i == l.start.Index:
		return l.start.Term, nil
	case i < l.start.Index:
		return 0, raft.ErrCompacted
	case i > l.last.Index:
		return 0, raft.ErrUnavailable
	case i >= l.oldest():
		return id.Term(l.recent[i-l.oldest()].GetTerm()), nil
	}
	t, err := l.reader.Term(l.group, i)
	if err != nil {
		return 0, fmt.Errorf("read term of entry %d of group %d: %w", i, l.group, err)
	}
	return t, nil
}

func (l *groupLog) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	switch {
	case id.Index(lo) <= l.start.Index:
		return nil, raft.ErrCompacted
	case id.Index(hi) > l.last.Index+1:
		return nil, raft.ErrUnavailable
	}
	if id.Index(lo) < l.oldest() {
		return l.entriesFromDisk(id.Index(lo), min(id.Index(hi), l.oldest()), maxBytes)
	}
	from := l.recent[id.Index(lo)-l.oldest() : id.Index(hi)-l.oldest()]
	var bytes uint64
	for i, e := range from {
		if bytes += entryBytes(e); bytes > maxBytes && i > 0 {
			return from[:i:i], nil
		}
	}
	return from[:len(from):len(from)], nil
}

func (l *groupLog) entriesFromDisk(lo, hi id.Index, maxBytes uint64) ([]*raftpb.Entry, error) {
	stored, err := l.reader.Entries(l.group, lo, hi, maxBytes)
	if err != nil {
		return nil, fmt.Errorf("read entries %d to %d of group %d: %w", lo, hi-1, l.group, err)
	}
	if len(stored) == 0 {
		return nil, errors.New("the log returned no entry")
	}
	es := make([]*raftpb.Entry, len(stored))
	for i := range stored {
		es[i] = raftEntry(&stored[i])
	}
	return es, nil
}

// append takes entries that are on their way to the disk with Write seq.
func (l *groupLog) append(seq uint64, es []*raftpb.Entry) {
	if len(es) == 0 {
		return
	}
	first := id.Index(es[0].GetIndex())
	if first > l.last.Index+1 || first <= l.start.Index {
		panic(fmt.Sprintf("group %d: append from %d to a log from %d to %d", l.group, first, l.start.Index, l.last.Index))
	}
	if first <= l.last.Index {
		l.truncate(first)
	}
	l.recent = append(l.recent, es...)
	for _, e := range es {
		l.recentBytes += entryBytes(e)
	}
	end := es[len(es)-1]
	l.last = wal.Position{Index: id.Index(end.GetIndex()), Term: id.Term(end.GetTerm())}
	l.unsynced = append(l.unsynced, appended{seq: seq, last: l.last.Index})
}

// truncate drops the entries from first on: another leader has replaced them.
func (l *groupLog) truncate(first id.Index) {
	if keep := l.oldest(); first > keep {
		for _, e := range l.recent[first-keep:] {
			l.recentBytes -= entryBytes(e)
		}
		l.recent = l.recent[: first-keep : first-keep]
	} else {
		l.recent, l.recentBytes = nil, 0
	}
	l.durable = min(l.durable, first-1)
	for i := range l.unsynced {
		l.unsynced[i].last = min(l.unsynced[i].last, first-1)
	}
}

// restart makes the log begin anew after a position, with Write seq.
func (l *groupLog) restart(seq uint64, at wal.Position) {
	l.start, l.last, l.durable = at, at, 0
	l.recent, l.recentBytes = nil, 0
	l.unsynced = []appended{{seq: seq, last: at.Index}}
}

// written notes that everything up to Write seq is durable.
func (l *groupLog) written(seq uint64) {
	n := 0
	for n < len(l.unsynced) && l.unsynced[n].seq <= seq {
		l.durable = max(l.durable, l.unsynced[n].last)
		n++
	}
	if n > 0 {
		l.unsynced = append(l.unsynced[:0], l.unsynced[n:]...)
	}
}

// shrink forgets entries in memory that are durable and not above applied, once
// they take more than keepRecentBytes.
func (l *groupLog) shrink(applied id.Index) {
	if l.recentBytes <= 2*keepRecentBytes {
		return
	}
	upTo, n := min(applied, l.durable), 0
	for n < len(l.recent) && l.recentBytes > keepRecentBytes && id.Index(l.recent[n].GetIndex()) <= upTo {
		l.recentBytes -= entryBytes(l.recent[n])
		n++
	}
	if n > 0 {
		l.recent = append([]*raftpb.Entry(nil), l.recent[n:]...)
	}
}

// cut forgets everything up to i, which the log was told to drop.
func (l *groupLog) cut(i id.Index) {
	t, err := l.term(i)
	if err != nil || i <= l.start.Index {
		return
	}
	if n := int(i) - int(l.oldest()) + 1; n > 0 {
		for _, e := range l.recent[:n] {
			l.recentBytes -= entryBytes(e)
		}
		l.recent = append([]*raftpb.Entry(nil), l.recent[n:]...)
	}
	l.start = wal.Position{Index: i, Term: t}
}

// entryBytes is what an entry costs in memory and on the wire, roughly.
func entryBytes(e *raftpb.Entry) uint64 { return uint64(len(e.GetData())) + 24 }

func raftEntry(e *wal.Entry) *raftpb.Entry {
	index, term, kind := uint64(e.Index), uint64(e.Term), raftpb.EntryType(e.Type)
	return &raftpb.Entry{Index: &index, Term: &term, Type: &kind, Data: e.Data}
}

func walEntry(e *raftpb.Entry) wal.Entry {
	return wal.Entry{
		Index: id.Index(e.GetIndex()), Term: id.Term(e.GetTerm()),
		Type: uint8(e.GetType()), Data: e.GetData(),
	}
}
