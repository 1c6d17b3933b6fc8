package main

import (
	"path/filepath"
	"testing"
)

// A patch that no longer applies proves nothing: it is cut again in the commit
// that moves its place.
func TestEveryPatchApplies(t *testing.T) {
	const root = "../../.."
	files, err := filepath.Glob(filepath.Join(root, patches, "*.patch"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no patches in %s: %v", patches, err)
	}
	for _, f := range files {
		absolute, err := filepath.Abs(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := in(root, "git", "apply", "--check", "-C1", absolute); err != nil {
			t.Error(err)
		}
	}
}
