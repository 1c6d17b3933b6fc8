package wal

import (
	"fmt"
	"slices"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// A checkpoint stands at the start of every segment and says everything about
// every group, down to the segment that each of its entries stands in. Hence
// the newest segment tells what is in the log; of the older ones only the
// entries are read, and one that holds none that count is not needed, wherever
// in the sequence it stands.
//
// It is a sequence of records: carried entries, the needed segments, one
// record for each group, ready.

// segmentEnd is an older segment that is still needed and how far it counts.
type segmentEnd struct {
	number uint64
	end    int64
}

// runRange says in which segment the entries lo to hi of a group stand.
type runRange struct {
	segment uint64
	lo, hi  id.Index
}

// groupCheckpoint is the checkpoint of one group.
type groupCheckpoint struct {
	state GroupState
	runs  []runRange
}

// readyMark ends a checkpoint.
type readyMark struct {
	first  uint64 // number of the batch that the segment begins with
	groups uint64
}

// commitMark ends a batch.
type commitMark struct {
	seq     uint64 // number of the batch
	durable uint64 // batches up to here were durable when this one was written
	first   uint64 // as in readyMark
}

const (
	readyBody  = 16
	commitBody = 24
	commitSize = recordHeader + commitBody
)

func segmentsSize(n int) int { return 16 * n }

func appendSegments(b []byte, list []segmentEnd) []byte {
	for _, s := range list {
		b = appendUint64(appendUint64(b, s.number), uint64(s.end))
	}
	return b
}

func parseSegments(body []byte) ([]segmentEnd, error) {
	if len(body)%16 != 0 {
		return nil, fmt.Errorf("list of segments has the wrong length %d", len(body))
	}
	r := reader{b: body}
	list := make([]segmentEnd, len(body)/16)
	for i := range list {
		list[i] = segmentEnd{number: r.uint64(), end: int64(r.uint64())}
		if list[i].end < headerBytes || i > 0 && list[i].number <= list[i-1].number {
			return nil, fmt.Errorf("list of segments is wrong at segment %d", list[i].number)
		}
	}
	return list, nil
}

const groupFixed = 24 + 16 + 16 + 8 + 4

func groupSize(runs int, meta []byte) int { return groupFixed + 24*runs + len(meta) }

func appendGroup(b []byte, g *group) []byte {
	b = appendHard(b, g.hard)
	b = appendPosition(b, g.start)
	b = appendPosition(b, g.last)
	b = appendUint64(b, uint64(g.mark))
	b = appendUint32(b, uint32(len(g.index.runs)))
	for i := range g.index.runs {
		r := &g.index.runs[i]
		b = appendUint64(b, r.seg.number)
		b = appendUint64(appendUint64(b, uint64(r.first())), uint64(r.end()-1))
	}
	return append(b, g.meta...)
}

func parseGroup(group id.Group, body []byte) (groupCheckpoint, error) {
	r := reader{b: body}
	c := groupCheckpoint{state: GroupState{Group: group, Hard: r.hard(), Start: r.position(), Last: r.position()}}
	c.state.Mark = id.Index(r.uint64())
	n := r.uint32()
	if max(c.state.Start.Index, c.state.Last.Index) > maxIndex {
		return c, fmt.Errorf("checkpoint of group %d has an index above all bounds", group)
	}
	if r.bad || uint64(n)*24 > uint64(len(r.b)) {
		return c, fmt.Errorf("checkpoint of group %d is too short for %d runs", group, n)
	}
	c.runs = make([]runRange, n)
	next := c.state.Start.Index + 1
	for i := range c.runs {
		run := runRange{segment: r.uint64(), lo: id.Index(r.uint64()), hi: id.Index(r.uint64())}
		if run.lo != next || run.hi < run.lo || run.hi > maxIndex {
			return c, fmt.Errorf("checkpoint of group %d has entries %d to %d, not from %d on", group, run.lo, run.hi, next)
		}
		c.runs[i] = run
		next = run.hi + 1
	}
	if next != c.state.Last.Index+1 {
		return c, fmt.Errorf("checkpoint of group %d ends at entry %d, not at %d", group, next-1, c.state.Last.Index)
	}
	if len(r.b) > MaxMeta {
		return c, fmt.Errorf("meta of group %d has %d bytes, at most %d", group, len(r.b), MaxMeta)
	}
	if len(r.b) > 0 {
		c.state.Meta = r.b
	}
	return c, nil
}

func appendReady(b []byte, m readyMark) []byte {
	return appendUint64(appendUint64(b, m.first), m.groups)
}

func parseReady(body []byte) (readyMark, error) {
	if len(body) != readyBody {
		return readyMark{}, fmt.Errorf("end of checkpoint has the wrong length %d", len(body))
	}
	r := reader{b: body}
	return readyMark{first: r.uint64(), groups: r.uint64()}, nil
}

func appendCommit(b []byte, m commitMark) []byte {
	return appendUint64(appendUint64(appendUint64(b, m.seq), m.durable), m.first)
}

func parseCommit(body []byte) (commitMark, error) {
	if len(body) != commitBody {
		return commitMark{}, fmt.Errorf("end of batch has the wrong length %d", len(body))
	}
	r := reader{b: body}
	return commitMark{seq: r.uint64(), durable: r.uint64(), first: r.uint64()}, nil
}

// checkpoint is the start of a segment.
type checkpoint struct {
	segments []segmentEnd
	groups   []groupCheckpoint
	ready    readyMark
	end      int64
	carried  localIndex // what stands in the segment itself
}

// readCheckpoint reads the start of a segment. The scanner stands behind what
// was good.
func readCheckpoint(sc *scanner) (*checkpoint, error) {
	point := &checkpoint{}
	for {
		rec, p, err := sc.next()
		if err != nil {
			return nil, err
		}
		if err := point.note(rec, p); err != nil {
			sc.off = p.off
			return nil, err
		}
		if rec.kind == kindReady {
			point.end = sc.off
			return point, nil
		}
	}
}

func (c *checkpoint) note(rec record, p place) (err error) {
	switch rec.kind {
	case kindSegments:
		c.segments, err = parseSegments(rec.body)
	case kindGroup:
		var g groupCheckpoint
		g, err = parseGroup(rec.group, rec.body)
		g.state.Meta = slices.Clone(g.state.Meta)
		c.groups = append(c.groups, g)
	case kindReady:
		c.ready, err = parseReady(rec.body)
		if err == nil && c.ready.groups != uint64(len(c.groups)) {
			err = fmt.Errorf("checkpoint of %d groups has %d", c.ready.groups, len(c.groups))
		}
	case kindCarried:
		err = c.carried.note(rec, p)
	default:
		err = fmt.Errorf("record of kind %d within a checkpoint", rec.kind)
	}
	return err
}
