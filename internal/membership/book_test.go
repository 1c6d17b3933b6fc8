package membership

import (
	"slices"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

func TestBook(t *testing.T) {
	at := func(n byte, start uint64, s State, endPoint string) Host {
		return Host{UUID: uuid(n), Dnode: id.Host(n), Start: start, State: s, EndPoint: endPoint}
	}
	b := newBook(uuid(1))
	for _, step := range []struct {
		what string
		news Host
		is   bool
	}{
		{"itself is no news", at(1, 1, Alive, "a:1"), false},
		{"gone before anyone listened", at(2, 1, Silent, "b:1"), false},
		{"found", at(2, 1, Alive, "b:1"), true},
		{"found again", at(2, 1, Alive, "b:1"), false},
		{"silent", at(2, 1, Silent, "b:1"), true},
		{"alive again", at(2, 1, Alive, "b:1"), true},
		{"a later start elsewhere", at(2, 3, Alive, "b:2"), true},
		{"the end of an earlier start", at(2, 1, Silent, "b:1"), false},
		{"the end of a start that was never heard", at(2, 4, Left, "b:3"), false},
		{"left", at(2, 3, Left, "b:2"), true},
	} {
		before := b.hosts[step.news.UUID]
		if got := b.note(step.news); got != step.is {
			t.Errorf("%s: news %v, want %v", step.what, got, step.is)
		}
		if want := step.news; step.is && b.hosts[want.UUID] != want {
			t.Errorf("%s: the book says %+v", step.what, b.hosts[want.UUID])
		} else if !step.is && b.hosts[want.UUID] != before {
			t.Errorf("%s: the book has changed to %+v", step.what, b.hosts[want.UUID])
		}
	}
	for n := range 2 * maxHosts {
		b.note(at(byte(n), 1, Alive, "x:1"))
	}
	if len(b.hosts) > maxHosts {
		t.Errorf("%d hosts in the book, at most %d", len(b.hosts), maxHosts)
	}
}

func TestSeeker(t *testing.T) {
	s, now := newSeeker(), time.Unix(1, 0)
	alive := map[id.UUID]bool{}
	look := func() []string { return s.look(now, func(u id.UUID) bool { return alive[u] }) }
	expect := func(what string, want ...string) {
		t.Helper()
		if got := look(); !slices.Equal(got, want) {
			t.Errorf("%s: looks at %q, want %q", what, got, want)
		}
	}
	expect("nobody is sought")
	list := []Sought{{UUID: uuid(2), Addrs: []string{"b:1", "f:1"}}, {UUID: uuid(3), Addrs: []string{"c:1", "f:1"}}}
	s.seek(now, list)
	expect("at once, each address once", "b:1", "f:1", "c:1")
	expect("too early")
	var waits []time.Duration
	for range 8 {
		wait := s.again(now)
		waits = append(waits, wait)
		now = now.Add(wait)
		if len(look()) == 0 {
			t.Fatalf("does not look again after %v", wait)
		}
	}
	if waits[0] != seekFirst || waits[7] != seekMost || !slices.IsSorted(waits) {
		t.Errorf("waits %v, want %v growing to %v", waits, seekFirst, seekMost)
	}
	alive[uuid(2)] = true
	s.seek(now, []Sought{list[0], {UUID: uuid(3), Linked: true, Addrs: []string{"c:1"}}})
	expect("what is sought has changed: only who is missing, at once", "c:1")
	s.seek(now, []Sought{list[0], {UUID: uuid(3), Linked: true, Addrs: []string{"c:1"}}})
	expect("told the same again: no reason to hurry")
	alive[uuid(3)] = true
	expect("all are there")
	if got := s.again(now); got != idle {
		t.Errorf("looks again after %v although all are there, want %v", got, idle)
	}
	alive[uuid(2)] = false
	expect("one is lost: at once", "b:1", "f:1")
}

// TestBlocked: silence of gossip about a host that is connected is told once,
// and its end once.
func TestBlocked(t *testing.T) {
	s, now := newSeeker(), time.Unix(1, 0)
	heard := false
	news := func() []blockage { return s.blocked(now, func(id.UUID) bool { return heard }) }
	host := Sought{UUID: uuid(2), Dnode: 2}
	s.seek(now, []Sought{host})
	now = now.Add(time.Hour)
	if got := news(); len(got) > 0 {
		t.Errorf("a host that is down: %v", got)
	}
	host.Linked = true
	s.seek(now, []Sought{host})
	if got := news(); len(got) > 0 {
		t.Errorf("only just connected: %v", got)
	}
	now = now.Add(s.again(now))
	if got := news(); len(got) != 1 || got[0].over {
		t.Errorf("after %v: %v, want one blockage", blockedAfter, got)
	}
	now = now.Add(time.Hour)
	if got := news(); len(got) > 0 {
		t.Errorf("told again: %v", got)
	}
	heard = true
	if got := news(); len(got) != 1 || !got[0].over {
		t.Errorf("heard again: %v, want the end", got)
	}
	if got := news(); len(got) > 0 {
		t.Errorf("told the end again: %v", got)
	}
}

// FuzzTags: whatever tags come, what is let in belongs to the cluster and can be
// dialled; and what a host says of itself is let in.
func FuzzTags(f *testing.F) {
	c := Config{Cluster: 7, UUID: uuid(2), Dnode: 2, EndPoint: "b:6030", Start: 3}
	own := encodeTags(c)
	f.Add(own[tagCluster], own[tagUUID], own[tagDnode], own[tagEndPoint], own[tagStart])
	f.Add("8", own[tagUUID], "0", "b:0", "-1")
	f.Fuzz(func(t *testing.T, cluster, u, dnode, endPoint, start string) {
		h, err := parseTags(map[string]string{tagCluster: cluster, tagUUID: u, tagDnode: dnode, tagEndPoint: endPoint, tagStart: start}, 7)
		if err != nil {
			return
		}
		again := encodeTags(Config{Cluster: 7, UUID: h.UUID, Dnode: h.Dnode, EndPoint: h.EndPoint, Start: h.Start})
		same, err := parseTags(again, 7)
		if err != nil || same != h || h.UUID.IsZero() || h.Dnode == 0 || len(AddrsFor(h.EndPoint, 1, 0)) != 1 {
			t.Errorf("let in %+v, which reads back as %+v, %v", h, same, err)
		}
	})
}
