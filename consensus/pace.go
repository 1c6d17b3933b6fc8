package consensus

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// paceLeast is what copies get however slow writes are, in bytes per second,
	// so that every copy ends: a terabyte within six days.
	paceLeast = 2e6
	// paceWindow is how often the pace is set anew. Most writes take far less.
	paceWindow = 500 * time.Millisecond
	// paceFaster is what a good window adds, as a part of the most: from the least
	// to the most in some ten seconds. paceSlower is what a bad one leaves.
	paceFaster, paceSlower = 0.05, 0.7
	// paceBegin is what a copy begins with, as a part of the most.
	paceBegin = 0.25
	// paceCalmAfter is how long after the last of a copy writes count as those of
	// calm times again: what it wrote is on its way to a disk.
	paceCalmAfter = 10 * time.Second
	// paceCredit is how far a reader may fall behind between two of its requests, as
	// the way to it and back takes time, and make up for it.
	paceCredit = 20 * time.Millisecond
	// paceMemory is how many windows make calm times: what a cluster does in the
	// last 20 s tells best what it does next.
	paceMemory = 40
	// paceTolerance is how many times as long as in calm times a write may take.
	paceTolerance = 1.5
)

// pace spreads what is sent as copies evenly over time, and less of it while
// writes take longer than they do without a copy. It does not ask why they do: a
// copy takes part of the wire, of two disks and of two processors, and any of
// them may be what a write waits for.
//
// What is compared is how long somebody waits who comes while a write is under
// way: half the sum of the squares of what each write took, over the sum. So one
// stall counts as much as the writes that wait behind it, and it makes no
// difference how many writes there are.
//
// Between the least and the most the pace grows by steps and falls by parts, so
// that it comes back to what is good for the writes again and again.
type pace struct {
	bytesPerSecond uint64 // the most

	mu struct {
		sync.Mutex
		next   time.Time // when the next byte may go
		rate   float64   // bytes per second; zero: no copy yet
		sent   time.Time // when the last byte went
		window struct {
			since        time.Time
			sum, squares float64 // of what writes took, in seconds
		}
		calm struct {
			waits   [paceMemory]float64 // seconds, of the last windows
			windows int                 // so far
		}
	}
}

// take says in how long n more bytes may go, which then count as gone; zero or
// less: now.
func (p *pace) take(n int) time.Duration {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turnLocked(now)
	at := p.mu.next
	if least := now.Add(-paceCredit); at.Before(least) {
		at = least
	}
	if p.mu.rate == 0 {
		p.mu.rate, at = p.begin(), now
	}
	p.mu.next = at.Add(time.Duration(float64(n) / p.mu.rate * float64(time.Second)))
	p.mu.sent = at
	return at.Sub(now)
}

// waitFor waits for d, or until ctx ends.
func waitFor(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// wrote says how long a write took that this host led, from its proposal until it
// was applied.
func (p *pace) wrote(took time.Duration) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turnLocked(now)
	p.mu.window.sum += took.Seconds()
	p.mu.window.squares += took.Seconds() * took.Seconds()
}

// turnLocked ends the window, if it is over.
func (p *pace) turnLocked(now time.Time) {
	w, calm := &p.mu.window, &p.mu.calm
	if w.since.IsZero() {
		w.since = now
	}
	if now.Sub(w.since) < paceWindow {
		return
	}
	var wait float64
	if w.sum > 0 {
		wait = w.squares / 2 / w.sum
	}
	w.since, w.sum, w.squares = now, 0, 0
	switch {
	case now.Sub(p.mu.sent) >= paceCalmAfter:
		p.mu.rate = 0
		if wait > 0 {
			calm.waits[calm.windows%paceMemory] = wait
			calm.windows++
		}
	case p.mu.rate == 0: // the next copy begins
	case wait == 0: // there is nobody to give way to
		p.mu.rate = min(p.mu.rate+paceFaster*p.most(), p.most())
	case calm.windows == 0: // nobody knows what writes take here
		p.mu.rate = p.begin()
	case wait > paceTolerance*p.calmLocked():
		p.mu.rate = max(p.mu.rate*paceSlower, p.least())
	default:
		p.mu.rate = min(p.mu.rate+paceFaster*p.most(), p.most())
	}
}

// calmLocked is the wait of calm times: the median, for a single stall must not
// hide what a copy does for as long as it is remembered.
func (p *pace) calmLocked() float64 {
	waits := p.mu.calm.waits // sorted beside
	n := min(p.mu.calm.windows, paceMemory)
	slices.Sort(waits[:n])
	return waits[n/2]
}

func (p *pace) most() float64  { return float64(p.bytesPerSecond) }
func (p *pace) least() float64 { return min(paceLeast, p.most()) }
func (p *pace) begin() float64 { return max(paceBegin*p.most(), p.least()) }
