package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/tarbitrator/tarbitrator/client"
)

// Scripts tell by the code whether nobody was there; then nothing was done.
func TestExitCodes(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	read := &net.OpError{Op: "read", Err: errors.New("connection reset")}
	for _, c := range []struct {
		err  error
		want int
	}{
		{fmt.Errorf("no host answered in time: %w", dial), exitUnreachable},
		{fmt.Errorf("no host answered in time: %w", context.DeadlineExceeded), exitUnreachable}, // it is frozen
		{fmt.Errorf("%w: %w", client.ErrUnknownOutcome, read), exitFailed},
		{fmt.Errorf("%w: %w", client.ErrUnknownOutcome, context.DeadlineExceeded), exitFailed},
		{&client.Error{Code: client.CodeOutOfService}, exitFailed},
		{&client.Error{Code: client.CodeAuthFailure}, exitFailed},
	} {
		got := exitFailed
		var coded *exitError
		if err := reached(c.err); errors.As(err, &coded) {
			got = coded.code
		}
		if got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
}
