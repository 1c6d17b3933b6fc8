package host

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// shardAt is a shard whose state reaches an entry.
type shardAt struct {
	consensus.StateMachine
	applied id.Index
}

func (s shardAt) Applied() id.Index { return s.applied }

// A replica that does not open because this host stops is not at fault.
func TestStoppingIsNoFault(t *testing.T) {
	var log strings.Builder
	h := &Host{log: slog.New(slog.NewTextHandler(&log, nil))}
	h.mu.faults = map[id.Group]string{}
	ctx, stop := context.WithCancel(t.Context())
	h.fault(ctx, 2, "open: no such file")
	stop()
	h.fault(ctx, 3, "open: context canceled")
	if f := h.faults(); len(f) != 1 || f[2] == "" {
		t.Errorf("faults: got %v, want that of group 2 alone", f)
	}
	if text := log.String(); !strings.Contains(text, "group=2") || strings.Contains(text, "group=3") {
		t.Errorf("said: got %q, want a line on group 2 alone", text)
	}
}

// A replica whose directory is gone must not go on as if it held everything.
func TestLostStateIsFound(t *testing.T) {
	for _, c := range []struct {
		applied, mark id.Index
		ok            bool
	}{
		{0, 1, true}, // as it was created
		{9, 9, true}, {20, 9, true},
		{0, 9, false}, {8, 9, false},
	} {
		if err := reaches(shardAt{applied: c.applied}, c.mark); (err == nil) != c.ok {
			t.Errorf("state up to %d, durable up to %d: got %v", c.applied, c.mark, err)
		}
	}
}
