package query

import (
	"testing"

	"github.com/tarbitrator/tarbitrator/node/host"
)

// TestCopied: what SHOW VGROUPS says of copies, for an operator who waits.
func TestCopied(t *testing.T) {
	g := host.GroupRow{Members: []host.MemberRow{{Dnode: 1}, {Dnode: 2}}}
	if got := copied(g); got != "" {
		t.Errorf("no copy: %q", got)
	}
	g.Members[1].Copy = host.Copy{Done: 450_000_000, Bytes: 1_000_000_000}
	if got, want := copied(g), "dnode 2: 45 % of 1000 MB"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	g.Members[0].Copy = host.Copy{Bytes: 1}
	if got, want := copied(g), "dnode 1: 0 % of 1 MB, dnode 2: 45 % of 1000 MB"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
