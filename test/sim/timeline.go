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

func (m moment) before(o moment) bool {
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
	h := t.heap
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 4
		if !h[i].before(h[parent]) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

// next takes the earliest moment at or before end off the heap and makes its
// time the present.
func (t *timeline) next(end time.Duration) (m moment, ok bool) {
	if len(t.heap) == 0 || t.heap[0].at > end {
		t.now = end
		return moment{}, false
	}
	h := t.heap
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], moment{}
	h = h[:last]
	t.heap = h
	for i := 0; ; {
		least := i
		for c := 4*i + 1; c <= 4*i+4 && c < last; c++ {
			if h[c].before(h[least]) {
				least = c
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	t.now = first.at
	return first, true
}
