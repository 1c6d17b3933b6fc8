package e2e

import (
	"strings"
	"syscall"
	"testing"
)

// TestDroppedHostServesNobody: a host that was dropped and still runs, or is
// started again, knows nothing new of users and tables. It takes no statement,
// and says what to do.
func TestDroppedHostServesNobody(t *testing.T) {
	t.Parallel()
	arb := newArbitrator(t).start()
	a := newHost(t, "", arb.peer).start()
	b := newHost(t, a.peer, arb.peer).start()
	c := dial(t, a)
	query(t, c, "CREATE DNODE '"+b.peer+"'")
	await(t, "the second host joins", func() bool { return member(t, c, "2") })
	query(t, c, "CREATE DATABASE d REPLICA 1")
	query(t, c, "CREATE TABLE d.t (ts TIMESTAMP, n BIGINT)")
	query(t, c, "DROP DNODE 2")
	onB := dial(t, b)
	refuses := func() bool {
		_, err := onB.Query(t.Context(), "SELECT * FROM d.t")
		return err != nil && strings.Contains(err.Error(), "was dropped: empty its dataDir and type CREATE DNODE '"+b.peer+"'")
	}
	await(t, "the dropped host refuses, and says what to do", refuses)
	code, out := statusOf(t, b)
	if code != 1 {
		t.Errorf("its status has exit code %d, want 1", code)
	}
	has(t, out, "was dropped", "empty its dataDir")
	b.end(syscall.SIGKILL)
	b.start()
	await(t, "it refuses after a restart", refuses)
}
