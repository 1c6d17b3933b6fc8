// Package demo runs an arbitrator and two data hosts on this machine, writes to
// them while it kills them in turn, and counts what is left.
//
// It holds no rule of the product: it sees what any client sees.
package demo

import (
	"context"
	"io"
)

// Config says how the demo runs.
type Config struct {
	Keep bool // leave the directory behind
	Out  io.Writer
}

// Run runs the demo.
func Run(ctx context.Context, config Config) error { return nil }
