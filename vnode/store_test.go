package vnode

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// Badger tries a failed flush again every second, and complains each time.
func TestStoreComplainsOnce(t *testing.T) {
	var out bytes.Buffer
	l := &badgerLog{log: slog.New(slog.NewTextHandler(&out, nil))}
	for range 3 {
		l.Errorf("flush: %v", "no space")
	}
	l.Errorf("flush: %v", "input/output error")
	l.Errorf("flush: %v", "no space")
	if n := strings.Count(out.String(), "store says"); n != 3 {
		t.Errorf("%d messages, want 3:\n%s", n, &out)
	}
}
