package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is one program that the rig has started.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once it has ended
}

// Start starts one program in its namespace.
func (r *Rig) Start(name string) error {
	words := []string{filepath.Join(r.bin, "tnode"), "start", "-c", r.conf(name)}
	if name == Arbitrator {
		words = []string{filepath.Join(r.bin, "tarbitrator"), "--data-dir", filepath.Join(r.data(name), dataName)}
	}
	if name == r.apart {
		words = append([]string{"taskset", "--cpu-list", strconv.Itoa(runtime.NumCPU() - 1)}, words...)
	}
	words = r.net.in(name, words...)
	log, err := os.OpenFile(r.Log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer log.Close() // the child has its own
	p := &process{cmd: exec.Command(words[0], words[1:]...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is read from ProcessState
		close(p.done)
	}()
	r.procs[name] = p
	return nil
}

// Running reports whether a machine's program was started and has not ended.
func (r *Rig) Running(name string) bool {
	p := r.procs[name]
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Pid is the process of a machine.
func (r *Rig) Pid(name string) int { return r.procs[name].cmd.Process.Pid }

// Kill ends a process at once and waits until it is gone.
func (r *Rig) Kill(name string) error {
	_, err := r.end(name, syscall.SIGKILL, time.Minute)
	return err
}

// Terminate asks a process to stop, waits until it has, and returns its exit
// code.
func (r *Rig) Terminate(name string) (code int, err error) {
	return r.end(name, syscall.SIGTERM, 30*time.Second)
}

// Ended waits for a process that ends by itself and returns its exit code.
func (r *Rig) Ended(name string, within time.Duration) (code int, err error) {
	return r.end(name, 0, within)
}

func (r *Rig) end(name string, with syscall.Signal, within time.Duration) (code int, err error) {
	p := r.procs[name]
	if p == nil {
		return 0, nil
	}
	if with != 0 {
		if err := p.cmd.Process.Signal(with); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return 0, fmt.Errorf("end %s: %w", name, err)
		}
	}
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-p.done:
		delete(r.procs, name)
		return p.cmd.ProcessState.ExitCode(), nil
	case <-late.C:
		return 0, fmt.Errorf("%s has not ended within %v", name, within)
	}
}

// Freeze stops a process without ending it; Thaw lets it go on.
func (r *Rig) Freeze(name string) error { return r.signal(name, syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (r *Rig) Thaw(name string) error { return r.signal(name, syscall.SIGCONT) }

func (r *Rig) signal(name string, s syscall.Signal) error {
	p := r.procs[name]
	if p == nil {
		return fmt.Errorf("%s does not run", name)
	}
	return p.cmd.Process.Signal(s)
}

// Log is the file with everything that a machine's processes printed.
func (r *Rig) Log(name string) string { return filepath.Join(r.dir, name+".log") }

// Logged reports whether a machine's processes have printed a text.
func (r *Rig) Logged(name, text string) bool {
	log, err := os.ReadFile(r.Log(name))
	return err == nil && strings.Contains(string(log), text)
}

// ResidentBytes is the memory that a process holds now.
func (r *Rig) ResidentBytes(name string) (uint64, error) {
	resident, _, err := Memory(r.Pid(name))
	return resident, err
}

// Memory is what a process holds in memory, and how much of that is its own: the
// rest are pages of files, which the kernel takes back when it needs them.
func Memory(pid int) (resident, own uint64, err error) {
	if resident, err = statusOf(pid, "VmRSS: %d kB"); err != nil {
		return 0, 0, err
	}
	own, err = statusOf(pid, "RssAnon: %d kB")
	return resident << 10, own << 10, err
}

// statusOf is one line of what the kernel says of a process.
func statusOf(pid int, line string) (uint64, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err // it names the file
	}
	for l := range strings.Lines(string(content)) {
		var n uint64
		if found, _ := fmt.Sscanf(l, line, &n); found == 1 {
			return n, nil
		}
	}
	return 0, fmt.Errorf("no %q in %s", line, path)
}

// DiskWritten is how many bytes the disk under a directory has been given to
// write so far, by everybody on this machine. (What the kernel counts for a
// process is of no use: it takes a page written for the whole folio around it.)
func DiskWritten(dir string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, fmt.Errorf("find the disk of %s: %w", dir, err)
	}
	path := fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(st.Dev), unix.Minor(st.Dev))
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err // it names the file
	}
	const at, sector = 6, 512 // docs of the kernel: block/stat
	fields := strings.Fields(string(content))
	if len(fields) <= at {
		return 0, fmt.Errorf("%s has %d fields", path, len(fields))
	}
	n, err := strconv.ParseUint(fields[at], 10, 64)
	return n * sector, err
}
