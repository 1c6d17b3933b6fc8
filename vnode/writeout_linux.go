package vnode

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeOut sends n written bytes of a file to the disk and waits until it has
// taken them. They are not durable by that: a sync comes later, and finds little
// to do.
func writeOut(f *os.File, at, n int) error {
	err := unix.SyncFileRange(int(f.Fd()), int64(at), int64(n),
		unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	if err != nil {
		return os.NewSyscallError("sync_file_range", err)
	}
	return nil
}
