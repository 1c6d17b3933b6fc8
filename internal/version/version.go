// Package version says which build a program is: what tells two programs apart
// during an upgrade. It is not the generation of the dialect, which clients ask
// for with SERVER_VERSION().
package version

import "runtime/debug"

// build is set by the linker: make build writes what git describes.
var build string

// Build is the version that the linker set, or else the revision that the Go
// command noted, or else "devel".
func Build() string {
	if build != "" {
		return build
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	return noted(info.Settings)
}

// revisionDigits name a revision of this tree without doubt.
const revisionDigits = 12

func noted(settings []debug.BuildSetting) string {
	name, changed := "devel", ""
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= revisionDigits:
			name = "devel-" + s.Value[:revisionDigits]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "-dirty"
		}
	}
	if name == "devel" {
		return name // what was changed is not known either
	}
	return name + changed
}
