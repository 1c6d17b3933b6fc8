package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
)

// Parts stop in the reverse order of their start; some can be stopped before
// the others, which go on.
func TestLayersStopInOrder(t *testing.T) {
	l := newLayers(slog.New(slog.DiscardHandler), nil)
	var ended []string
	for _, name := range []string{"log", "network", "groups", "host", "doors"} {
		l.start(name, func(ctx context.Context) error {
			<-ctx.Done()
			ended = append(ended, name) // one after the other: each is awaited
			return ctx.Err()
		})
	}
	l.stopOnly("groups", "host")
	if want := []string{"host", "groups"}; !slices.Equal(ended, want) {
		t.Errorf("stopped %v, want %v", ended, want)
	}
	l.stop()
	if want := []string{"host", "groups", "doors", "network", "log"}; !slices.Equal(ended, want) {
		t.Errorf("stopped %v, want %v", ended, want)
	}
	select {
	case err := <-l.failed:
		t.Errorf("a part that was stopped failed: %v", err)
	default:
	}
}

// A part that ends by itself is a failure of the host.
func TestLayerThatEnds(t *testing.T) {
	l := newLayers(slog.New(slog.DiscardHandler), nil)
	broken := errors.New("broken")
	l.start("part", func(context.Context) error { return broken })
	if err := <-l.failed; !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	l.stop()
}

// The log is flushed when a part panics, and only then: flushing ends it.
func TestPanicFlushesTheLog(t *testing.T) {
	flushed := 0
	l := newLayers(slog.New(slog.DiscardHandler), func() { flushed++ })
	if err := l.run(t.Context(), func(context.Context) error { return nil }); err != nil || flushed != 0 {
		t.Errorf("a part that returns: %v, flushed %d times", err, flushed)
	}
	defer func() {
		if p := recover(); p != "broken" || flushed != 1 {
			t.Errorf("panic %v, flushed %d times, want once", p, flushed)
		}
	}()
	_ = l.run(t.Context(), func(context.Context) error { panic("broken") })
}
