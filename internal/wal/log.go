package wal

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Options of a Log. Zero values mean the defaults.
type Options struct {
	// SegmentBytes is the length of a segment file; default 64 MiB. Only what
	// fits in no segment makes a longer one.
	SegmentBytes int64
	// Reserve is how many zero-filled segments are out of bounds for entries
	// once the disk is full; default 2. With two, everything but entries can be
	// written for ever: what it leaves behind in one is superseded by the
	// checkpoint in the next.
	Reserve int
	// CacheBytes is how much of what was written last stays in memory for
	// Entries; default 4 MiB.
	CacheBytes int
	// ID is the identity of a log that is made by Open; zero: drawn at random.
	ID uint64
}

func (o Options) withDefaults() Options {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.Reserve == 0 {
		o.Reserve = 2
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 4 << 20
	}
	return o
}

// minSegmentBytes keeps tests from segments that hold nothing.
const minSegmentBytes = 4 << 10

// The errors that a caller must tell apart.
var (
	// ErrFull means that the disk has no room for entries, and nothing was
	// changed; or, from Flush and Sync, that nothing has been made durable and
	// that another try may be.
	ErrFull = errors.New("no space left for the log")
	// ErrCut means that the entries asked for are no longer in the log.
	ErrCut = errors.New("entries are cut from the log")
	// ErrBeyond means that the entries asked for are not in the log yet.
	ErrBeyond = errors.New("entries are beyond the end of the log")
	// ErrNoGroup means that the log does not know the group.
	ErrNoGroup = errors.New("group is not in the log")
	// ErrClosed means that the log has been closed.
	ErrClosed = errors.New("log is closed")
)

// Log is the log of all groups of a host. It starts no goroutine and reads no
// clock.
//
// Append, Entries, Term, Groups, Sequence and Full may be called by any
// goroutine; the first changes memory only, and what it has appended can be
// read at once. Flush and Sync belong to one goroutine, Maintain to one, which
// may be another. Close comes last. mu is never held over I/O.
//
// After an I/O error, other than a full disk, the log is poisoned: nobody
// knows what is on the disk, so that call and all later ones return the error,
// and only a new Open, which reads and writes everything again, may go on.
type Log struct {
	fs   FS
	opt  Options
	lock io.Closer
	id   uint64

	found uint64 // the last batch that Open found

	making *segment // being filled with zeros; owned by Maintain
	filled int64    // up to here

	mu struct {
		sync.Mutex
		err    error // not nil: poisoned or closed
		groups map[id.Group]*group
		active *segment
		older  []*segment // still needed, by number
		tail   tail
		pool   pool
	}
}

// Append notes ops, in order, to be written by the next Flush. It does no I/O.
// It keeps nothing of ops.
//
// Ops that do not fit the log (a gap before the entries, a cut behind the end,
// too large a Meta) are a broken promise of the caller, and it panics.
// An Append without ops asks for a batch that holds nothing, which tells
// whether the disk still answers.
func (l *Log) Append(ops []Op) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil {
		return l.mu.err
	}
	if !l.hasRoomLocked(ops) {
		return ErrFull
	}
	l.mu.tail.wanted = true
	for i := range ops {
		l.appendOpLocked(&ops[i])
	}
	return nil
}

func (l *Log) appendOpLocked(op *Op) {
	checkOp(op)
	entries := len(op.Entries) > 0
	for i, first := 0, true; first || i < len(op.Entries); first = false {
		var c change
		c, i = nextPart(op, i)
		if c.flags == 0 {
			return
		}
		g := l.groupForLocked(op.Group, &c)
		if g == nil {
			return
		}
		if err := g.check(&c); err != nil {
			panic("wal: " + err.Error())
		}
		g.completeCut(&c)
		size := recordSize(c.size())
		b, p := l.placeLocked(size, entries)
		b = c.append(b)
		sealRecord(b, p.seg.salt, p.off, kindChange, c.flags, op.Group)
		l.applyLocked(g, &c, p)
	}
}

// checkOp panics over what no log may hold.
func checkOp(op *Op) {
	if op.Group == 0 {
		panic("wal: group 0")
	}
	if len(op.Meta) > MaxMeta {
		panic(fmt.Sprintf("wal: meta of group %d has %d bytes, at most %d", op.Group, len(op.Meta), MaxMeta))
	}
	for i := range op.Entries {
		e := &op.Entries[i]
		if e.Index != op.Entries[0].Index+id.Index(i) {
			panic(fmt.Sprintf("wal: entry %d of group %d follows entry %d", e.Index, op.Group, op.Entries[i-1].Index))
		}
		if len(e.Data) > MaxEntry {
			panic(fmt.Sprintf("wal: entry %d of group %d has %d bytes, at most %d", e.Index, op.Group, len(e.Data), MaxEntry))
		}
	}
}

// groupForLocked returns the group that c is about to change: a new one if it is not
// known or c drops it, nil if there is nothing to drop.
func (l *Log) groupForLocked(n id.Group, c *change) *group {
	g := l.mu.groups[n]
	if c.flags&hasDrop == 0 && g != nil {
		return g
	}
	if c.flags == hasDrop && g == nil {
		return nil
	}
	return &group{id: n}
}

// applyLocked brings memory to what the record at p says. g came from groupForLocked.
func (l *Log) applyLocked(g *group, c *change, p place) {
	if c.flags&hasDrop != 0 {
		if old := l.mu.groups[g.id]; old != nil {
			old.index.clear()
			delete(l.mu.groups, g.id)
		}
		if c.flags == hasDrop {
			return
		}
	}
	l.mu.groups[g.id] = g
	g.apply(c, p)
}

// completeCut adds the term to a cut, or takes away a cut that cuts nothing.
func (g *group) completeCut(c *change) {
	if c.flags&hasCut == 0 {
		return
	}
	start := g.start
	if c.flags&hasStart != 0 {
		start = c.start
	}
	switch {
	case c.cut.Index <= start.Index:
		c.flags &^= hasCut
	case c.flags&hasEntries != 0 && c.cut.Index >= c.entries.first:
		c.cut.Term = c.entries.term
	default:
		c.cut.Term = g.term(c.cut.Index)
	}
}

// Groups returns the state of every group, ordered by group.
func (l *Log) Groups() []GroupState {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]GroupState, 0, len(l.mu.groups))
	for _, g := range l.groupsLocked() {
		list = append(list, g.state())
	}
	return list
}

// groupsLocked returns all groups, ordered by group.
func (l *Log) groupsLocked() []*group {
	list := make([]*group, 0, len(l.mu.groups))
	for _, g := range l.mu.groups {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *group) int { return int(int64(a.id) - int64(b.id)) })
	return list
}

// Sequence is the number of the last durable batch. It grows with every one,
// over the whole life of the directory: a directory that shows a smaller
// number than before is an old copy.
func (l *Log) Sequence() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.tail.durable
}

// Found is the number of the last batch that Open found, before it wrote any
// itself. It is what tells an old copy of a directory from the directory.
func (l *Log) Found() uint64 { return l.found }

// Changed is the number of a durable batch after which nothing but empty ones
// has become durable: unlike Sequence, it stands still in an idle log whose disk
// is only asked whether it answers.
func (l *Log) Changed() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.tail.changed
}

// Close makes everything appended durable, says so in the log, and gives the
// directory free. No other call may be under way.
func (l *Log) Close() error {
	return errors.Join(l.confirm(), l.closeFiles())
}

// Abandon gives the directory free without writing anything: what was appended
// and not synced may or may not be there afterwards.
func (l *Log) Abandon() error { return l.closeFiles() }

func (l *Log) closeFiles() error {
	l.mu.Lock()
	files := slices.Concat(l.mu.older, l.mu.pool.spares, l.mu.pool.retiring, l.mu.pool.dead)
	if l.mu.active != nil {
		files = append(files, l.mu.active)
	}
	if l.making != nil {
		files = append(files, l.making)
	}
	l.mu.err = ErrClosed
	l.mu.Unlock()
	var errs []error
	for _, s := range files {
		errs = append(errs, s.file.Close())
	}
	return errors.Join(append(errs, l.lock.Close())...)
}

// poison notes that the log can't be trusted any more and returns what every
// later call returns.
func (l *Log) poison(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err == nil {
		l.mu.err = fmt.Errorf("the log has failed and this process must stop: %w", err)
	}
	return l.mu.err
}
