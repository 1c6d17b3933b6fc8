package demo

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// parentLog makes this test binary a demo that starts one child and is killed.
const parentLog = "TARBITRATOR_DEMO_PARENT"

func TestMain(m *testing.M) {
	if log := os.Getenv(parentLog); log != "" {
		p := &process{name: "child", path: "/bin/sleep", args: []string{"600"}, log: log}
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

// A demo that is killed leaves no servers behind.
func TestChildrenDieWithTheDemo(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentLog+"="+filepath.Join(t.TempDir(), "log"))
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
	stat := filepath.Join("/proc", strings.TrimSpace(line), "stat")
	if !runs(stat) {
		t.Fatalf("the child does not run: %q", line)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	for end := time.Now().Add(30 * time.Second); runs(stat); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the child still runs 30 s after the demo was killed")
		}
	}
}

// runs reports whether a process is there and no zombie.
func runs(stat string) bool {
	b, err := os.ReadFile(stat)
	_, state, ok := strings.Cut(string(b), ") ")
	return err == nil && ok && state[0] != 'Z' && state[0] != 'X'
}
