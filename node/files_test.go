package node

import (
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"
)

func TestClientsLeaveFilesToTheStores(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if got := clients(1<<62, log); uint64(got) != max(limit.Cur/2, leastClients) {
		t.Errorf("got %d of %d open files, want half", got, limit.Cur)
	}
	if got := clients(10, log); got != 10 {
		t.Errorf("got %d, want the 10 that were wanted", got)
	}
}
