package rig

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// insideKey marks a process that runs where it can reach the hosts of its rigs;
// binKey tells it where Tests has built the programs.
const (
	insideKey = "RIG_PREFIX"
	binKey    = "RIG_BIN"
)

// Inside reports whether this process runs where it can make rigs, and what
// their names begin with.
func Inside() (prefix string, ok bool) {
	prefix = os.Getenv(insideKey)
	return prefix, prefix != ""
}

// Main is the main function of a program that needs rigs: it runs the program
// again in a network of its own, and there calls run. It ends the process with
// code 1 when run fails.
func Main(run func(ctx context.Context) error) {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if _, ok := Inside(); !ok {
		code, err := Enter(ctx)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Tests is what a TestMain hands its tests to: they run in a network of their
// own, against programs built from this tree (Bin). Without -rig, or without
// root, it says so and runs none.
func Tests(m interface{ Run() int }) int {
	wanted := flag.Bool("rig", false, "run the tests of whole clusters in network namespaces, as root")
	flag.Parse()
	switch _, inside := Inside(); {
	case inside:
		return m.Run()
	case !*wanted:
		fmt.Println("skipped: these tests run whole clusters in network namespaces; they need root and -rig")
		return 0
	case os.Geteuid() != 0:
		fmt.Println("skipped: network namespaces and disks of their own need root")
		return 0
	}
	code, err := enterBuilt()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

func enterBuilt() (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "rig-bin-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	build := exec.CommandContext(ctx, "go", "build", "-o", dir, module+"/cmd/...")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the programs: %w: %s", err, out)
	}
	if err := os.Setenv(binKey, dir); err != nil {
		return 1, err
	}
	return Enter(ctx)
}

const module = "github.com/tarbitrator/tarbitrator"

// Bin is the directory with the programs that Tests has built.
func Bin() string { return os.Getenv(binKey) }

// Enter runs this program again with the same arguments, in a network namespace
// and with mounts of its own. It returns that program's exit code.
func Enter(ctx context.Context) (int, error) {
	prefix := fmt.Sprintf("rig%d", os.Getpid())
	client := namespace(prefix, clientName)
	defer removeNamespaces(prefix)
	if err := runAll("ip netns add "+client, "ip -n "+client+" link set lo up"); err != nil {
		return 1, fmt.Errorf("make a network: %w", err)
	}
	program, err := filepath.Abs(os.Args[0])
	if err != nil {
		return 1, err
	}
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", client, program}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), insideKey+"="+prefix)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1), nil
	}
	return 1, err
}

// run runs one command, its words divided by spaces.
func run(line string) error {
	words := strings.Fields(line)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// runAll runs commands until one fails.
func runAll(lines ...string) error {
	for _, l := range lines {
		if err := run(l); err != nil {
			return err
		}
	}
	return nil
}
