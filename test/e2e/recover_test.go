package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// refuses reports whether a host takes no row within a short while.
func refuses(t *testing.T, h *process) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := dial(t, h).Query(ctx, "INSERT INTO d.t VALUES (1600000000000, -1)")
	return err != nil
}

// TestTwoOfThreeLost: one host goes on with the arbitrator while the other is
// away, and is then lost for good. The other one does not serve by itself; an
// operator is told how much is lost, and lets it go on alone (R35). The lost one
// was not lost: it gets no vote and is refused, in words. It comes back empty.
func TestTwoOfThreeLost(t *testing.T) {
	arb, a, b, c := pair(t)
	query(t, c, "CREATE DATABASE d REPLICA 2 VGROUPS 1")
	query(t, c, "CREATE TABLE d.t (ts TIMESTAMP, n BIGINT)")
	whole(t, c)
	put(t, c, 0, 10)
	b.end(syscall.SIGKILL)
	put(t, dial(t, a), 10, 17)
	a.end(syscall.SIGKILL)
	b.start()
	if !refuses(t, b) {
		t.Fatal("a host that lacks acknowledged rows takes more")
	}

	if code, out := tool(t, "recover", "-c", b.conf, "--yes-i-accept-the-loss"); code != 1 || !strings.Contains(out, "in use by another process") {
		t.Fatalf("recovering a host that runs: code %d, %s", code, out)
	}
	b.end(syscall.SIGKILL)
	if code, out := tool(t, "recover", "-c", b.conf); code != 1 || !strings.Contains(out, "not confirmed") || !strings.Contains(out, "7 entries") {
		t.Fatalf("without consent: code %d, %s", code, out)
	}
	arb.end(syscall.SIGKILL)
	if code, out := tool(t, "recover", "-c", b.conf, "--yes-i-accept-the-loss"); code != 3 || !strings.Contains(out, "--arbitrator-is-lost") {
		t.Fatalf("without the arbitrator: code %d, %s", code, out)
	}
	arb.start()
	code, out := tool(t, "recover", "-c", b.conf, "--yes-i-accept-the-loss")
	if code != 0 || !strings.Contains(out, "RESTORE DNODE") {
		t.Fatalf("recover: code %d, %s", code, out)
	}
	t.Log(out)

	b.start()
	cb := dial(t, b)
	await(t, "the survivor takes rows", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := cb.Query(ctx, "INSERT INTO d.t VALUES (1700000001000, 1)")
		return err == nil
	})
	if n := rowsOf(t, cb); n != 11 {
		t.Errorf("the survivor has %d rows, want the 10 that it had and a new one", n)
	}

	a.start() // it was only cut off
	await(t, "the other one is refused in words", func() bool {
		return !refuses(t, b) && refuses(t, a) && a.said("given up by tnode recover on "+b.peer)
	})
	a.end(syscall.SIGKILL)
	a.wipe()
	query(t, cb, "RESTORE DNODE 1")
	a.start()
	whole(t, cb)
	put(t, dial(t, a), 20, 25)
	b.end(syscall.SIGKILL) // so the arbitrator votes again
	await(t, "the restored host takes over", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := dial(t, a).Query(ctx, "INSERT INTO d.t VALUES (1700000002000, 1)")
		return err == nil
	})
	if n := rowsOf(t, dial(t, a)); n != 18 {
		t.Errorf("the restored host has %d rows, want 18: 10 that the survivor had, 2 while it was alone, 6 since", n)
	}
}

// TestRecoverRefuses: who may not be given up, and what can't go on.
func TestRecoverRefuses(t *testing.T) {
	_, a, b, _ := pair(t)
	b.end(syscall.SIGTERM)
	if code, out := tool(t, "recover", "-c", b.conf, "--yes-i-accept-the-loss"); code != 1 || !strings.Contains(out, fmt.Sprintf("answers at %s", a.peer)) {
		t.Errorf("while the other host serves: code %d, %s", code, out)
	}
	fresh := newHost(t, a.peer, "")
	if code, out := tool(t, "recover", "-c", fresh.conf, "--yes-i-accept-the-loss"); code != 1 || !strings.Contains(out, "never been in a cluster") {
		t.Errorf("on a host that is nobody: code %d, %s", code, out)
	}
	if code, _ := tool(t, "recover", "-c", filepath.Join(t.TempDir(), "none")); code != 2 {
		t.Errorf("without a configuration: code %d, want 2", code)
	}
}
