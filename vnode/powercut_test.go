package vnode

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/test/powercut"
)

// cutDir, in the environment, makes TestPowerCut the process whose power is
// cut.
const cutDir = "VNODE_POWER_CUT_DIR"

const cutTables = 50

// cutEntry is entry index of a log that is the same whenever it is made: DDL,
// then large blocks and single rows, some of which overwrite others.
func cutEntry(index id.Index) consensus.Entry {
	h := entryHead{first: hlc.At(testNow) + hlc.Stamp(index)<<stampShift, origin: testCluster, count: 1}
	var data []byte
	add := func(kind opKind, body []byte) {
		data = appendStatement(data, kind, StatementID{Boot: 3, Seq: uint64(index)<<16 | uint64(len(data))}, body)
	}
	switch {
	case index == 1:
		op := CreateStable{Name: "st", Columns: tableColumns(sensorColumns...), Tags: []sql.Column{{Name: "x", Type: sql.TypeInt}}}
		add(op.kind(), appendOp(nil, op))
	case index <= 1+cutTables:
		op := CreateChild{Name: fmt.Sprint("d", index), Using: Using{Stable: "st", Tags: []sql.Value{{Type: sql.TypeInt, Int: int64(index)}}}}
		add(op.kind(), appendOp(nil, op))
	default:
		h.count = 16
		rng := rand.New(rand.NewPCG(uint64(index), 1))
		for range h.count {
			rows, at := 1, testNow.UnixMilli()+int64(rng.IntN(int(index)*100))
			if index%2 == 0 {
				rows, at = 1000, testNow.UnixMilli()+int64(index)*5000
			}
			batch := noisyRows(rows)
			for i := range batch.Timestamps {
				batch.Timestamps[i] = at + int64(i)*10
			}
			table := objectID(2+rng.IntN(cutTables)) << positionBits
			body := appendInsertTable([]byte{1}, &insertTable{id: table, blocks: 1})
			add(opInsert, appendBytes(body, new(encoder).appendBlock(nil, batch, 0, rows, 1, nil)))
		}
	}
	return consensus.Entry{Index: index, Term: 1, Data: append(appendEntryHead(nil, h), data...)}
}

// runUntilCut applies entries, with the tidy worker beside, and says which
// checkpoints it has reached, until somebody ends the process.
func runUntilCut(t *testing.T, dir string) {
	v, err := Open(testConfig(dir), 0, nil, func() time.Time { return testNow }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = v.Run(context.Background()) }()
	due := make(chan struct{}, 1)
	go func() {
		for range due {
			if n, err := v.Checkpoint(context.Background()); err == nil {
				fmt.Println("checkpoint", n)
			}
		}
	}()
	for index := id.Index(1); ; index++ {
		if _, err := v.Apply([]consensus.Entry{cutEntry(index)}); err != nil {
			t.Fatal(err)
		}
		if index%100 == 0 {
			select {
			case due <- struct{}{}:
			default:
			}
		}
	}
}

// TestPowerCut cuts the power of a file system under a busy replica: what a
// checkpoint promised is there, and a replay from it gives what the log says.
// It needs root, loop devices and ext4.
func TestPowerCut(t *testing.T) {
	if dir := os.Getenv(cutDir); dir != "" {
		runUntilCut(t, dir)
	}
	volume := powercut.NewVolume(t, 1024)
	reference := openTest(t, testConfig(t.TempDir()), nil)
	for cycle, how := range []powercut.How{powercut.NoLogFlush, powercut.LogFlush, powercut.NoLogFlush} {
		at := cutPower(t, volume, 3+4*cycle, how)
		volume.Restore()
		replayAfterCut(t, volume, at, reference)
	}
}

// cutPower runs a replica in a fresh directory until it has reached some
// checkpoints, and returns the last one that it reported before the cut.
func cutPower(t *testing.T, volume *powercut.Volume, checkpoints int, how powercut.How) id.Index {
	t.Helper()
	dir := filepath.Join(volume.Dir(), "v")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestPowerCut$")
	cmd.Env = append(os.Environ(), cutDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var at id.Index
	for lines := bufio.NewScanner(out); lines.Scan(); {
		text, ok := strings.CutPrefix(lines.Text(), "checkpoint ")
		if !ok {
			t.Logf("replica says %s", lines.Text())
			continue
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		at = id.Index(n)
		if checkpoints--; checkpoints == 0 {
			break
		}
	}
	if checkpoints > 0 {
		t.Fatal("the replica ended before its power was cut")
	}
	volume.Cut(how)
	return at
}

// replayAfterCut opens what is left, replays the log from the checkpoint and
// compares the replica with one that never failed.
func replayAfterCut(t *testing.T, volume *powercut.Volume, at id.Index, reference *Vnode) {
	t.Helper()
	v, err := Open(testConfig(filepath.Join(volume.Dir(), "v")), 0, nil, func() time.Time { return testNow }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}()
	if v.current.Load().floor < at {
		t.Errorf("checkpoint %d was reached, only %d is there", at, v.current.Load().floor)
	}
	end := max(v.current.Load().floor, at) + 20
	for index := at + 1; index <= end; index++ {
		if _, err := v.Apply([]consensus.Entry{cutEntry(index)}); err != nil {
			t.Fatal(err)
		}
	}
	for index := reference.Applied() + 1; index <= end; index++ {
		if _, err := reference.Apply([]consensus.Entry{cutEntry(index)}); err != nil {
			t.Fatal(err)
		}
	}
	got := mustDigest(t, v)
	if reference.Applied() > end {
		fresh := openTest(t, testConfig(t.TempDir()), nil)
		for index := id.Index(1); index <= end; index++ {
			if _, err := fresh.Apply([]consensus.Entry{cutEntry(index)}); err != nil {
				t.Fatal(err)
			}
		}
		reference = fresh
	}
	if want := mustDigest(t, reference); got != want {
		t.Errorf("replayed from %d to %d: %+v, want %+v", at, end, got, want)
	}
	t.Logf("checkpoint %d, applied %d, compared at %d: %d rows", at, v.current.Load().floor, end, got.Rows)
}
