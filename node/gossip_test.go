package node

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/conf"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/membership"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// testGossip is the gossip of dnode 1, which is not running.
func testGossip(log *bytes.Buffer) *gossip {
	g := newGossip(conf.Config{GossipPort: 7000}, nil, slog.New(slog.NewTextHandler(log, nil)))
	g.key.Store(&membership.Key{1})
	return g
}

func linkTo(n byte, boot uint64, addr string) peer.Link {
	return peer.Link{State: peer.LinkUp, Remote: peer.Remote{UUID: id.UUID{n}, Host: id.Host(n), Addr: addr, Start: peer.Start{Boot: boot}}}
}

// TestSought: members are sought where they are connected from, where they said
// that they gossip, and else where a configuration like this one's has it.
func TestSought(t *testing.T) {
	g := testGossip(&bytes.Buffer{})
	v := &mnode.View{Dnodes: []mnode.Dnode{
		{ID: 1, EndPoint: "a:1", UUID: id.UUID{1}}, {ID: 2, EndPoint: "b:1", UUID: id.UUID{2}}, {ID: 3, EndPoint: "c:1", UUID: id.UUID{3}},
		{ID: 4, EndPoint: "d:1"}, // admitted, was never here
	}}
	links := []peer.Link{linkTo(2, 5, "b2:1"), linkTo(9, 1, ""), {Remote: peer.Remote{UUID: id.UUID{3}, Host: 3}}}
	links[1].Remote.Host = 0 // the arbitrator
	where := func(d mnode.Dnode) []string { return []string{d.EndPoint} }
	expect := func(what string, want ...membership.Sought) {
		t.Helper()
		got := g.sought(v, id.UUID{1}, links, where)
		if !slices.EqualFunc(got, want, func(a, b membership.Sought) bool {
			return a.UUID == b.UUID && a.Dnode == b.Dnode && a.Linked == b.Linked && slices.Equal(a.Addrs, b.Addrs)
		}) {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	two := membership.Sought{UUID: id.UUID{2}, Dnode: 2, Linked: true, Addrs: []string{"b2:2", "b2:7000", "b:2", "b:7000"}}
	three := membership.Sought{UUID: id.UUID{3}, Dnode: 3, Addrs: []string{"c:2", "c:7000"}}
	expect("nobody was asked", two, three)
	if open := g.unasked(links); len(open) != 1 || open[0].Host != 2 {
		t.Errorf("asks %+v, want dnode 2 alone", open)
	}
	g.noteAnswer(links[0].Remote, gossipPlace{Port: 9, Print: membership.Key{1}.Print()})
	two.Addrs = []string{"b2:9", "b:9"}
	expect("the connected one has answered", two, three)
	if open := g.unasked(links); len(open) > 0 {
		t.Errorf("asks %+v again", open)
	}
	links[0].Remote.Start.Boot++
	if open := g.unasked(links); len(open) != 1 {
		t.Errorf("after its next start asks %+v, want dnode 2", open)
	}
	g.noteAnswer(links[0].Remote, gossipPlace{Port: 9, Print: membership.Key{2}.Print()})
	two.Linked = false // that it is not heard is explained
	expect("its key is another one", two, three)
}

// TestOtherKeyIsSaidOnce: and so is its end.
func TestOtherKeyIsSaidOnce(t *testing.T) {
	var log bytes.Buffer
	g := testGossip(&log)
	r := linkTo(2, 1, "b:1").Remote
	for boot, key := range []membership.Key{{1}, {2}, {2}, {1}, {1}} {
		r.Start.Boot = uint64(boot + 1)
		g.noteAnswer(r, gossipPlace{Port: 9, Print: key.Print()})
	}
	if lines := strings.Split(strings.TrimSpace(log.String()), "\n"); len(lines) != 2 ||
		!strings.Contains(lines[0], "different keys") || !strings.Contains(lines[1], "same again") {
		t.Errorf("the log says\n%s", &log)
	}
}

// TestGoneByConnection: a refused connection says that a process has ended, until
// it is connected again.
func TestGoneByConnection(t *testing.T) {
	g := testGossip(&bytes.Buffer{})
	r := linkTo(2, 1, "b:1").Remote
	for _, step := range []struct {
		state peer.LinkState
		want  string
	}{{peer.LinkUp, ""}, {peer.LinkDown, ""}, {peer.LinkRefused, "its process has ended"}, {peer.LinkUp, ""}} {
		g.linked(r, step.state)
		since, why := g.Gone(r.UUID)
		if why != step.want || since.IsZero() != (why == "") {
			t.Errorf("%v: gone since %v because %q, want %q", step.state, since, why, step.want)
		}
	}
}
