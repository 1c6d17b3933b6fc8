package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// What the checks say of a stale read.
const (
	historyWrong = "no order of its operations explains what was read"
	countWrong   = "fewer or more rows than were acknowledged"
)

// programParts are the parts of the tree that the programs are built from.
var programParts = []string{"go.mod", "go.sum", "arbitrator", "client", "cmd", "consensus", "internal", "mnode", "node", "vnode"}

// plant builds the programs with the bug of a patch, and runs this program
// against them: it must end because a client was told the past, which either the
// history shows or the count of rows. The checks know nothing of the bug.
func plant(patch string) (code int) {
	err := func() error {
		home, err := os.MkdirTemp("", "planted-")
		if err != nil {
			return fmt.Errorf("make a copy: %w", err)
		}
		defer os.RemoveAll(home)
		if err := buildPlanted(patch, home); err != nil {
			return err
		}
		args := []string{"-bin", filepath.Join(home, "bin"), "-dir", filepath.Join(home, "run")}
		for _, a := range os.Args[1:] {
			if name := strings.TrimLeft(a, "-"); !strings.HasPrefix(name, "plant=") {
				args = append(args, a)
			}
		}
		cmd := exec.Command(os.Args[0], args...)
		said, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return fmt.Errorf("run against the planted bug: %w", err)
		}
		for _, by := range []string{historyWrong, countWrong} {
			if strings.Contains(string(said), by) {
				fmt.Printf("%s: found: %s\n", filepath.Base(patch), by)
				return nil
			}
		}
		return fmt.Errorf("the bug of %s was not found:\n%s", patch, said)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 1
	}
	return 0
}

func buildPlanted(patch, home string) error {
	patch, err := filepath.Abs(patch)
	if err != nil {
		return fmt.Errorf("find the patch: %w", err)
	}
	tree := filepath.Join(home, "tree")
	if err := os.MkdirAll(tree, 0o700); err != nil {
		return fmt.Errorf("make a copy: %w", err)
	}
	for _, args := range [][]string{
		append(append([]string{"cp", "-r"}, programParts...), tree),
		{"git", "-C", tree, "apply", "-C1", "--whitespace=nowarn", patch},
		{"go", "build", "-C", tree, "-o", filepath.Join(home, "bin") + "/", "./cmd/..."},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return os.Mkdir(filepath.Join(home, "run"), 0o700)
}
