package lint

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// named is a path of this tree in the text of a page, or a pattern of some. A dot
// that ends a sentence is no part of it.
var named = regexp.MustCompile(`(?:^|[^\w./-])((?:arbitrator|client|cmd|consensus|docs|internal|mnode|node|test|tools|vnode)(?:/[\w*-]+)+(?:\.(?:golden|go|md|txt|patch|mod|proto))?)`)

// TestNamedPaths: a package or a file that a page names exists. Pages outlive
// the files that they speak of.
func TestNamedPaths(t *testing.T) {
	names := 0
	for _, page := range pages(t) {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(b), -1) {
			names++
			found, err := filepath.Glob(filepath.Join("../..", m[1]))
			if err != nil || len(found) == 0 {
				t.Errorf("%s names %s, which is not there", page, m[1])
			}
		}
	}
	if names < 50 {
		t.Errorf("only %d paths found: does the pattern still match?", names)
	}
}

// TestArchitectureNamesEveryPackage: who reads the floors has seen every package
// that is a part of the product.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	b, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(b))
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(name, "test/") || strings.HasPrefix(name, "internal/cli/") || name == "internal/wal/waltest" {
			continue // they serve tests, or are named as a family
		}
		short := strings.TrimPrefix(name, "internal/")
		if !slices.Contains(words, name) && !slices.Contains(words, short) {
			t.Errorf("ARCHITECTURE.md does not name %s", name)
		}
	}
}

// pages lists every page of the tree.
func pages(t *testing.T) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "../..":
			return fs.SkipDir
		case filepath.Ext(path) == ".md":
			list = append(list, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 5 {
		t.Errorf("only %d pages found", len(list))
	}
	return list
}
