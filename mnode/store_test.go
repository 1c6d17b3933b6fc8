package mnode

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus"
)

// TestCheckpointOnAFullDisk: a checkpoint for which there is no room leaves the
// old file, says so in a way that the group goes on, and works once there is.
func TestCheckpointOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	m := openTest(t, dir)
	applyAll(t, m, 2, everyCommand()[:2]...)
	if _, err := m.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	full := filepath.Join(dir, fileName+".new") // what is written there meets a full disk
	if err := os.Symlink("/dev/full", full); err != nil {
		t.Fatal(err)
	}
	applyAll(t, m, 4, everyCommand()[2:3]...)
	if _, err := m.Checkpoint(t.Context()); !errors.Is(err, consensus.ErrDiskFull) {
		t.Fatalf("got %v, want %v", err, consensus.ErrDiskFull)
	}
	if at := openTest(t, dir).Applied(); at != 3 {
		t.Errorf("the file has entry %d, want 3", at)
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	if at, err := m.Checkpoint(t.Context()); err != nil || at != 4 {
		t.Errorf("with room: got %d, %v", at, err)
	}
}
