package powercut

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestRestoreBesideANamespace: the power comes back though another process has the
// file system mounted in a namespace of its own.
func TestRestoreBesideANamespace(t *testing.T) {
	v := NewVolume(t, 16)
	if err := os.WriteFile(filepath.Join(v.Dir(), "before"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		other := exec.Command("sleep", "60")
		other.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		if err := other.Start(); err != nil {
			t.Fatalf("begin a mount namespace: %v", err)
		}
		t.Cleanup(func() {
			_ = other.Process.Kill()
			_ = other.Wait()
		})
		v.Cut(Default)
		v.Restore()
		if err := os.WriteFile(filepath.Join(v.Dir(), "after"), nil, 0o600); err != nil {
			t.Fatalf("the power is not back: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(v.Dir(), "before")); err != nil {
		t.Errorf("what was written before is gone: %v", err)
	}
}
