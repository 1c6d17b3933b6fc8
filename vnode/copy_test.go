package vnode

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/test/powercut"
)

// TestCopyGolden keeps the formats of a copy.
func TestCopyGolden(t *testing.T) {
	compareGolden(t, "progress", progress{snapshot: consensus.SnapshotID{1, 2, 3}, index: 900, tables: 300, after: []byte("d-key")}.append(nil))
	compareGolden(t, "piece", appendRecord(appendRecord(nil, []byte("a"), []byte("position")), []byte("w-key"), nil))
}

// FuzzPiece: a piece that is accepted has rising keys, and read again after it
// was written by this version gives the same records.
func FuzzPiece(f *testing.F) {
	f.Add(appendRecord(appendRecord(nil, []byte("a"), []byte("1")), []byte("b"), nil), []byte(nil))
	f.Fuzz(func(t *testing.T, piece, after []byte) {
		var again []byte
		last := after
		err := eachRecord(piece, after, func(key, value []byte) error {
			if bytes.Compare(key, last) <= 0 {
				t.Fatalf("key %x behind %x", key, last)
			}
			last = key
			again = appendRecord(again, key, value)
			return nil
		})
		if err != nil {
			return
		}
		var third []byte
		err = eachRecord(again, after, func(key, value []byte) error {
			third = appendRecord(third, key, value)
			return nil
		})
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%x was written, %x is read: %v", again, third, err)
		}
	})
}

// FuzzProgress: what is accepted is written and read as the same again.
func FuzzProgress(f *testing.F) {
	f.Add(progress{snapshot: consensus.SnapshotID{1}, index: 5, tables: 2, after: []byte("k")}.append(nil))
	f.Fuzz(func(t *testing.T, src []byte) {
		p, err := parseProgress(src)
		if err != nil {
			return
		}
		again, err := parseProgress(p.append(nil))
		if err != nil || again.snapshot != p.snapshot || again.index != p.index || again.tables != p.tables || !bytes.Equal(again.after, p.after) {
			t.Fatalf("%+v was read as %+v, %v", p, again, err)
		}
	})
}

// TestDieAtEveryStep copies the directory of a replica after every step of a
// copy: whatever is opened there has the state that the log's mark belongs to,
// and a copy that was under way goes on.
func TestDieAtEveryStep(t *testing.T) {
	const old, index = 60, 110
	from := openTest(t, testConfig(t.TempDir()), nil)
	applyCuts(t, from, 1, index)
	n := mustSnapshot(t, from)
	v := openTest(t, testConfig(t.TempDir()), nil)
	applyCuts(t, v, 1, old)
	if _, err := v.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[id.Index]Digest{old: mustDigest(t, v), index: mustDigest(t, from)}
	after := func(step string, marks ...id.Index) {
		t.Helper()
		for _, mark := range marks {
			t.Run(fmt.Sprintf("%s, mark %d", step, mark), func(t *testing.T) {
				die(t, v, mark, func(left *Vnode) {
					if got := mustDigest(t, left); got != want[mark] {
						t.Errorf("got %+v, want %+v", got, want[mark])
					}
					if mark == index {
						return
					}
					c := mustReceive(t, left, 1, index)
					if whole := step == "finished" || step == "next copy"; whole && c.After() == nil {
						t.Error("a copy that was whole begins again")
					}
					finish(t, n, c)
					if err := left.Install(index); err != nil {
						t.Fatal(err)
					}
					if got := mustDigest(t, left); got != want[index] {
						t.Errorf("copied: got %+v, want %+v", got, want[index])
					}
				})
			})
		}
	}
	c := mustReceive(t, v, 1, index)
	after("receive", old)
	pieces(t, n, c, 5)
	after("write", old)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	after("broken off", old)
	c = mustReceive(t, v, 1, index)
	if c.After() == nil {
		t.Error("a copy that was broken off begins again")
	}
	pieces(t, n, c, -1)
	after("all is written", old)
	finish(t, n, c)
	after("finished", old, index)
	// A copy of another snapshot does not harm the one that the log may name.
	other := mustReceive(t, v, 2, index+5)
	pieces(t, n, other, 2)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	after("next copy", old, index)
	if err := v.Install(index); err != nil {
		t.Fatal(err)
	}
	after("installed", index)
	ended := v.nextEnded()
	if err := v.removeState(ended); err != nil {
		t.Fatal(err)
	}
	after("old state discarded", index)
	gone, err := filepath.Glob(filepath.Join(v.cfg.Dir, gonePrefix+"*", "*", "MANIFEST"))
	if err != nil || len(gone) != 1 {
		t.Fatalf("discarded are %v, %v", gone, err)
	}
	if err := os.Remove(gone[0]); err != nil {
		t.Fatal(err)
	}
	after("old state half removed", index)
	if err := v.home.clear(); err != nil {
		t.Fatal(err)
	}
	after("old state removed", index)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = openAt(t, v.cfg, index+5) // a checkpoint has passed the next copy
	wantStates(t, v, index)
}

// die copies the directory of v as it is, opens the copy and lets look use it.
func die(t *testing.T, v *Vnode, mark id.Index, look func(*Vnode)) {
	t.Helper()
	cfg := v.cfg
	cfg.Dir = t.TempDir()
	if err := os.CopyFS(cfg.Dir, os.DirFS(v.cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	look(openAt(t, cfg, mark))
}

// TestWrongLog: a replica whose states are all newer than its log does not
// begin anew, and keeps them.
func TestWrongLog(t *testing.T) {
	from, cfg := openTest(t, testConfig(t.TempDir()), nil), testConfig(t.TempDir())
	applyCuts(t, from, 1, 60)
	to := openTest(t, cfg, nil)
	finish(t, mustSnapshot(t, from), mustReceive(t, to, 1, 60))
	if err := to.Install(60); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(to.Close(), os.RemoveAll(to.home.state(0))); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg, 7, nil, nil, to.log); err == nil {
		t.Error("opened with a log that is too old")
	}
	if got, want := mustDigest(t, openAt(t, cfg, 60)), mustDigest(t, from); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// In the environment these make TestPowerCutAtCopy the process that cuts its own
// power.
const (
	copyCutDir  = "VNODE_COPY_CUT_DIR"
	copyCutStep = "VNODE_COPY_CUT_STEP"
	copyCutHow  = "VNODE_COPY_CUT_HOW"
)

// What the replica of TestPowerCutAtCopy has of its own, what the copy brings,
// and what it applies after that.
const cutOld, cutIndex, cutLater id.Index = 60, 120, 140

// TestPowerCutAtCopy cuts the power at each step of a copy that promises
// something: what is noted of it while it is written and when it breaks off, the
// finished copy, and the installed one once the old state is gone.
func TestPowerCutAtCopy(t *testing.T) {
	if dir := os.Getenv(copyCutDir); dir != "" {
		cutPowerAtCopy(t, dir)
	}
	reference := openTest(t, testConfig(t.TempDir()), nil)
	want := map[id.Index]Digest{}
	var from consensus.Snapshot
	for _, at := range []id.Index{cutOld, cutIndex, cutLater} {
		applyCuts(t, reference, reference.Applied()+1, at)
		if want[at] = mustDigest(t, reference); at == cutIndex {
			from = mustSnapshot(t, reference)
		}
	}
	for step, marks := range map[string][]id.Index{
		"under way": {cutOld}, "broken off": {cutOld}, "finished": {cutOld, cutIndex}, "installed": {cutIndex},
	} {
		for _, how := range []powercut.How{powercut.NoLogFlush, powercut.LogFlush} {
			for _, mark := range marks {
				t.Run(fmt.Sprintf("%s, mark %d, %s", step, mark, how), func(t *testing.T) {
					volume := powercut.NewVolume(t, 256)
					dir := filepath.Join(volume.Dir(), "v")
					cmd := exec.Command(os.Args[0], "-test.run=^TestPowerCutAtCopy$")
					cmd.Env = append(os.Environ(), copyCutDir+"="+dir, copyCutStep+"="+step, fmt.Sprint(copyCutHow, "=", uint32(how)))
					if out, err := cmd.CombinedOutput(); err != nil || string(out) != step {
						t.Fatalf("replica: %v\n%s", err, out)
					}
					volume.Restore()
					v := openAt(t, testConfig(dir), mark)
					if step == "installed" {
						applyCuts(t, v, cutIndex+1, cutLater)
						mark = cutLater
					}
					if got := mustDigest(t, v); got != want[mark] {
						t.Errorf("got %+v, want %+v", got, want[mark])
					}
					if mark == cutOld {
						goOn(t, v, from, want[cutIndex])
					}
					if err := v.Close(); err != nil { // before the volume goes
						t.Error(err)
					}
				})
			}
		}
	}
}

// goOn completes the copy that v has of a snapshot.
func goOn(t *testing.T, v *Vnode, from consensus.Snapshot, want Digest) {
	t.Helper()
	c := mustReceive(t, v, 1, cutIndex)
	if c.After() == nil {
		t.Error("the copy begins again")
	}
	finish(t, from, c)
	if err := v.Install(cutIndex); err != nil {
		t.Fatal(err)
	}
	if got := mustDigest(t, v); got != want {
		t.Errorf("copied: got %+v, want %+v", got, want)
	}
}

// cutPowerAtCopy brings a replica to a step, cuts the power at once, and says
// so. It does not return.
func cutPowerAtCopy(t *testing.T, dir string) {
	from := openTest(t, testConfig(t.TempDir()), nil)
	applyCuts(t, from, 1, cutIndex)
	v := openTest(t, testConfig(dir), nil)
	applyCuts(t, v, 1, cutOld)
	if _, err := v.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, c := mustSnapshot(t, from), mustReceive(t, v, 1, cutIndex)
	step := os.Getenv(copyCutStep)
	switch step {
	case "under way":
		in := c.(*incoming)
		for in.kept == nil {
			in.load.bytes = loadTableBytes // so that the next piece ends a table
			pieces(t, n, c, 1)
		}
		pieces(t, n, c, 5)
	case "broken off":
		pieces(t, n, c, 10)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	default:
		finish(t, n, c)
	}
	if step == "installed" {
		go func() { _ = v.Run(t.Context()) }()
		if err := v.Install(cutIndex); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the old state is removed", func() bool {
			names, err := os.ReadDir(dir)
			return err == nil && len(names) == 1
		})
		applyCuts(t, v, cutIndex+1, cutLater)
	}
	how, err := strconv.ParseUint(os.Getenv(copyCutHow), 10, 32)
	if err == nil {
		err = powercut.Cut(dir, powercut.How(how))
	}
	if err != nil {
		t.Fatal(err)
	}
	fmt.Print(step)
	os.Exit(0) // a close would write for ever
}
