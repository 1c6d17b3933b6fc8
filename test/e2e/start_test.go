package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// refuses runs a process that must end by itself with exit code 1 and these
// words.
func (p *process) refuses(what string, words ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(bin, p.name), p.args...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		p.t.Errorf("%s: runs on, want exit code 1:\n%s", what, out)
		return
	case !errors.As(err, &exit) || exit.ExitCode() != 1:
		p.t.Errorf("%s: %v, want exit code 1:\n%s", what, err, out)
	}
	for _, w := range words {
		if !strings.Contains(string(out), w) {
			p.t.Errorf("%s: no %q in\n%s", what, w, out)
		}
	}
}

// portOf is the address of a port in a data host's configuration.
func (p *process) portOf(key string) string {
	p.t.Helper()
	b, err := os.ReadFile(p.conf)
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, key+" "); ok {
			return net.JoinHostPort("127.0.0.1", strings.TrimSpace(value))
		}
	}
	p.t.Fatalf("no %s in %s", key, b)
	return ""
}

// option changes the value of one of an arbitrator's flags.
func (p *process) option(flag, value string) { p.args[slices.Index(p.args, flag)+1] = value }

// occupy listens at an address until the caller has had enough.
func occupy(t *testing.T, network, at string) (end func()) {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket(network, at)
		if err != nil {
			t.Fatal(err)
		}
		return func() { c.Close() }
	}
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	return func() { l.Close() }
}

// serving waits until a data host answers statements.
func (p *process) serving() {
	p.t.Helper()
	c := dial(p.t, p)
	await(p.t, "the host serves", func() bool { return c.Ping(context.Background(), p.http) == nil })
}

// TestPortInUse: whatever port is taken, and by whomever, the start ends at once
// and names the port and the key that sets it; nothing was begun.
func TestPortInUse(t *testing.T) {
	h := newHost(t, "", "")
	for _, c := range []struct{ key, network string }{{"serverPort", "tcp"}, {"gossipPort", "tcp"}, {"gossipPort", "udp"}, {"httpPort", "tcp"}} {
		at := h.portOf(c.key)
		end := occupy(t, c.network, at)
		h.refuses(c.key+" over "+c.network, c.key, at, "address already in use", "choose another "+c.key)
		end()
	}
	if _, err := os.Stat(filepath.Join(h.dir, "data", "wal")); err == nil {
		t.Error("a host that did not start has begun a log")
	}
	arb := newArbitrator(t)
	end := occupy(t, "tcp", arb.peer)
	arb.refuses("the arbitrator's port", arb.peer, "is in use", "--port")
	end()
	at := arb.args[slices.Index(arb.args, "--http")+1]
	end = occupy(t, "tcp", at)
	arb.refuses("the arbitrator's --http", at, "is in use", "--http")
	end()
	h.start().serving()
}

// TestSecondProcess: a second process with a data directory that is in use ends
// and says so, although its ports are free; the first one does not notice.
func TestSecondProcess(t *testing.T) {
	h, c := single(t)
	second := newHost(t, "", "")
	second.configure("dataDir " + filepath.Join(h.dir, "data"))
	second.refuses("a second tnode", "is in use by another process", filepath.Join(h.dir, "data"))
	query(t, c, "SHOW DNODES")

	arb := newArbitrator(t).start()
	await(t, "the arbitrator serves", func() bool { _, err := arbStatus(arb); return err == nil })
	another := newArbitrator(t)
	another.option("--data-dir", filepath.Join(arb.dir, "data"))
	another.refuses("a second tarbitrator", "in use by another process", filepath.Join(arb.dir, "data"))
	if _, err := arbStatus(arb); err != nil {
		t.Error(err)
	}
}

// TestWrongDataDirectory: a directory that can't be this process's ends the
// start with words, and is left as it was.
func TestWrongDataDirectory(t *testing.T) {
	h, _ := single(t)
	h.end(syscall.SIGTERM)
	arb := newArbitrator(t).start()
	await(t, "the arbitrator serves", func() bool { _, err := arbStatus(arb); return err == nil })
	arb.end(syscall.SIGTERM)
	data := filepath.Join(h.dir, "data")
	copied := func(without string) string {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(data)); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, without)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	file := filepath.Join(t.TempDir(), "file")
	headless, garbled := copied("host"), copied("host")
	for _, path := range []string{file, filepath.Join(garbled, "host")} {
		if err := os.WriteFile(path, []byte("something else"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what, dir string
		words     []string
	}{
		{"a file", file, []string{"open data directory", file}},
		{"data without the record of its host", headless, []string{headless, `but not the file "host"`, "put that file back"}},
		{"a record that can't be read", garbled, []string{"open the record of this host", filepath.Join(garbled, "host")}},
		{"an arbitrator's directory", filepath.Join(arb.dir, "data"), []string{filepath.Join(arb.dir, "data"), "that of a tarbitrator", "dataDir"}},
	} {
		h.configure("dataDir " + c.dir)
		h.refuses("dataDir is "+c.what, c.words...)
	}
	h.configure("dataDir " + data)
	own := arb.args[slices.Index(arb.args, "--data-dir")+1]
	arb.option("--data-dir", data)
	arb.refuses("--data-dir is a data host's directory", data, "that of a data host", "--data-dir")
	arb.option("--data-dir", own)
	h.start().serving()
	arb.start()
	await(t, "the arbitrator serves with its own directory", func() bool { _, err := arbStatus(arb); return err == nil })
}

// TestDirectoryOfAnotherHost: the directories of the two hosts are swapped.
// Identity is the directory, so each becomes the other at its address, and the
// cluster goes on with everything.
func TestDirectoryOfAnotherHost(t *testing.T) {
	t.Parallel()
	arb, a, b, c := pair(t)
	query(t, c, "CREATE DATABASE d REPLICA 2")
	query(t, c, "CREATE TABLE d.t (ts TIMESTAMP, n BIGINT)")
	put(t, c, 0, 10)
	whole(t, c)
	a.end(syscall.SIGTERM)
	b.end(syscall.SIGTERM)
	a.configure("dataDir " + filepath.Join(b.dir, "data"))
	b.configure("dataDir " + filepath.Join(a.dir, "data"))
	a.start()
	b.start()
	whole(t, c)
	put(t, c, 10, 20)
	sameDigests(t, c, a, b, 20)
	await(t, "SHOW DNODES has each at the other's address", func() bool {
		rows, err := c.Query(context.Background(), "SHOW DNODES")
		return err == nil && slices.Equal(column(t, rows, "end_point"), []string{b.peer, a.peer, arb.peer})
	})
}

// TestArbitratorAddressOfNone: the address leads to nobody, or to somebody who
// is no arbitrator. A first host waits and says so once, with the reason.
func TestArbitratorAddressOfNone(t *testing.T) {
	web := &http.Server{Addr: local(freePort(t)), Handler: http.NotFoundHandler()}
	go web.ListenAndServe()
	defer web.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0") // takes connections into its backlog
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	alone, _ := single(t)
	for _, c := range []struct{ what, at, words string }{
		{"nobody", local(freePort(t)), "connection refused"},
		{"a web server", web.Addr, "neither a tnode nor a tarbitrator"},
		{"a silent port", mute.Addr().String(), "says nothing"},
		{"another data host", alone.peer, "is a data host, not a tarbitrator"},
		{"a name that is none", "no.such.host.invalid:6042", "no.such.host.invalid"},
	} {
		h := newHost(t, "", c.at).start()
		await(t, c.what+": the first host says that it waits, and why", func() bool {
			return h.says("waiting for the arbitrator") == 1 && h.says("--new-cluster") == 1 && h.says(c.words) > 0
		})
		code, out := statusOf(t, h)
		if code != 1 {
			t.Errorf("%s: status has exit code %d, want 1", c.what, code)
		}
		has(t, out, "waits for the arbitrator at "+c.at, "--new-cluster")
		if code := h.end(syscall.SIGTERM); code != 0 {
			t.Errorf("%s: exit code %d at SIGTERM, want 0", c.what, code)
		}
		if h.says("a new cluster is born") > 0 {
			t.Errorf("%s: it founded a cluster", c.what)
		}
	}
}

// TestGarbageOnEveryPort: whatever strangers write to the four ports, or do not,
// the pair serves on, says it seldom, and ends in order.
func TestGarbageOnEveryPort(t *testing.T) {
	arb, a, b, c := pairWithTable(t)
	ports := []string{a.portOf("serverPort"), a.portOf("gossipPort"), a.portOf("httpPort"), arb.peer}
	junk := make([]byte, 8<<10)
	rand.Read(junk)
	var open []net.Conn
	defer func() {
		for _, nc := range open {
			nc.Close()
		}
	}()
	for round := range 200 {
		for _, at := range ports {
			nc, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatalf("%s takes no connections any more: %v", at, err)
			}
			open = append(open, nc)
			if round%3 != 0 { // the others say nothing
				_, _ = nc.Write(junk[:1+round*40]) // it may be closed already
			}
		}
		udp, err := net.Dial("udp", ports[1])
		if err != nil {
			t.Fatal(err)
		}
		_, _ = udp.Write(junk[:1+round*7])
		udp.Close()
		if round%20 == 0 {
			put(t, c, round/20, round/20+1)
		}
	}
	put(t, c, 10, 20)
	whole(t, c)
	sameDigests(t, c, a, b, 20)
	for _, p := range []*process{arb, a, b} {
		if lines := p.says("level=WARN"); lines > 40 {
			t.Errorf("%s at %s has %d warnings", p.name, p.peer, lines)
		}
		if n := p.says("level=ERROR") + p.says("panic"); n > 0 {
			t.Errorf("%s at %s has %d errors", p.name, p.peer, n)
		}
		if code := p.end(syscall.SIGTERM); code != 0 {
			t.Errorf("%s at %s: exit code %d, want 0", p.name, p.peer, code)
		}
	}
}
