package e2e

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tarbitrator/tarbitrator/client"
)

// configure changes lines of a data host's configuration: "key value" replaces
// the line of that key, or is added. The next start reads it.
func (p *process) configure(lines ...string) {
	p.t.Helper()
	b, err := os.ReadFile(p.conf)
	if err != nil {
		p.t.Fatal(err)
	}
	text := string(b)
	for _, line := range lines {
		key, _, _ := strings.Cut(line, " ")
		old := regexp.MustCompile(`(?m)^` + key + ` .*\n`)
		text = old.ReplaceAllString(text, "") + line + "\n"
	}
	if err := os.WriteFile(p.conf, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// move gives a data host another address, with the ports that it has.
func (p *process) move(address string) {
	p.t.Helper()
	p.configure("fqdn "+address, "bind "+address)
	p.peer = strings.Replace(p.peer, "127.0.0.1", address, 1)
	p.http = strings.Replace(p.http, "127.0.0.1", address, 1)
}

// says counts the lines of a process's log that hold a text.
func (p *process) says(text string) int {
	p.t.Helper()
	b, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Count(string(b), text)
}

// offline is why SHOW DNODES has a dnode as offline; empty: it has not.
func offline(t *testing.T, c *client.Client, dnode string) string {
	t.Helper()
	rows, err := c.Query(context.Background(), "SHOW DNODES")
	if err != nil {
		return ""
	}
	i := slices.Index(column(t, rows, "id"), dnode)
	if i < 0 || column(t, rows, "status")[i] != "offline" {
		return ""
	}
	return column(t, rows, "offline reason")[i]
}

// TestBothHostsMove: both hosts are renumbered while they are stopped. What each
// has written down of the other is wrong; the new firstEp and secondEp are all
// that they can go by.
func TestBothHostsMove(t *testing.T) {
	t.Parallel()
	arb, a, b, c := pair(t)
	query(t, c, "CREATE DATABASE d REPLICA 2")
	query(t, c, "CREATE TABLE d.t (ts TIMESTAMP, n BIGINT)")
	put(t, c, 0, 10)
	whole(t, c)
	b.end(syscall.SIGTERM)
	a.end(syscall.SIGTERM)
	a.move("127.0.0.2")
	b.move("127.0.0.3")
	for _, h := range []*process{a, b} {
		h.configure("firstEp "+a.peer, "secondEp "+b.peer)
		h.start()
	}
	moved := dial(t, a, b)
	whole(t, moved)
	if got, want := column(t, query(t, moved, "SHOW DNODES"), "end_point"), []string{a.peer, b.peer, arb.peer}; !slices.Equal(got, want) {
		t.Errorf("SHOW DNODES has them at %v, want %v", got, want)
	}
	put(t, moved, 10, 20)
	sameDigests(t, moved, a, b, 20)

	// What they have learnt is written down: now either may start alone.
	a.end(syscall.SIGKILL)
	b.end(syscall.SIGKILL)
	for _, h := range []*process{a, b} {
		h.configure("firstEp 127.0.0.9", "secondEp 127.0.0.8")
		h.start()
	}
	whole(t, moved)
	if got := rowsOf(t, moved); got != 20 {
		t.Errorf("%d rows, 20 were acknowledged", got)
	}
}

// TestBothHostsMoveUnannounced: the same, and nobody has told either of them
// where the other is now: firstEp and secondEp are the old ones. Only the
// arbitrator is where it was, and has seen both.
func TestBothHostsMoveUnannounced(t *testing.T) {
	t.Parallel()
	arb, a, b, c := pair(t)
	query(t, c, "CREATE DATABASE d REPLICA 2")
	query(t, c, "CREATE TABLE d.t (ts TIMESTAMP, n BIGINT)")
	put(t, c, 0, 10)
	whole(t, c)
	b.end(syscall.SIGTERM)
	a.end(syscall.SIGTERM)
	a.move("127.0.0.6")
	b.move("127.0.0.7")
	a.start()
	b.start()
	moved := dial(t, a, b)
	whole(t, moved)
	put(t, moved, 10, 20)
	sameDigests(t, moved, a, b, 20)
	if got, want := column(t, query(t, moved, "SHOW DNODES"), "end_point"), []string{a.peer, b.peer, arb.peer}; !slices.Equal(got, want) {
		t.Errorf("SHOW DNODES has them at %v, want %v", got, want)
	}
}

// TestOfflineByHint: that a host has died or stands still shows before its
// reports are missed, with words of its own; and it is ready again when it is.
func TestOfflineByHint(t *testing.T) {
	_, a, b, c := pair(t)
	query(t, c, "CREATE DATABASE d REPLICA 2 VGROUPS 1")
	onA := dial(t, a)
	await(t, "gossip has found both", func() bool {
		return a.says("msg=gossip host=2 state=alive") == 1 && b.says("msg=gossip host=1 state=alive") == 1
	})
	b.end(syscall.SIGKILL)
	await(t, "the other host says that the process has ended", func() bool {
		return offline(t, onA, "2") == "its process has ended"
	})
	b.start()
	whole(t, c)
	b.frozen(func() {
		await(t, "the other host says that it does not answer", func() bool {
			return offline(t, onA, "2") == "it does not answer"
		})
	})
	whole(t, c)
}

// TestGossipOfTwoKeys: hosts with different keys say so, once, and are a cluster
// all the same; with the same key they hear each other.
func TestGossipOfTwoKeys(t *testing.T) {
	_, a, b, c := pair(t)
	query(t, c, "CREATE DATABASE d REPLICA 2 VGROUPS 1")
	key := strings.Repeat("5e", 32)
	restart := func(h *process, lines ...string) {
		h.end(syscall.SIGTERM)
		h.configure(lines...)
		h.start()
		whole(t, c)
	}
	const words = "have different keys"
	restart(b, "gossipKey "+key)
	await(t, "both hosts say that the keys differ", func() bool { return a.says(words) == 1 && b.says(words) == 1 })
	restart(a, "gossipKey "+key)
	await(t, "they hear each other", func() bool {
		return a.says("msg=gossip host=2 state=alive") >= 1 && b.says("msg=gossip host=1 state=alive") >= 1
	})
	for _, h := range []*process{a, b} {
		if h.says(key) > 0 {
			t.Errorf("the log of %s holds the key", h.peer)
		}
	}
	if got := column(t, query(t, c, "SHOW VARIABLES"), "value"); slices.Contains(got, key) || !slices.Contains(got, "(set)") {
		t.Errorf("SHOW VARIABLES: %v", got)
	}
}
