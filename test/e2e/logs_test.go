package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stuckPipe returns both ends of a pipe that holds as much as it can.
func stuckPipe(t *testing.T) (reader, writer *os.File) {
	t.Helper()
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	reader, writer = os.NewFile(uintptr(fds[0]), "reader"), os.NewFile(uintptr(fds[1]), "writer")
	t.Cleanup(func() {
		reader.Close()
		writer.Close()
	})
	err := syscall.SetNonblock(fds[1], true)
	for size := 4096; err == nil && size > 0; size /= 2 {
		for err == nil {
			_, err = syscall.Write(fds[1], bytes.Repeat([]byte("\n"), size))
		}
		if errors.Is(err, syscall.EAGAIN) {
			err = nil
		}
	}
	if err == nil {
		err = syscall.SetNonblock(fds[1], false)
	}
	if err != nil {
		t.Fatal(err)
	}
	return reader, writer
}

// TestNobodyReadsStandardError: what the programs print goes into a full pipe
// that nobody empties, as when journald or a container's runtime stands still.
// They serve, replace a master that dies, and stop when they are told to; what
// they say is in logDir all the same.
func TestNobodyReadsStandardError(t *testing.T) {
	_, writer := stuckPipe(t)
	arb := newArbitrator(t).startWith(writer)
	a := newHost(t, "", arb.peer).startWith(writer)
	b := newHost(t, a.peer, arb.peer).startWith(writer)
	client := joined(t, a, b)
	query(t, client, "CREATE DATABASE d REPLICA 2")
	query(t, client, "CREATE TABLE d.t (ts TIMESTAMP, n BIGINT)")
	await(t, "the pair is in sync", func() bool { return only(t, client, "SHOW VGROUPS", "mode", "sync") })
	a.end(syscall.SIGKILL)
	query(t, client, "INSERT INTO d.t VALUES (1700000000000, 1)")
	b.stops()
	arb.stops()
	log, err := os.ReadFile(filepath.Join(b.dir, "log", "tnode.log"))
	if err != nil || !strings.Contains(string(log), "msg=stopped") {
		t.Errorf("the log of the second host does not say that it stopped: %v\n%s", err, log)
	}
}

// TestReaderOfStandardErrorIsDead: a broken pipe ends neither program.
func TestReaderOfStandardErrorIsDead(t *testing.T) {
	reader, writer := stuckPipe(t)
	reader.Close()
	arb := newArbitrator(t).startWith(writer)
	h := newHost(t, "", arb.peer).startWith(writer)
	h.serving()
	h.stops()
	arb.stops()
}

// TestStartWithoutLogDir: a host whose logDir does not answer starts, says so,
// and serves. Here the log is a named pipe, whose opening waits for a reader.
func TestStartWithoutLogDir(t *testing.T) {
	h := newHost(t, "", "")
	path := filepath.Join(h.dir, "log", "tnode.log")
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o700), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	h.start().serving()
	if out, err := os.ReadFile(h.log); err != nil || !strings.Contains(string(out), "the disk of logDir does not answer") {
		t.Errorf("standard error does not say that logDir is missing: %v\n%s", err, out)
	}
	h.stops()
}

// stops tells a process to stop, which must end it with exit code 0.
func (p *process) stops() {
	p.t.Helper()
	if code := p.end(syscall.SIGTERM); code != 0 {
		p.t.Errorf("%s ended with exit code %d, want 0", p.name, code)
	}
}

// TestExitWithoutStandardError: a program that can't start ends with its exit
// code, although nobody takes the reason.
func TestExitWithoutStandardError(t *testing.T) {
	_, writer := stuckPipe(t)
	h, arb := newHost(t, "", ""), newArbitrator(t)
	defer occupy(t, "tcp", h.portOf("httpPort"))()
	defer occupy(t, "tcp", arb.peer)()
	for _, p := range []*process{h, arb} {
		p.startWith(writer)
		late := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() })
		if code := p.end(syscall.Signal(0)); code != 1 {
			t.Errorf("%s ended with exit code %d, want 1", p.name, code)
		}
		late.Stop()
	}
}
