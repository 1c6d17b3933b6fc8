package main

import "time"

// timeline is the only clock of a run: a heap of what happens when. Nothing in
// a run happens outside of a moment, and moments of equal time happen in the
// order in which they were set, so a run depends on its seed alone.
type timeline struct {
	now  time.Duration
	set  uint64 // moments set so far
	heap []moment
}

type moment struct {
	at   time.Duration
	set  uint64
	do   func()
	of   *box   // whose process it belongs to; nil: nobody's
	life uint64 // of that process: a later one knows nothing of it
}

func (m *moment) before(o *moment) bool {
	return m.at < o.at || m.at == o.at && m.set < o.set
}

// void reports whether the process that m belongs to has died meanwhile.
func (m *moment) void() bool { return m.of != nil && (m.of.life != m.life || !m.of.up) }

// after has do called d from now.
func (t *timeline) after(d time.Duration, do func()) { t.put(d, moment{do: do}) }

// put lets m come d from now.
func (t *timeline) put(d time.Duration, m moment) {
	t.set++
	m.at, m.set = t.now+max(d, 0), t.set
	t.heap = append(t.heap, m)
	h, hole := t.heap, len(t.heap)-1
	for hole > 0 {
		parent := (hole - 1) / 4
		if !m.before(&h[parent]) {
			break
		}
		h[hole] = h[parent]
		hole = parent
	}
	h[hole] = m
}

// next takes the earliest moment at or before end off the heap and makes its
// time the present.
func (t *timeline) next(end time.Duration) (m moment, ok bool) {
	if len(t.heap) == 0 || t.heap[0].at > end {
		t.now = end
		return moment{}, false
	}
	h, last := t.heap, len(t.heap)-1
	first, moved := h[0], h[last]
	h[last] = moment{}
	h = h[:last]
	t.heap = h
	for hole := 0; last > 0; {
		least := &moved
		at := hole
		for c := 4*hole + 1; c <= 4*hole+4 && c < last; c++ {
			if h[c].before(least) {
				least, at = &h[c], c
			}
		}
		h[hole] = *least
		if at == hole {
			break
		}
		hole = at
	}
	t.now = first.at
	return first, true
}
