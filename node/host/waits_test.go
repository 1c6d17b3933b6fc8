package host

import (
	"fmt"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

func TestWaits(t *testing.T) {
	a, b, w := id.UUID{1}, id.UUID{2}, id.UUID{3}
	pair := mnode.Group{Members: []mnode.Member{{Replica: 1, UUID: a, Dnode: 1}, {Replica: 2, UUID: b, Dnode: 2}, {Replica: 3, UUID: w, Witness: true}}}
	for _, c := range []struct {
		name   string
		linked map[id.UUID]bool
		want   string
	}{
		{"everybody is there", map[id.UUID]bool{a: true, w: true}, ""},
		{"the other host is away", map[id.UUID]bool{w: true}, "dnode 1 (h1:6030)"},
		{"the arbitrator is away", map[id.UUID]bool{a: true}, "the arbitrator (h9:6042)"},
		{"cut off", nil, "dnode 1 (h1:6030) or the arbitrator (h9:6042)"},
	} {
		got := waits(pair, b, c.linked, func(d id.Host) string { return fmt.Sprintf("h%d:6030", d) }, "h9:6042")
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
