package node

import "time"

// stopWithin bounds how long a stop may take. After a failed disk a store tries
// for ever to write what it holds; its log, or the other host, has it all.
const stopWithin = 10 * time.Second

// within runs f and reports whether it has returned in time. One that has not
// is left behind.
func within(most time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	late := time.NewTimer(most)
	defer late.Stop()
	select {
	case <-done:
		return true
	case <-late.C:
		return false
	}
}
