package e2e

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"github.com/tarbitrator/tarbitrator/client"
)

// statusOf runs tnode status against one host.
func statusOf(t *testing.T, h *process, more ...string) (code int, out string) {
	t.Helper()
	host, port, _ := strings.Cut(h.http, ":")
	return tool(t, append([]string{"status", "-h", host, "-P", port}, more...)...)
}

// has fails unless a screen has all of these words.
func has(t *testing.T, screen string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(screen, w) {
			t.Errorf("the screen lacks %q:\n%s", w, screen)
		}
	}
}

// TestStatus: one screen says who is there, how safe the data is and what may
// fail next, through the loss of two of three.
func TestStatus(t *testing.T) {
	arb, a, b, c := pair(t)
	query(t, c, "CREATE DATABASE plant REPLICA 2 VGROUPS 1")
	shows := func(what string, words ...string) {
		t.Helper()
		await(t, what, func() bool {
			_, out := statusOf(t, a)
			for _, w := range words {
				if !strings.Contains(out, w) {
					return false
				}
			}
			return true
		})
	}
	shows("all is well", "fully available", "data      sync", "any one of dnode 1, dnode 2, arbitrator", "1 of 1", "DEFAULT_PASSWORD")
	b.end(syscall.SIGKILL)
	shows("the other host is away", "partly available", "async", "may fail  nothing", "HOST_OFFLINE dnode 2", "ASYNC database plant")
	code, out := statusOf(t, a, "--json")
	var s client.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != 0 || s.Dnode != 1 || s.Service != "partly" || s.Mode != "async" {
		t.Errorf("--json: exit code %d, %v:\n%s", code, err, out)
	}
	arb.end(syscall.SIGKILL)
	shows("nobody else is left", "not available", "CUT_OFF dnode 1")
	if code, out := statusOf(t, a); code != 0 {
		t.Errorf("a screen without a master: exit code %d\n%s", code, out)
	}
	b.start()
	shows("two of three are back", "fully available", "data      sync", "may fail  nothing", "last changes of master")
}

// TestStatusOfAHostThatServesNothing: it says why, at once.
func TestStatusOfAHostThatServesNothing(t *testing.T) {
	h := newHost(t, local(freePort(t)), "").start() // its first host is not there
	var code int
	var out string
	await(t, "the host answers", func() bool { code, out = statusOf(t, h); return code != 3 })
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	has(t, out, "in no cluster yet", "CREATE DNODE '"+h.peer+"'")
	if err := h.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	code, out = statusOf(t, h)
	if code != 3 {
		t.Errorf("a frozen host: exit code %d, want 3:\n%s", code, out)
	}
	has(t, out, "no answer within")
	if err := h.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}
