package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tarbitrator/tarbitrator/test/powercut"
)

// disk is a file system of one machine's own, in a file of the rig's directory or
// in memory.
type disk struct {
	image, dir string
	memory     string // where the memory is mounted that has the image; empty: nowhere
	direct     bool   // past this machine's page cache
	hung       bool
}

// Sizes of disks, unless Options says another. What a host keeps free for its log
// and stores is far less.
const (
	hostDiskMB       = 2048
	arbitratorDiskMB = 64
)

// makeDisk makes and mounts the disk of a machine at its directory.
func (r *Rig) makeDisk(name string) error {
	d := &disk{image: r.data(name) + ".img", dir: r.data(name)}
	mb := hostDiskMB
	if name == Arbitrator {
		mb = arbitratorDiskMB
	} else if r.diskMB > 0 {
		mb = r.diskMB
	}
	var err error
	if name == r.apart {
		d.memory = r.data(name) + ".memory"
		d.image = filepath.Join(d.memory, "img")
		err = runAll("mkdir "+d.memory, fmt.Sprintf("mount -t tmpfs -o size=%dM,mode=0700 memory %s", mb+1, d.memory))
	} else {
		d.direct = r.diskMB > 0
	}
	image := fmt.Sprintf("truncate -s %dM %s", mb, d.image)
	if d.direct {
		image = fmt.Sprintf("dd if=/dev/zero of=%s bs=1M count=%d oflag=direct status=none", d.image, mb)
	}
	if err == nil {
		err = runAll(image, "mkfs.ext4 -q -F "+d.image)
	}
	if err == nil {
		err = d.mount()
	}
	if err != nil {
		return fmt.Errorf("make the disk of %s: %w", name, err)
	}
	r.disks[name] = d
	return nil
}

func (d *disk) mount() error {
	if !d.direct {
		return run("mount -o loop " + d.image + " " + d.dir)
	}
	out, err := exec.Command("losetup", "--find", "--show", "--direct-io=on", d.image).Output()
	if err != nil {
		return fmt.Errorf("make a disk of %s: %w", d.image, err)
	}
	device := strings.TrimSpace(string(out))
	err = run("mount " + device + " " + d.dir)
	return errors.Join(err, run("losetup -d "+device)) // once it is not mounted any more
}

func (d *disk) remove() error {
	err := run("umount " + d.dir)
	if d.memory != "" {
		err = errors.Join(err, run("umount "+d.memory))
	}
	return err
}

// HangDisk makes every write and sync of a machine wait; UnhangDisk ends it.
func (r *Rig) HangDisk(name string) error {
	r.disks[name].hung = true
	return run("fsfreeze --freeze " + r.disks[name].dir)
}

// UnhangDisk lets a machine's disk work again.
func (r *Rig) UnhangDisk(name string) error {
	r.disks[name].hung = false
	return run("fsfreeze --unfreeze " + r.disks[name].dir)
}

// filler is what takes the room of a full disk.
const filler = "filler"

// FillDisk leaves so many bytes free on a machine's disk; EmptyDisk gives the
// room back.
func (r *Rig) FillDisk(name string, leave int64) error {
	d := r.disks[name]
	f, err := os.OpenFile(filepath.Join(d.dir, filler), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("fill the disk of %s: %w", name, err)
	}
	defer f.Close()
	var fs unix.Statfs_t
	if err := unix.Statfs(d.dir, &fs); err != nil {
		return fmt.Errorf("fill the disk of %s: %w", name, err)
	}
	// The last blocks are hard to get: the file system needs some for the
	// filler itself, and root may use those that are reserved.
	at, step := int64(0), int64(fs.Bfree)*fs.Bsize-leave
	for step >= fs.Bsize {
		switch err := unix.Fallocate(int(f.Fd()), 0, at, step); {
		case err == nil:
			at += step
			if leave > 0 {
				return nil
			}
		case !errors.Is(err, unix.ENOSPC):
			return fmt.Errorf("fill the disk of %s: %w", name, err)
		}
		step /= 2
	}
	return nil
}

// EmptyDisk removes what FillDisk has made.
func (r *Rig) EmptyDisk(name string) error {
	if err := os.Remove(filepath.Join(r.disks[name].dir, filler)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("empty the disk of %s: %w", name, err)
	}
	return nil
}

// BreakDisk makes everything that a process asks of its disk fail, from now
// until MendDisk. What was written and not synced may be lost; how says in what
// way. With the process killed, too, it is a power cut.
func (r *Rig) BreakDisk(name string, how powercut.How) error {
	return powercut.Cut(r.disks[name].dir, how)
}

// MendDisk mounts a broken disk again. The machine's process must have ended.
func (r *Rig) MendDisk(name string) error {
	d := r.disks[name]
	err := run("umount " + d.dir)
	if err == nil {
		err = d.mount()
	}
	if err != nil {
		return fmt.Errorf("mend the disk of %s: %w", name, err)
	}
	return nil
}

// Wipe empties a machine's directory. Its process must have ended.
func (r *Rig) Wipe(name string) error {
	if err := os.RemoveAll(filepath.Join(r.data(name), dataName)); err != nil {
		return fmt.Errorf("wipe %s: %w", name, err)
	}
	return nil
}
