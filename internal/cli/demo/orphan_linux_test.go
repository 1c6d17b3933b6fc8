package demo

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// parentLog makes this test binary a demo that starts one child and is killed.
const (
	parentLog   = "TARBITRATOR_DEMO_PARENT"
	parentKeeps = "TARBITRATOR_DEMO_KEEPS"
)

func TestMain(m *testing.M) {
	if log := os.Getenv(parentLog); log != "" {
		p := &process{name: "child", path: "/bin/sleep", args: []string{"600"}, log: log, keep: os.Getenv(parentKeeps) != ""}
		if err := p.start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.pid())
		<-p.done
		return
	}
	os.Exit(m.Run())
}

// A demo that is killed leaves no servers behind, unless they are to be kept.
func TestChildrenDieWithTheDemo(t *testing.T) {
	stat, _ := killedParent(t)
	for end := time.Now().Add(30 * time.Second); runs(stat); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the child still runs 30 s after the demo was killed")
		}
	}
	stat, pid := killedParent(t, parentKeeps+"=1")
	defer syscall.Kill(pid, syscall.SIGKILL)
	time.Sleep(100 * time.Millisecond) // the one above needed less
	if !runs(stat) {
		t.Error("a child that is to be kept has ended with the demo")
	}
}

// killedParent starts a demo with one child, kills the demo, and names the child.
func killedParent(t *testing.T, env ...string) (stat string, pid int) {
	t.Helper()
	parent := exec.Command(os.Args[0])
	parent.Env = append(append(os.Environ(), parentLog+"="+filepath.Join(t.TempDir(), "log")), env...)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	if stat = filepath.Join("/proc", strconv.Itoa(pid), "stat"); !runs(stat) {
		t.Fatalf("the child does not run: %q", line)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	return stat, pid
}

// runs reports whether a process is there and no zombie.
func runs(stat string) bool {
	b, err := os.ReadFile(stat)
	_, state, ok := strings.Cut(string(b), ") ")
	return err == nil && ok && state[0] != 'Z' && state[0] != 'X'
}
