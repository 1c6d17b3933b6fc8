package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
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
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.Pid(name)))
	if err != nil {
		return 0, fmt.Errorf("read memory of %s: %w", name, err)
	}
	for line := range strings.Lines(string(status)) {
		var kb uint64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("no VmRSS of %s", name)
}
