package wal

import "github.com/tarbitrator/tarbitrator/internal/id"

// nearlyEmpty is the part of a segment, as a divisor, below which its entries
// are copied forward. The copying costs at most so much of what it gives free.
const nearlyEmpty = 8

// carryOld copies entries out of an older segment that holds few, so that idle
// groups pin nothing. It leaves two older segments alone: those are no burden.
func (l *Log) carryOld() (bool, error) {
	l.mu.Lock()
	var from *segment
	if len(l.mu.older) >= 2 {
		for _, s := range l.mu.older {
			if s.live > 0 && s.live <= l.opt.SegmentBytes/nearlyEmpty && (from == nil || s.live < from.live) {
				from = s
			}
		}
	}
	if from == nil || !l.fitsLocked(2*from.live+commitSize) {
		l.mu.Unlock()
		return false, nil
	}
	list := l.extentsInLocked(from, 0)
	from.pins++
	l.mu.Unlock()
	err := l.carry(from, list, false)
	l.mu.Lock()
	from.pins--
	l.mu.Unlock()
	return err == nil, err
}

// wantedExtent is an extent and whose it is.
type wantedExtent struct {
	group  id.Group
	extent extent
}

// extentsInLocked lists the extents in s that reach beyond the offset after.
func (l *Log) extentsInLocked(s *segment, after int64) []wantedExtent {
	var list []wantedExtent
	for _, g := range l.groupsLocked() {
		for i := range g.index.runs {
			if g.index.runs[i].seg != s {
				continue
			}
			for _, e := range g.index.runs[i].extents {
				if e.offset()+int64(e.span) > after {
					list = append(list, wantedExtent{group: g.id, extent: e})
				}
			}
		}
	}
	return list
}

// carry copies extents of from to the active segment, those that still count
// by then; all of them, or while there is room in it.
func (l *Log) carry(from *segment, list []wantedExtent, all bool) error {
	for _, w := range list {
		l.mu.Lock()
		b := l.cachedLocked(from, &w.extent)
		l.mu.Unlock()
		var err error
		if b == nil {
			if b, err = l.readSpan(from, &w.extent); err != nil {
				return err
			}
		}
		entries, err := collectSpan(nil, b, from.salt, w.group, &w.extent, w.extent.first, w.extent.end())
		if err != nil {
			return l.damaged(from, w.extent.offset(), err)
		}
		l.mu.Lock()
		if all || l.fitsLocked(int64(w.extent.span)+commitSize) {
			l.carryLocked(from, &w, entries)
		}
		l.mu.Unlock()
	}
	return nil
}

// carryLocked writes those of entries that still stand in w.
func (l *Log) carryLocked(from *segment, w *wantedExtent, entries []Entry) {
	g := l.mu.groups[w.group]
	if g == nil {
		return
	}
	seg, e := g.index.at(max(w.extent.first, g.start.Index+1))
	if seg != from || e.off != w.extent.off {
		return // cut or replaced in the meantime
	}
	entries = entries[e.first-w.extent.first:][:e.count] // cut or truncated at most
	b := entryBlock{first: e.first, term: e.term, count: e.count, list: entries}
	c := change{flags: hasEntries, entries: b}
	dst, p := l.takeLocked(recordSize(c.size()))
	sealRecord(c.append(dst), p.seg.salt, p.off, kindCarried, c.flags, g.id)
	l.mu.tail.open = true
	g.index.carry(p.seg, &b, p.off, p.bytes)
}
