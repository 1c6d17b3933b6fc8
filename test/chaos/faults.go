package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"github.com/tarbitrator/tarbitrator/test/rig"
)

// fault hurts the cluster and returns what heals it.
type fault struct {
	name string
	do   func(w *world) (heal func() error, err error)
}

var everybody = []string{rig.A, rig.B, rig.Arbitrator}

func chosen(part string) []fault {
	var list []fault
	for _, f := range allFaults() {
		if strings.Contains(f.name, part) {
			list = append(list, f)
		}
	}
	return list
}

func allFaults() []fault {
	list := []fault{
		{"kill a+b", killing(rig.A, rig.B)},
		{"kill all", killing(rig.A, rig.B, rig.Arbitrator)},
		{"kill a, b at once again", killingInTurn},
		{"cut a-b", linkCut(rig.A, rig.B, true)},
		{"cut a>b", linkCut(rig.A, rig.B, false)},
		{"cut b>a", linkCut(rig.B, rig.A, false)},
		{"cut a>w", linkCut(rig.A, rig.Arbitrator, false)},
		{"cut w>a", linkCut(rig.Arbitrator, rig.A, false)},
		{"cut b>w", linkCut(rig.B, rig.Arbitrator, false)},
		{"cut w>b", linkCut(rig.Arbitrator, rig.B, false)},
		{"power of both", powerCut(rig.A, rig.B)},
	}
	for _, n := range everybody {
		list = append(list,
			fault{"kill " + n, killing(n)},
			fault{"freeze " + n, freezing(n)},
			fault{"unplug " + n, unplugging(n)})
	}
	for _, n := range []string{rig.A, rig.B} {
		list = append(list, fault{"power of " + n, powerCut(n)}, fault{"hang disk of " + n, hanging(n)})
	}
	return list
}

func killing(names ...string) func(*world) (func() error, error) {
	return func(w *world) (func() error, error) {
		var errs []error
		for _, n := range names {
			errs = append(errs, w.Kill(n))
		}
		return func() error { return w.startAll(names) }, errors.Join(errs...)
	}
}

// killingInTurn kills one data host and, as soon as it runs again, the other:
// the second dies while the first one is catching up.
func killingInTurn(w *world) (func() error, error) {
	if err := errors.Join(w.Kill(rig.A), w.Start(rig.A), w.Kill(rig.B)); err != nil {
		return nil, err
	}
	return func() error { return w.Start(rig.B) }, nil
}

func (w *world) startAll(names []string) error {
	var errs []error
	for _, n := range names {
		errs = append(errs, w.Start(n))
	}
	return errors.Join(errs...)
}

func freezing(name string) func(*world) (func() error, error) {
	return func(w *world) (func() error, error) {
		return func() error { return w.Thaw(name) }, w.Freeze(name)
	}
}

func unplugging(name string) func(*world) (func() error, error) {
	return func(w *world) (func() error, error) {
		return func() error { return w.Plug(name) }, w.Cut(name)
	}
}

func hanging(name string) func(*world) (func() error, error) {
	return func(w *world) (func() error, error) {
		return func() error { return w.UnhangDisk(name) }, w.HangDisk(name)
	}
}

// linkCut drops what goes from one machine to another, and back if both is set.
func linkCut(from, to string, both bool) func(*world) (func() error, error) {
	return func(*world) (func() error, error) {
		prefix, _ := rig.Inside()
		rules := fmt.Sprintf(`iifname "v%s" oifname "v%s" drop; `, from, to)
		if both {
			rules += fmt.Sprintf(`iifname "v%s" oifname "v%s" drop; `, to, from)
		}
		table := "table bridge fault { chain c { type filter hook forward priority -300; policy accept; " + rules + "}; }"
		return func() error { return nft(prefix, "delete table bridge fault") }, nft(prefix, table)
	}
}

func nft(prefix, command string) error {
	out, err := exec.Command("ip", "netns", "exec", prefix+"-br", "nft", command).CombinedOutput()
	if err != nil {
		return fmt.Errorf("nft %s: %w: %s", command, err, out)
	}
	return nil
}

// powerCut takes the power of data hosts away: of their disks is left what was
// synced, and with luck more.
func powerCut(names ...string) func(*world) (func() error, error) {
	return func(w *world) (func() error, error) {
		how := uint32(w.random.IntN(3)) // the kernel's flags: all, journal only, nothing but what was synced
		var errs []error
		for _, n := range names {
			errs = append(errs, shutDown(filepath.Join(w.home, n), how))
		}
		for _, n := range names {
			errs = append(errs, w.Kill(n))
		}
		return func() error {
			var errs []error
			for _, n := range names {
				errs = append(errs, remount(filepath.Join(w.home, n)))
			}
			return errors.Join(append(errs, w.startAll(names))...)
		}, errors.Join(errs...)
	}
}

func shutDown(dir string, how uint32) error {
	const ext4Shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cut the power: %w", err)
	}
	defer f.Close()
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		return fmt.Errorf("cut the power: %w", errno)
	}
	return nil
}

func remount(dir string) error {
	for _, args := range [][]string{{"umount", dir}, {"mount", "-o", "loop", dir + ".img", dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("restore the power: %w: %s", err, out)
		}
	}
	return nil
}
