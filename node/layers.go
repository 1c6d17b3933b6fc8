package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// layers runs the parts of a host. Each has a context of its own, so that they
// stop in the reverse order of their start, each after all that stand on it.
//
// Owned by Node.Run: only its goroutine calls the methods.
type layers struct {
	log    *slog.Logger
	flush  func() // waits for log; nil: there is nothing to wait for
	list   []*layer
	failed chan error // capacity 1: the first part that ended before it was told to
}

type layer struct {
	name string
	stop context.CancelFunc
	done chan struct{} // closed once run has returned
}

func newLayers(log *slog.Logger, flush func()) *layers {
	return &layers{log: log, flush: flush, failed: make(chan error, 1)}
}

// start runs a part until stop, or until it ends by itself, which ends the host.
func (l *layers) start(name string, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	part := &layer{name: name, stop: stop, done: make(chan struct{})}
	l.list = append(l.list, part)
	go func() {
		defer close(part.done)
		err := l.run(ctx, run)
		if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		select {
		case l.failed <- fmt.Errorf("%s: %w", name, err):
		default:
			l.log.Error("part failed", "part", name, "err", err)
		}
	}()
}

// run runs a part. If it panics, what led there is in the log before the process
// ends.
func (l *layers) run(ctx context.Context, part func(context.Context) error) error {
	returned := false
	defer func() {
		if !returned && l.flush != nil {
			l.flush()
		}
	}()
	err := part(ctx)
	returned = true
	return err
}

// stop stops all parts, the last one first.
func (l *layers) stop() {
	for i := len(l.list) - 1; i >= 0; i-- {
		l.list[i].end()
	}
	l.list = nil
}

// stopOnly stops the parts with these names, the last one first, and leaves the
// others running.
func (l *layers) stopOnly(names ...string) {
	for i := len(l.list) - 1; i >= 0; i-- {
		if slices.Contains(names, l.list[i].name) {
			l.list[i].end()
			l.list = slices.Delete(l.list, i, i+1)
		}
	}
}

// end stops a part and waits until it has returned.
func (p *layer) end() {
	p.stop()
	<-p.done
}
