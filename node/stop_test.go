package node

import (
	"testing"
	"testing/synctest"
	"time"
)

// A part that never stops, such as a store on a dead disk, must not keep the
// process.
func TestStopDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forever := make(chan struct{})
		if within(stopWithin, func() { <-forever }) {
			t.Error("what never ends has ended")
		}
		close(forever)
		if !within(stopWithin, func() { time.Sleep(stopWithin / 2) }) {
			t.Error("what ends in time was left behind")
		}
	})
}
