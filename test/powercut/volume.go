// Package powercut is a real file system, ext4 on a loop device, whose power
// can be cut under a running process.
//
// It needs root, and checks nothing itself: the packages whose files must
// survive a cut do so in their own tests.
package powercut

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"
)

// How says what of the file system reaches the disk before the power is gone.
type How uint32

// The ways to cut, by the names of the kernel's flags.
const (
	Default    How = 0 // everything: what a clean stop of the kernel leaves
	LogFlush   How = 1 // the journal: lengths and names may be newer than data, which then reads as zeros
	NoLogFlush How = 2 // nothing but what was synced
)

// All lists every way to cut.
var All = []How{Default, LogFlush, NoLogFlush}

func (h How) String() string { return [...]string{"default", "log flush", "no log flush"}[h] }

// Volume is one mounted file system. It belongs to one test.
type Volume struct {
	t          testing.TB
	image, dir string
	copies     int
	mounted    bool
}

// NewVolume makes a file system of megabytes MB, which goes away with the test.
// Where it can't, because it is not root or because there is no loop device, it
// skips the test.
func NewVolume(t testing.TB, megabytes int) *Volume {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a power cut needs root: it mounts a file system on a loop device")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("a power cut needs loop devices: %v", err)
	}
	base := t.TempDir()
	v := &Volume{t: t, image: filepath.Join(base, "image"), dir: filepath.Join(base, "mount")}
	if err := os.Mkdir(v.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	v.run("truncate", "-s", fmt.Sprintf("%dM", megabytes), v.image)
	v.run("mkfs.ext4", "-q", v.image)
	v.mount()
	t.Cleanup(func() {
		if v.mounted {
			v.run("umount", v.dir)
		}
	})
	return v
}

// Dir is where the file system is mounted.
func (v *Volume) Dir() string { return v.dir }

// Cut cuts the power: from now on every operation fails.
func (v *Volume) Cut(how How) {
	v.t.Helper()
	if err := Cut(v.dir, how); err != nil {
		v.t.Fatal(err)
	}
}

// Cut cuts the power of the file system that dir lies on: for a process that
// must do so itself, at an exact moment.
func Cut(dir string, how How) error {
	const ext4Shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := uint32(how)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		return fmt.Errorf("cut the power: %w", errno)
	}
	return nil
}

// Restore gives the power back. Nobody may have a file open.
func (v *Volume) Restore() {
	v.t.Helper()
	v.run("umount", v.dir)
	v.mounted = false
	v.replace()
	v.mount()
}

// replace goes on with a copy of the disk if the file system lives on: a process
// that was given a mount namespace of its own meanwhile (a container, say) has it
// mounted there, and mounting the image once more would give that one back, cut as
// it is.
func (v *Volume) replace() {
	v.t.Helper()
	out, err := exec.Command("losetup", "--associated", v.image).CombinedOutput()
	if err != nil {
		v.t.Fatalf("losetup: %v\n%s", err, out)
	}
	if len(out) == 0 {
		return
	}
	v.copies++
	next := fmt.Sprintf("%s.%d", v.image, v.copies)
	v.run("cp", "--sparse=always", v.image, next)
	v.image = next
}

func (v *Volume) mount() {
	v.t.Helper()
	v.run("mount", "-o", "loop", v.image, v.dir)
	v.mounted = true
}

func (v *Volume) run(name string, args ...string) {
	v.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		v.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
