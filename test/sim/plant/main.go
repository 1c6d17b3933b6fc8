// Command plant proves that the simulation has teeth: it plants one bug at a time
// into a copy of the tree and runs the ordinary simulation until its ordinary
// checks find it.
//
// It knows nothing about the bugs, and neither does the simulation: a bug is a
// patch in test/sim/planted, named for the rule that it takes out.
//
//	go run ./test/sim/plant                  every patch
//	go run ./test/sim/plant -only above-cap  one of them
//	go run ./test/sim/plant -record docs/benchmarks/planted.md
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// parts of the tree that a simulation is built from.
var parts = []string{"go.mod", "go.sum", "consensus", "arbitrator", "internal", "vnode/repeat", "test/sim"}

const patches = "test/sim/planted"

func main() {
	only := flag.String("only", "", "plant only this `name`")
	seeds := flag.Int("seeds", 2000, "give up after so many seeds")
	from := flag.Int("from", 1, "first `seed`")
	record := flag.String("record", "", "write the table to this `file` too")
	flag.Parse()
	if err := run(*only, *from, *seeds, *record); err != nil {
		fmt.Fprintln(os.Stderr, "plant:", err)
		os.Exit(1)
	}
}

func run(only string, from, seeds int, record string) error {
	files, err := filepath.Glob(filepath.Join(patches, "*.patch"))
	if err != nil {
		return fmt.Errorf("list patches: %w", err)
	}
	if len(files) == 0 {
		return fmt.Errorf("no patches in %s: run it from the root of the tree", patches)
	}
	var table bytes.Buffer
	out := io.MultiWriter(os.Stdout, &table)
	fmt.Fprintf(out, "| planted bug | rule | seeds until found | found by | took |\n| --- | --- | --- | --- | --- |\n")
	missed := 0
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".patch")
		if only != "" && name != only {
			continue
		}
		start := time.Now()
		rule, found, err := plant(f, from, seeds)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if found.by == "" {
			missed++
			found.by, found.seed = "NOT FOUND", from+seeds
		}
		fmt.Fprintf(out, "| %s | %s | %d | %s | %.0f s |\n", name, rule, found.seed-from+1, found.by, time.Since(start).Seconds())
	}
	if record != "" {
		if err := os.WriteFile(record, append([]byte(title), table.Bytes()...), 0o644); err != nil {
			return fmt.Errorf("write the table: %w", err)
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d planted bugs were not found", missed)
	}
	return nil
}

const title = `# Planted bugs

Each is a patch in test/sim/planted; none is known to the simulation. Written by
` + "`go run ./test/sim/plant -record docs/benchmarks/planted.md`" + `.

`

// finding is the first seed that fails, and what it says.
type finding struct {
	seed int
	by   string
}

var failed = regexp.MustCompile(`FAILED seed (\d+) \(([^)]+)\) after [\d.]+ s: ([^:]+):`)

// plant applies one patch to a copy of the tree and runs the copy.
func plant(patch string, from, seeds int) (rule string, found finding, err error) {
	text, err := os.ReadFile(patch)
	if err != nil {
		return "", found, fmt.Errorf("read the patch: %w", err)
	}
	rule = "?"
	if first, _, ok := strings.Cut(string(text), ":"); ok {
		rule = first
	}
	dir, err := os.MkdirTemp("", "planted-")
	if err != nil {
		return "", found, fmt.Errorf("make a copy: %w", err)
	}
	defer os.RemoveAll(dir)
	for _, p := range parts {
		if err := copyPart(p, filepath.Join(dir, p)); err != nil {
			return "", found, fmt.Errorf("copy %s: %w", p, err)
		}
	}
	absolute, err := filepath.Abs(patch)
	if err != nil {
		return "", found, fmt.Errorf("find the patch: %w", err)
	}
	if err := in(dir, "git", "apply", "-C1", "--whitespace=nowarn", absolute); err != nil {
		return "", found, fmt.Errorf("the patch no longer applies: %w", err)
	}
	if err := in(dir, "go", "build", "-o", "sim", "./test/sim"); err != nil {
		return "", found, err
	}
	cmd := exec.Command(filepath.Join(dir, "sim"), "-procs", "1", "-from", fmt.Sprint(from), "-seeds", fmt.Sprint(seeds))
	cmd.Dir = dir
	said, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", found, fmt.Errorf("run the simulation: %w", err)
	}
	if m := failed.FindStringSubmatch(string(said)); m != nil {
		if _, err := fmt.Sscan(m[1], &found.seed); err != nil {
			return "", found, fmt.Errorf("read the failing seed %q: %w", m[1], err)
		}
		found.by = m[3] + " in " + m[2]
	}
	return rule, found, nil
}

func copyPart(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.CopyFS(to, os.DirFS(from))
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}

func in(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}
