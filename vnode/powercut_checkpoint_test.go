package vnode

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/test/powercut"
)

// checkpointDir, in the environment, makes TestPowerCutAtCheckpoint the process
// that cuts its own power.
const checkpointDir = "VNODE_CHECKPOINT_DIR"

// TestPowerCutAtCheckpoint cuts the power in the moment in which a checkpoint is
// reached while a full memtable still waits to be written out: Badger's own Sync
// leaves that one out. Everything must be there, and the replica must know so
// and serve, although the log has nothing more to replay.
func TestPowerCutAtCheckpoint(t *testing.T) {
	if dir := os.Getenv(checkpointDir); dir != "" {
		cutOwnPower(t, dir)
	}
	volume := powercut.NewVolume(t, 256)
	cmd := exec.Command(os.Args[0], "-test.run=^TestPowerCutAtCheckpoint$")
	cmd.Env = append(os.Environ(), checkpointDir+"="+filepath.Join(volume.Dir(), "v"))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("replica: %v\n%s", err, out)
	}
	var at id.Index
	if _, err := fmt.Sscanf(string(out), "checkpoint %d", &at); err != nil {
		t.Fatalf("replica says %q: %v", out, err)
	}
	volume.Restore()
	v := openTest(t, testConfig(filepath.Join(volume.Dir(), "v")), nil)
	if v.Applied() != at {
		t.Errorf("checkpoint %d was reached, %d is there", at, v.Applied())
	}
	reference := openTest(t, testConfig(t.TempDir()), nil)
	applyCuts(t, reference, 1, at)
	got, err := v.Digest(context.Background())
	if want := mustDigest(t, reference); err != nil || got != want {
		t.Errorf("after checkpoint %d: %+v, %v, want %+v", at, got, err, want)
	}
	if err := v.Close(); err != nil { // before the volume goes
		t.Error(err)
	}
}

// cutOwnPower applies entries until a memtable is full, reaches a checkpoint,
// says so and cuts the power at once. It does not return.
func cutOwnPower(t *testing.T, dir string) {
	v, err := Open(testConfig(dir), 0, nil, func() time.Time { return testNow }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for index := id.Index(1); ; index++ {
		applyCuts(t, v, index, index)
		logs, err := filepath.Glob(filepath.Join(v.current.Load().dir, "*.mem"))
		if err != nil {
			t.Fatal(err)
		}
		if len(logs) < 2 {
			continue
		}
		n, err := v.Checkpoint(context.Background())
		if err == nil {
			err = powercut.Cut(dir, powercut.NoLogFlush)
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("checkpoint", n)
		os.Exit(0) // a close would write for ever
	}
}
