package waltest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/wal"
)

func TestDisk(t *testing.T) {
	RunFS(t, func(*testing.T) wal.FS { return NewDisk(1) })
}

func TestDirFS(t *testing.T) {
	RunFS(t, func(t *testing.T) wal.FS {
		fs, err := wal.DirFS(t.TempDir() + "/made")
		if err != nil {
			t.Fatal(err)
		}
		return fs
	})
}

// TestDeaths checks, over many seeds, what each death may take and that it does
// take it now and then.
func TestDeaths(t *testing.T) {
	var lostName, lostData, lostSome, keptAll, zeros bool
	for seed := range uint64(300) {
		d := NewDisk(seed)
		durable := create(t, d, "durable", "synced")
		if err := errors.Join(durable.Sync(), d.SyncDir()); err != nil {
			t.Fatal(err)
		}
		late := bytes.Repeat([]byte("x"), 10*sectorBytes)
		if _, err := durable.WriteAt(late, sectorBytes); err != nil {
			t.Fatal(err)
		}
		create(t, d, "new", "new")
		d.Kill()
		if got := content(t, d, "durable", 11*sectorBytes); !bytes.Equal(got[sectorBytes:], late) {
			t.Fatal("the death of a process took what it had written")
		}
		d.PowerOff()
		lostName = lostName || d.Content("new") == nil
		now := d.Content("durable")
		if !bytes.HasPrefix(now, []byte("synced")) {
			t.Fatalf("a power cut took synced data: %q", now)
		}
		kept := bytes.Count(now, []byte("x"))
		lostData = lostData || kept == 0
		lostSome = lostSome || kept > 0 && kept < len(late)
		keptAll = keptAll || kept == len(late)
		zeros = zeros || len(now) == 11*sectorBytes && kept < len(late)
		if kept%sectorBytes != 0 {
			t.Fatalf("%d bytes were kept: part of a sector", kept)
		}
		if _, err := durable.WriteAt(late, 0); !errors.Is(err, ErrDead) {
			t.Fatalf("a handle outlived its process: %v", err)
		}
	}
	if !lostName || !lostData || !lostSome || !keptAll || !zeros {
		t.Errorf("never seen: name %v, all data %v, some data %v, nothing %v, zeros %v", lostName, lostData, lostSome, keptAll, zeros)
	}
}

// TestFailedSync checks that a sync after a failed one promises what it has
// not done, as a kernel does.
func TestFailedSync(t *testing.T) {
	d := NewDisk(1)
	f := create(t, d, "a", "data")
	if err := d.SyncDir(); err != nil {
		t.Fatal(err)
	}
	d.FailSyncs(1)
	if err := f.Sync(); err == nil {
		t.Fatal("the sync did not fail")
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := content(t, d, "a", 4); string(got) != "data" {
		t.Errorf("before the power cut: %q", got)
	}
	d.PowerOff()
	if got := d.Content("a"); len(got) != 0 {
		t.Errorf("after the power cut: %q", got)
	}
}

func TestCapacity(t *testing.T) {
	d := NewDisk(1)
	f := create(t, d, "a", "12345678")
	d.SetCapacity(10)
	if _, err := f.WriteAt([]byte("abcd"), 7); err == nil {
		t.Error("a write beyond the capacity was taken")
	}
	if _, err := f.WriteAt([]byte("abcd"), 4); err != nil {
		t.Errorf("a write within the file: %v", err)
	}
}

// TestSameSeedSameDisk runs the same calls twice.
func TestSameSeedSameDisk(t *testing.T) {
	trace := func() (all []byte) {
		d := NewDisk(7)
		for i := range 50 {
			f, err := d.Create("a")
			if err != nil {
				f, _ = d.Open("a")
			}
			if f != nil {
				f.WriteAt(bytes.Repeat([]byte{byte(i)}, 3000), int64(i*100))
			}
			d.PowerOff()
			all = append(all, d.Content("a")...)
		}
		return all
	}
	if !bytes.Equal(trace(), trace()) {
		t.Error("two runs with one seed differ")
	}
}
