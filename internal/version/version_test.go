package version

import (
	"runtime/debug"
	"testing"
)

func TestNoted(t *testing.T) {
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "d521a9a4c0de0123456789"}
	changed := debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	for _, c := range []struct {
		name     string
		settings []debug.BuildSetting
		want     string
	}{
		{"nothing is known", nil, "devel"},
		{"a revision", []debug.BuildSetting{revision, {Key: "vcs.modified", Value: "false"}}, "devel-d521a9a4c0de"},
		{"a revision that was changed", []debug.BuildSetting{changed, revision}, "devel-d521a9a4c0de-dirty"},
		{"changes of something unknown", []debug.BuildSetting{changed}, "devel"},
		{"a revision that is too short", []debug.BuildSetting{{Key: "vcs.revision", Value: "d521"}}, "devel"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := noted(c.settings); got != c.want {
				t.Errorf("noted: got %q, want %q", got, c.want)
			}
		})
	}
}
