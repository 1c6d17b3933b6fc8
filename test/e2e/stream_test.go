package e2e

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/client"
)

// streams is how many tables a stream writes to, over both groups of the database.
const streams = 4

// stream writes counted rows into tables of database d until it is stopped. It
// repeats what was not acknowledged, so that every count is known.
type stream struct {
	c    *client.Client
	mu   sync.Mutex // held while rows are written: who has it sees no write under way
	rows int        // that each table was acknowledged to have
	err  error      // ended it
}

// run writes until ctx ends.
func (s *stream) run(ctx context.Context) {
	for ctx.Err() == nil && s.round() {
		time.Sleep(2 * time.Millisecond)
	}
}

// round writes a row into each table, and reports whether all were taken.
func (s *stream) round() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range streams {
		// Its own context: a write that the end of a test cuts short has no count.
		if _, err := s.c.Query(context.Background(), fmt.Sprintf("INSERT INTO d.t%d VALUES (%d, %d)", i, 1_700_000_000_000+s.rows, s.rows)); err != nil {
			s.err = fmt.Errorf("row %d of table %d: %w", s.rows, i, err)
			return false
		}
	}
	s.rows++
	return true
}
