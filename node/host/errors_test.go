package host

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus"
)

// TestRepliesOfAHostThatStops: whoever forwards to a host that stops learns that
// nobody knows what became of it, and repeats it elsewhere under its number.
func TestRepliesOfAHostThatStops(t *testing.T) {
	for _, err := range []error{context.Canceled, context.DeadlineExceeded, consensus.ErrUnknownOutcome} {
		_, got := decodeReply(2, encodeReply(nil, fmt.Errorf("insert: %w", err)))
		if !errors.Is(got, consensus.ErrUnknownOutcome) {
			t.Errorf("%v arrives as %v, want %v", err, got, consensus.ErrUnknownOutcome)
		}
	}
}
