package node

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// leastClients is how many connections of clients there are whatever the limit
// of open files is: an operator must get in.
const leastClients = 16

// clients is how many connections of clients there may be, of so many that are
// wanted: half of the open files that the system allows. The stores and the log
// need the others, and a replica that can't open a file is stopped for good.
func clients(wanted int, log *slog.Logger) int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur/2 >= uint64(wanted) {
		return wanted
	}
	allowed := max(int(limit.Cur/2), leastClients)
	log.Warn("few open files are allowed, so few clients may be connected at once: raise the limit (ulimit -n, LimitNOFILE of systemd)",
		"open_files", limit.Cur, "clients", allowed, "wanted", wanted)
	return allowed
}
