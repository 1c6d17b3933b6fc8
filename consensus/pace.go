package consensus

import (
	"context"
	"sync"
	"time"
)

// pace spreads what is sent evenly over time, so that copies leave room for
// everything else on the wire and on the disks.
type pace struct {
	bytesPerSecond uint64

	mu struct {
		sync.Mutex
		next time.Time // when the next byte may go
	}
}

// wait returns when n more bytes may go.
func (p *pace) wait(ctx context.Context, n int) error {
	now := time.Now()
	p.mu.Lock()
	at := p.mu.next
	if at.Before(now) {
		at = now
	}
	p.mu.next = at.Add(time.Duration(float64(n) / float64(p.bytesPerSecond) * float64(time.Second)))
	p.mu.Unlock()
	if !at.After(now) {
		return nil
	}
	timer := time.NewTimer(at.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
