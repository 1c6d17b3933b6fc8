package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test's own binary be tnode.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_AS_TNODE") != "" {
		main()
	}
	os.Exit(m.Run())
}

// A host that can't stop as it should, here because it waits for a file, ends at
// the second signal.
func TestSecondSignalEnds(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "tnode.cfg")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	host := exec.Command(os.Args[0], "start", "-c", fifo)
	host.Env = append(os.Environ(), "RUN_AS_TNODE=1")
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = host.Wait() // how it ends is looked at below
		close(ended)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		select {
		case <-ended:
			if status := host.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM {
				t.Errorf("it ended with %v, want SIGTERM", host.ProcessState)
			}
			return
		case <-tick.C:
			_ = host.Process.Signal(syscall.SIGTERM) // it may just have ended
		}
	}
	t.Error("it stays whatever it is told")
	_ = host.Process.Kill()
	<-ended
}
