package host

import (
	"slices"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// told by gossip in these tests.
type heard struct {
	endPoint string
	since    time.Time
	why      string
}

func (h heard) EndPoint(id.UUID) string          { return h.endPoint }
func (h heard) Gone(id.UUID) (time.Time, string) { return h.since, h.why }
func hostWith(cfg Config, v *mnode.View) *Host {
	r := &Record{}
	r.now.Identity = Identity{UUID: id.UUID{1}, Cluster: 7, Dnode: 1}
	h := &Host{cfg: cfg, record: r}
	h.view.Store(v)
	return h
}

// TestAddrs: where another member is dialled, whoever of the two has moved.
func TestAddrs(t *testing.T) {
	v := &mnode.View{Dnodes: []mnode.Dnode{
		{ID: 1, EndPoint: "a:1", UUID: id.UUID{1}}, {ID: 2, EndPoint: "b:1", UUID: id.UUID{2}}, {ID: 3, EndPoint: "c:1", UUID: id.UUID{3}},
	}}
	for _, c := range []struct {
		name, own, first, second, heard string
		want                            []string
	}{
		{"nobody has moved", "a:1", "a:1", "b:1", "", []string{"b:1"}},
		{"heard where it was", "a:1", "a:1", "b:1", "b:1", []string{"b:1"}},
		{"heard elsewhere", "a:1", "a:1", "b:1", "b:2", []string{"b:2", "b:1"}},
		{"both have moved", "a:2", "a:2", "b:2", "", []string{"b:1", "b:2"}},
		{"firstEp is another member", "a:1", "c:1", "", "", []string{"b:1"}},
		{"the two have swapped", "b:1", "a:1", "b:1", "", []string{"a:1"}},
		{"heard where a third was", "a:1", "a:1", "", "c:1", []string{"c:1", "b:1"}},
	} {
		h := hostWith(Config{EndPoint: c.own, FirstEP: c.first, SecondEP: c.second, Hints: heard{endPoint: c.heard}}, v)
		if got := h.Addrs(v.Dnodes[1]); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	h := hostWith(Config{EndPoint: "a:2", FirstEP: "a:1"}, v)
	h.others.Store(&[]string{"b:2", "c:1"})
	if got, want := h.Addrs(v.Dnodes[1]), []string{"b:1", "a:1", "b:2"}; !slices.Equal(got, want) {
		t.Errorf("told by the arbitrator: %q, want %q", got, want)
	}
	if got := hostWith(Config{EndPoint: "a:1", FirstEP: "a:1"}, v).Addrs(v.Dnodes[1]); !slices.Equal(got, []string{"b:1"}) {
		t.Errorf("without hints: %q", got)
	}
}

// TestVanished: a hint counts until the host is heard again.
func TestVanished(t *testing.T) {
	now := time.Unix(100, 0)
	for _, c := range []struct {
		name  string
		hints Hints
		heard time.Time
		want  string
	}{
		{"no hints at all", nil, now, ""},
		{"nothing is known", heard{}, now, ""},
		{"gone after its last report", heard{since: now, why: "it does not answer"}, now.Add(-time.Second), "it does not answer"},
		{"heard after the hint", heard{since: now, why: "it does not answer"}, now.Add(time.Second), ""},
	} {
		if got := hostWith(Config{Hints: c.hints}, &mnode.View{}).vanished(id.UUID{2}, c.heard); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
