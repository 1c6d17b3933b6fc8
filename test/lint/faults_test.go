package lint

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const faultsTable = "../../docs/operate/faults.md"

// TestEveryFaultHasItsTest: every row of the table of faults names tests that
// exist, and every test of test/faults has a row.
func TestEveryFaultHasItsTest(t *testing.T) {
	page, err := os.ReadFile(faultsTable)
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| fault |") || strings.HasPrefix(line, "| --- |") {
			continue
		}
		rows++
		if len(cells) != 4 {
			t.Errorf("%d cells, want 4: %s", len(cells), line)
			continue
		}
		for guard := range strings.SplitSeq(strings.TrimSpace(cells[3]), ", ") {
			named[guard] = true
			if err := guarded(guard); err != nil {
				t.Errorf("%s: %v", strings.TrimSpace(cells[0]), err)
			}
		}
	}
	if rows < 20 {
		t.Errorf("%d rows: is this still the table of faults?", rows)
	}
	for _, name := range testsIn(t, "../faults") {
		if !named["test test/faults "+name] {
			t.Errorf("test/faults %s has no row in docs/operate/faults.md", name)
		}
	}
}

// guarded reports whether the test that a row names exists: "test DIR NAME" or
// "scenario NAME".
func guarded(guard string) error {
	switch words := strings.Fields(guard); {
	case len(words) == 3 && words[0] == "test":
		return contains("../../"+words[1]+"/*_test.go", "func "+words[2]+"(")
	case len(words) == 2 && words[0] == "scenario":
		return contains("../../test/sim/*.go", `"`+words[1]+`"`)
	}
	return fmt.Errorf("%q names no test", guard)
}

func contains(pattern, text string) error {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if strings.Contains(string(b), text) {
			return nil
		}
	}
	return fmt.Errorf("no %s in %s", text, pattern)
}

var testFunction = regexp.MustCompile(`(?m)^func (Test[A-Z]\w*)\(t \*testing\.T\)`)

func testsIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", dir, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testFunction.FindAllStringSubmatch(string(b), -1) {
			names = append(names, m[1])
		}
	}
	return names
}
