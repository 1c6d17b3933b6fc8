package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCopyAfterALongAbsence: a host that was away for longer than the log is
// kept gets a copy of the data, is killed in the middle of it, and is as good as
// the other afterwards: the other may go.
func TestCopyAfterALongAbsence(t *testing.T) {
	takesLong(t)
	_, a, b, c := pair(t)
	query(t, c, "CREATE DATABASE d REPLICA 2 VGROUPS 1")
	query(t, c, "CREATE TABLE d.t (ts TIMESTAMP, n BIGINT, s VARCHAR(1000))")
	for _, h := range []*process{b, a} { // b first, so that a leads again
		h.end(syscall.SIGTERM)
		h.configure("walKeepForReplica 64KiB")
		h.start()
		whole(t, c)
	}
	b.end(syscall.SIGKILL)

	written := 0
	write := func() {
		t.Helper()
		var rows strings.Builder
		for range 200 {
			written++
			fmt.Fprintf(&rows, " (%d, %d, '%s')", 1_700_000_000_000+int64(written), written, noise(200))
		}
		query(t, c, "INSERT INTO d.t VALUES"+rows.String())
	}
	// Two checkpoints later what is above walKeepForReplica has gone.
	for end := time.Now().Add(12 * time.Second); time.Now().Before(end); {
		write()
	}
	b.start()
	await(t, "the copy begins", func() bool { return b.says("copy from another host begins") > 0 })
	b.end(syscall.SIGKILL)
	write()
	b.start()
	await(t, "the copy is installed", func() bool { return b.says("copy installed") > 0 })
	write()
	whole(t, c)
	sameDigests(t, c, a, b, uint64(written))

	a.end(syscall.SIGKILL)
	write()
	rows := query(t, c, "SELECT COUNT(*), SUM(n) FROM d.t")
	if n, _ := rows.Int(0, 0); n != int64(written) {
		t.Errorf("%d rows, %d were acknowledged", n, written)
	}
}

// noise is text that nothing makes shorter.
func noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + rand.IntN(26))
	}
	return string(b)
}
