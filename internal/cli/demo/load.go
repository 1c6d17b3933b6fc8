package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/client"
)

// load writes counted rows, one statement after the other from each of a few
// writers, and notes every acknowledgement.
type load struct {
	client *client.Client
	base   int64 // timestamp of row 0 of each table

	mu struct {
		sync.Mutex
		acked   [writers]int64 // rows 0 to acked-1 of each writer's table are acknowledged
		acks    []time.Time    // of all writers, in order
		failed  error          // the first statement that was given up
		running int
	}
}

const (
	writers   = 4
	writeGap  = 2 * time.Millisecond // between two statements of one writer
	rowsEach  = 3                    // rows of one statement
	database  = "demo"
	tableName = database + ".counted%d"
)

// run writes until ctx ends. Rows are acknowledged in order, so a count says
// which ones.
func (l *load) run(ctx context.Context) {
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() { l.write(ctx, w) })
	}
	all.Wait()
}

func (l *load) write(ctx context.Context, w int) {
	ticker := time.NewTicker(writeGap)
	defer ticker.Stop()
	for next := int64(0); ; next += rowsEach {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		statement := fmt.Sprintf("INSERT INTO "+tableName+" VALUES", w)
		for i := next; i < next+rowsEach; i++ {
			statement += fmt.Sprintf(" (%d, %d)", l.base+i, i)
		}
		// A statement that was begun is carried through, so that the last rows
		// are not left open when the demo stops writing.
		if _, err := l.client.Exec(context.WithoutCancel(ctx), statement); err != nil {
			l.mu.Lock()
			if l.mu.failed == nil {
				l.mu.failed = err
			}
			l.mu.Unlock()
			return
		}
		l.mu.Lock()
		l.mu.acked[w] = next + rowsEach
		l.mu.acks = append(l.mu.acks, time.Now())
		l.mu.Unlock()
	}
}

// counts is how many rows of each table are acknowledged.
func (l *load) counts() (perTable [writers]int64, total int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.mu.acked {
		total += n
	}
	return l.mu.acked, total, l.mu.failed
}

// columns counts the rows acknowledged in each of the last n spans of time before
// now, the oldest first.
func (l *load) columns(now time.Time, span time.Duration, n int) []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]int64, n)
	for i := len(l.mu.acks) - 1; i >= 0; i-- {
		back := int(now.Sub(l.mu.acks[i]) / span)
		if back >= n {
			break
		}
		out[n-1-max(back, 0)] += rowsEach
	}
	return out
}

// stall is the longest time without an acknowledgement between since and now,
// the one that lasts included. Before the first acknowledgement there is none.
func (l *load) stall(since, now time.Time) (longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.mu.acks) == 0 {
		return 0
	}
	next := now
	for i := len(l.mu.acks) - 1; i >= 0; i-- {
		at := l.mu.acks[i]
		if at.Before(since) {
			return max(longest, next.Sub(since))
		}
		longest = max(longest, next.Sub(at))
		next = at
	}
	return longest
}

// gap is the longest time without an acknowledgement since a moment, and
// whether one has come after it.
func (l *load) gap(since time.Time) (longest time.Duration, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := since
	for _, at := range l.mu.acks {
		if at.Before(since) {
			continue
		}
		longest = max(longest, at.Sub(last))
		last = at
	}
	return longest, last.After(since)
}
