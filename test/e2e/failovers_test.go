package e2e

import (
	"syscall"
	"testing"
)

// TestFailoversAreExplained: a master is killed, the next one is told to stop.
// Both hosts say who led when, and why that changed. test/failovers asks the
// same after every fault that needs a network of its own.
func TestFailoversAreExplained(t *testing.T) {
	_, a, b, c := pairWithTable(t)
	put(t, c, 0, 3)
	if rows := query(t, c, "SHOW FAILOVERS"); len(rows.Data) != 0 {
		t.Errorf("nothing has happened, and %d changes of master are listed", len(rows.Data))
	}

	a.end(syscall.SIGKILL)
	cb := dial(t, b)
	put(t, cb, 3, 6)
	explained(t, b, "killed", 1, 2)
	a.start()
	whole(t, c)
	explained(t, a, "killed", 1, 2) // what it could not see itself

	b.end(syscall.SIGTERM)
	put(t, dial(t, a), 6, 9)
	explained(t, a, "stopped", 2, 1)
}

// explained waits until a host lists a change of master first, for all three
// groups and with the first write.
func explained(t *testing.T, h *process, cause string, from, to int64) {
	t.Helper()
	c := dial(t, h)
	await(t, "the change of master is explained: "+cause, func() bool {
		rows, err := c.Query(t.Context(), "SHOW FAILOVERS")
		if err != nil || len(rows.Data) == 0 {
			return false
		}
		number := func(name string) int64 {
			n, _ := rows.Int(0, rows.Index(name)) // zero, and no match, if it is NULL
			return n
		}
		return rows.Text(0, rows.Index("cause")) == cause && number("from_dnode") == from && number("to_dnode") == to &&
			number("groups") == 3 && number("first_write_ms") > 0 && rows.Text(0, rows.Index("mode")) == "async"
	})
}
