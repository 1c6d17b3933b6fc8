package lint

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var (
	longTest    = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\) \{\n\ttakesLong\(t\)`)
	longPattern = regexp.MustCompile(`\./test/e2e -run "([^"]+)" -long`)
)

// TestEveryLongTestRuns: what "make test" skips as too long "make replace" runs.
func TestEveryLongTestRuns(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	found := longPattern.FindSubmatch(makefile)
	if found == nil {
		t.Fatalf("no line of the Makefile looks like %s", longPattern)
	}
	runs, err := regexp.Compile(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../e2e/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	long := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range longTest.FindAllSubmatch(b, -1) {
			long++
			if !runs.Match(m[1]) {
				t.Errorf("%s in %s is long, and %q of make replace does not match it: nobody runs it", m[1], filepath.Base(f), runs)
			}
		}
	}
	if long < 5 {
		t.Errorf("%d long tests: are they still marked by takesLong?", long)
	}
}
