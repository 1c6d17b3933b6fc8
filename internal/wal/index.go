package wal

import (
	"slices"
	"sort"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// spanTarget bounds the stretch of a segment that one extent covers. A stretch
// is read whole to get at one entry, so it is short; every extent costs 32
// bytes of memory, so it is not too short.
const spanTarget = 16 << 10

// extent is where neighbouring entries of one term stand: in records of one
// segment, with records of other groups in between. The first and the last
// record may hold more entries than those that count.
type extent struct {
	first id.Index
	term  id.Term
	off   uint32 // of the first record, in units of recordAlign
	span  uint32 // bytes from there to the end of the last record
	bytes uint32 // how many of them are this group's
	count uint32 // entries
}

func (e *extent) end() id.Index { return e.first + id.Index(e.count) }
func (e *extent) offset() int64 { return int64(e.off) * recordAlign }

// run is a sequence of extents in one segment.
type run struct {
	seg     *segment
	extents []extent
}

func (r *run) first() id.Index { return r.extents[0].first }
func (r *run) end() id.Index   { return r.extents[len(r.extents)-1].end() }

// entryIndex finds the entries of one group. Runs and their extents are in the
// order of the entries; there is no gap, except while an old segment is read
// during recovery.
//
// It also keeps segment.live: how many bytes of a segment are still needed.
type entryIndex struct {
	runs  []run
	bytes int64 // of all extents
	// sealed keeps the last extent from growing: its last record holds entries
	// that no longer count.
	sealed bool
}

// charge counts bytes of seg that are needed, or, if negative, no longer.
func (x *entryIndex) charge(seg *segment, bytes int64) {
	seg.live += bytes
	x.bytes += bytes
}

// spare returns the last entry that may go if keep bytes of entries are to stay,
// or zero. It looks only at what may go.
func (x *entryIndex) spare(keep int64) id.Index {
	var last id.Index
	left := x.bytes
	for i := range x.runs {
		for j := range x.runs[i].extents {
			e := &x.runs[i].extents[j]
			if left -= int64(e.bytes); left < keep {
				return last
			}
			last = e.end() - 1
		}
	}
	return last
}

// add notes entries at the end. The record stands in seg at off and takes
// bytes bytes; an extent is not made to begin before floor.
func (x *entryIndex) add(seg *segment, b *entryBlock, off, bytes, floor int64) {
	x.charge(seg, bytes)
	if n := len(x.runs); n > 0 && x.runs[n-1].seg == seg {
		r := &x.runs[n-1]
		e := &r.extents[len(r.extents)-1]
		span := off + bytes - e.offset()
		if !x.sealed && e.term == b.term && e.end() == b.first && e.offset() >= floor && span <= spanTarget {
			e.span = uint32(span)
			e.bytes += uint32(bytes)
			e.count += b.count
			return
		}
		r.extents = append(r.extents, newExtent(b, off, bytes))
	} else {
		x.runs = append(x.runs, run{seg: seg, extents: []extent{newExtent(b, off, bytes)}})
	}
	x.sealed = false
}

func newExtent(b *entryBlock, off, bytes int64) extent {
	return extent{
		first: b.first, term: b.term, count: b.count,
		off: uint32(off / recordAlign), span: uint32(bytes), bytes: uint32(bytes),
	}
}

// truncate forgets the entries from index on.
func (x *entryIndex) truncate(index id.Index) {
	for n := len(x.runs); n > 0; n = len(x.runs) {
		r := &x.runs[n-1]
		for m := len(r.extents); m > 0; m = len(r.extents) {
			e := &r.extents[m-1]
			if e.end() <= index {
				return
			}
			x.sealed = true
			if e.first < index {
				e.count = uint32(index - e.first)
				return
			}
			x.charge(r.seg, -int64(e.bytes))
			r.extents = r.extents[:m-1]
		}
		x.runs[n-1] = run{}
		x.runs = x.runs[:n-1]
	}
}

// cut forgets the entries up to index.
func (x *entryIndex) cut(index id.Index) {
	for len(x.runs) > 0 {
		r := &x.runs[0]
		for len(r.extents) > 0 && r.extents[0].end() <= index+1 {
			x.charge(r.seg, -int64(r.extents[0].bytes))
			r.extents = r.extents[1:]
		}
		if len(r.extents) > 0 {
			if e := &r.extents[0]; e.first <= index {
				x.charge(r.seg, -int64(e.bytes))
				*e = e.part(index+1, e.end())
				x.charge(r.seg, int64(e.bytes))
			}
			return
		}
		x.runs = slices.Delete(x.runs, 0, 1)
	}
}

// clear forgets everything.
func (x *entryIndex) clear() {
	for _, r := range x.runs {
		for i := range r.extents {
			x.charge(r.seg, -int64(r.extents[i].bytes))
		}
	}
	*x = entryIndex{}
}

// find returns the run and the extent that hold index.
func (x *entryIndex) find(index id.Index) (r, e int, ok bool) {
	r = sort.Search(len(x.runs), func(i int) bool { return x.runs[i].end() > index })
	if r == len(x.runs) || x.runs[r].first() > index {
		return 0, 0, false
	}
	extents := x.runs[r].extents
	e = sort.Search(len(extents), func(i int) bool { return extents[i].end() > index })
	return r, e, extents[e].first <= index
}

// at returns the extent that holds index and the segment it is in.
func (x *entryIndex) at(index id.Index) (*segment, *extent) {
	r, e, ok := x.find(index)
	if !ok {
		return nil, nil
	}
	return x.runs[r].seg, &x.runs[r].extents[e]
}

// part is e with the entries lo to hi-1 only.
func (e *extent) part(lo, hi id.Index) extent {
	p := *e
	p.first, p.count = lo, uint32(hi-lo)
	p.bytes = uint32(uint64(e.bytes) * uint64(p.count) / uint64(e.count))
	return p
}

// carry notes that the entries of b now stand in seg at off. It forgets where
// they stood before and leaves what is below and above them.
func (x *entryIndex) carry(seg *segment, b *entryBlock, off, bytes int64) {
	end := b.last() + 1
	i := sort.Search(len(x.runs), func(i int) bool { return x.runs[i].end() > b.first })
	var left, middle, right run
	k, m := i, 0
	if i < len(x.runs) {
		extents := x.runs[i].extents
		m = sort.Search(len(extents), func(j int) bool { return extents[j].end() > b.first })
		left = run{seg: x.runs[i].seg, extents: extents[:m:m]}
	}
	for k < len(x.runs) && x.runs[k].extents[m].first < end {
		r := &x.runs[k]
		e := r.extents[m]
		x.charge(r.seg, -int64(e.bytes))
		if e.first < b.first {
			p := e.part(e.first, b.first)
			x.charge(r.seg, int64(p.bytes))
			left.extents = append(left.extents, p)
		}
		if e.end() > end {
			p := e.part(end, e.end())
			x.charge(r.seg, int64(p.bytes))
			right = run{seg: r.seg, extents: []extent{p}}
		}
		if m++; m == len(r.extents) {
			k, m = k+1, 0
		}
	}
	if k < len(x.runs) && (m > 0 || k == i) {
		right = run{seg: x.runs[k].seg, extents: append(right.extents, x.runs[k].extents[m:]...)}
		k++
	}
	x.charge(seg, bytes)
	middle = run{seg: seg, extents: []extent{newExtent(b, off, bytes)}}
	if i > 0 && len(left.extents) == 0 && x.runs[i-1].seg == seg {
		x.runs[i-1].extents = append(x.runs[i-1].extents, middle.extents[0])
		middle.extents = nil
	}
	with := slices.DeleteFunc([]run{left, middle, right}, func(r run) bool { return len(r.extents) == 0 })
	x.runs = slices.Replace(x.runs, i, k, with...)
	x.sealed = true
}

// between returns the extents of the entries lo to hi, or false if some are
// missing.
func (x *entryIndex) between(lo, hi id.Index) ([]extent, bool) {
	var out []extent
	for i := range x.runs {
		for _, e := range x.runs[i].extents {
			first, end := max(e.first, lo), min(e.end(), hi+1)
			if first >= end {
				continue
			}
			if first != lo {
				return nil, false
			}
			out = append(out, e.part(first, end))
			lo = end
		}
	}
	return out, lo == hi+1
}

// localIndex says where the entries of one segment stand, as if there was no
// other.
type localIndex struct {
	scratch segment
	groups  map[id.Group]*entryIndex
}

func (x *localIndex) of(g id.Group) *entryIndex {
	if x.groups == nil {
		x.groups = make(map[id.Group]*entryIndex)
	}
	if x.groups[g] == nil {
		x.groups[g] = new(entryIndex)
	}
	return x.groups[g]
}

// note adds what a record says about entries.
func (x *localIndex) note(rec record, p place) error {
	if rec.kind != kindChange && rec.kind != kindCarried {
		return nil
	}
	c, err := parseChange(rec)
	if err != nil {
		return err
	}
	index := x.of(rec.group)
	if c.flags&(hasDrop|hasStart) != 0 {
		index.clear()
	}
	if c.flags&hasEntries == 0 {
		return nil
	}
	if rec.kind == kindCarried {
		index.carry(&x.scratch, &c.entries, p.off, p.bytes)
		return nil
	}
	index.truncate(c.entries.first)
	index.add(&x.scratch, &c.entries, p.off, p.bytes, 0)
	return nil
}
