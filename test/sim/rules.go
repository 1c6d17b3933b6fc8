package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// rulesFile states the rules and names the test of each.
const rulesFile = "docs/quorum.md"

// allRules lists the rules that must be there: R1 to R46, R10b and R11b.
func allRules() []string {
	var list []string
	for n := uint64(1); n <= 46; n++ {
		list = append(list, "R"+itoa(n))
		if n == 10 || n == 11 {
			list = append(list, "R"+itoa(n)+"b")
		}
	}
	return list
}

// printRules prints the table of rules and their tests. It is an error if a rule
// has no words or no test, or if a test that is named does not exist.
func printRules(out io.Writer, file string) error {
	root := filepath.Dir(filepath.Dir(file))
	words, guards, err := readRules(file)
	if err != nil {
		return err
	}
	var bad []string
	unbuilt := 0
	for _, r := range allRules() {
		g := guards[r]
		switch {
		case !words[r]:
			bad = append(bad, r+" is not stated")
		case g == "":
			bad = append(bad, r+" has no test")
		case strings.HasPrefix(g, "not built"):
			unbuilt++
		default:
			for guard := range strings.SplitSeq(g, ", ") {
				if err := checkGuard(root, guard); err != nil {
					bad = append(bad, fmt.Sprintf("%s: %v", r, err))
				}
			}
		}
		fmt.Fprintf(out, "%-5s %s\n", r, g)
	}
	fmt.Fprintf(out, "%d rules, %d of them not built yet\n", len(allRules()), unbuilt)
	if len(bad) > 0 {
		return fmt.Errorf("%s: %s", file, strings.Join(bad, "; "))
	}
	return nil
}

var (
	statement = regexp.MustCompile(`^\*\*(R\d+b?)\.\*\* \S`)
	row       = regexp.MustCompile(`^\| (R\d+b?) \| (.*) \|$`)
)

// readRules finds which rules the file states, and the test that it names for
// each.
func readRules(file string) (words map[string]bool, guards map[string]string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, fmt.Errorf("open the rules (run it from the root of the tree): %w", err)
	}
	defer f.Close()
	words, guards = map[string]bool{}, map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if m := statement.FindStringSubmatch(lines.Text()); m != nil {
			words[m[1]] = true
		}
		if m := row.FindStringSubmatch(lines.Text()); m != nil {
			guards[m[1]] = strings.TrimSpace(m[2])
		}
	}
	if err := lines.Err(); err != nil {
		return nil, nil, fmt.Errorf("read the rules: %w", err)
	}
	return words, guards, nil
}

// checkGuard reports whether the test that a rule names exists.
func checkGuard(root, guard string) error {
	kind, rest, _ := strings.Cut(guard, " ")
	name, planted := strings.CutPrefix(guard, "planted/")
	switch {
	case planted:
		_, err := os.Stat(filepath.Join(root, "test/sim/planted", name+".patch"))
		return err
	case kind == "scenario":
		_, err := find(rest)
		return err
	case kind == "story":
		_, err := os.Stat(filepath.Join(root, rest))
		return err
	case kind == "test":
		dir, test, _ := strings.Cut(rest, " ")
		return checkTest(filepath.Join(root, dir), test)
	}
	return fmt.Errorf("%q is no test", guard)
}

func checkTest(dir, test string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return err
	}
	found := slices.ContainsFunc(files, func(f string) bool {
		b, err := os.ReadFile(f)
		return err == nil && strings.Contains(string(b), "func "+test+"(")
	})
	if !found {
		return fmt.Errorf("no %s in %s", test, dir)
	}
	return nil
}
