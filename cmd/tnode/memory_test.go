package main

import (
	"math"
	"testing"
)

func TestMemoryIsWhatTheMachineHasAtMost(t *testing.T) {
	if got := memory(); got < 1<<20 || got == math.MaxInt64 {
		t.Errorf("memory() = %d, want what this machine has or less", got)
	}
}
