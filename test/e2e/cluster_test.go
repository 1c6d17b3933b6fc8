package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	// The programs are built by TestMain, out of sight of the test cache: these
	// make a change of theirs a change of this test.
	_ "github.com/tarbitrator/tarbitrator/arbitrator"
	"github.com/tarbitrator/tarbitrator/client"
	_ "github.com/tarbitrator/tarbitrator/internal/cli/shell"
	_ "github.com/tarbitrator/tarbitrator/node"
)

var bin string // directory of the programs

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "e2e-bin-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-o", dir, "../../cmd/...")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
			return 1
		}
		bin = dir
		return m.Run()
	}())
}

// process is one program of a test. It is killed when the test ends.
type process struct {
	t    *testing.T
	name string
	args []string
	log  string
	peer string // where other hosts reach it
	http string
	dir  string
	conf string // file with the configuration, of a data host
	cmd  *exec.Cmd
}

// ports counts through those that freePort gives out, from a place of this
// process's own.
var ports = func() *atomic.Uint32 {
	var n atomic.Uint32
	n.Store(uint32(os.Getpid()) * 97)
	return &n
}()

// freePort gives out each port once. It keeps below those that the kernel gives
// to connections: there any could take it before the program that it is meant for.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 10_000 + int(ports.Add(1)%20_000)
		l, err := net.Listen("tcp", local(port))
		if err != nil {
			continue
		}
		l.Close()
		return port
	}
	t.Fatal("no port is free")
	return 0
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// newHost lays out a data host. first is the end point of the first one, empty
// for this one to be it.
func newHost(t *testing.T, first, arbitrator string, more ...string) *process {
	t.Helper()
	port, http, gossip, dir := freePort(t), freePort(t), freePort(t), t.TempDir()
	if first == "" {
		first = local(port)
	}
	lines := []string{
		"firstEp " + first, "fqdn 127.0.0.1", "bind 127.0.0.1", fmt.Sprint("serverPort ", port), fmt.Sprint("httpPort ", http), fmt.Sprint("gossipPort ", gossip),
		"dataDir " + filepath.Join(dir, "data"), "logDir " + filepath.Join(dir, "log"), "numOfMnodes 2",
	}
	if arbitrator != "" {
		lines = append(lines, "arbitrator "+arbitrator)
	}
	config := filepath.Join(dir, "tnode.cfg")
	if err := os.WriteFile(config, []byte(strings.Join(append(lines, more...), "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &process{
		t: t, name: "tnode", args: []string{"start", "-c", config}, log: filepath.Join(dir, "out"),
		peer: local(port), http: local(http), dir: dir, conf: config,
	}
}

func newArbitrator(t *testing.T) *process {
	t.Helper()
	port, dir := freePort(t), t.TempDir()
	return &process{
		t: t, name: "tarbitrator", log: filepath.Join(dir, "out"), peer: local(port), dir: dir,
		args: []string{"-p", strconv.Itoa(port), "--bind", "127.0.0.1", "--http", local(freePort(t)), "--data-dir", filepath.Join(dir, "data")},
	}
}

func (p *process) start() *process {
	p.t.Helper()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer out.Close()
	return p.startWith(out)
}

// startWith starts a process that prints to out.
func (p *process) startWith(out *os.File) *process {
	p.t.Helper()
	p.cmd = exec.Command(filepath.Join(bin, p.name), p.args...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if p.cmd != nil {
			p.end(syscall.SIGKILL)
		}
		if p.t.Failed() {
			b, _ := os.ReadFile(p.log)
			p.t.Logf("messages of %s at %s:\n%s", p.name, p.peer, b)
		}
	})
	return p
}

// end sends a signal and returns the exit code once the process has ended, -1
// if the signal ended it.
func (p *process) end(s syscall.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
	p.cmd.Wait()
	code := p.cmd.ProcessState.ExitCode()
	p.cmd = nil
	return code
}

// await polls until so is true. It is generous: machines of tests are busy.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if so() {
			return
		}
	}
	t.Fatalf("%s: not within 30 s", what)
}

// dial makes a client of these hosts, in this order.
func dial(t *testing.T, hosts ...*process) *client.Client {
	t.Helper()
	config := client.DefaultConfig()
	config.EndPoints = nil
	for _, h := range hosts {
		config.EndPoints = append(config.EndPoints, h.http)
	}
	c, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// query runs a statement that must succeed.
func query(t *testing.T, c *client.Client, statement string) *client.Rows {
	t.Helper()
	rows, err := c.Query(context.Background(), statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return rows
}

// column is one column of an answer, as text.
func column(t *testing.T, rows *client.Rows, name string) []string {
	t.Helper()
	at := rows.Index(name)
	if at < 0 {
		t.Fatalf("no column %s in %v", name, rows.Columns)
	}
	var cells []string
	for row := range rows.Data {
		cells = append(cells, rows.Text(row, at))
	}
	return cells
}

// only reports whether a column has these values only.
func only(t *testing.T, c *client.Client, statement, name string, values ...string) bool {
	t.Helper()
	rows, err := c.Query(context.Background(), statement)
	if err != nil || len(rows.Data) == 0 {
		return false
	}
	for _, cell := range column(t, rows, name) {
		one := false
		for _, v := range values {
			one = one || cell == v
		}
		if !one {
			return false
		}
	}
	return true
}

// single starts one host that is its own cluster.
func single(t *testing.T, more ...string) (*process, *client.Client) {
	t.Helper()
	h := newHost(t, "", "", more...).start()
	c := dial(t, h)
	await(t, "the host serves", func() bool { return c.Ping(context.Background(), h.http) == nil })
	return h, c
}

// pair starts an arbitrator and two hosts and waits until all three vote.
func pair(t *testing.T) (arb, a, b *process, c *client.Client) {
	t.Helper()
	arb = newArbitrator(t).start()
	a = newHost(t, "", arb.peer).start()
	b = newHost(t, a.peer, arb.peer).start()
	c = joined(t, a, b)
	await(t, "the arbitrator knows both", func() bool { return b.said("host=0 ") }) // b is connected to it
	return arb, a, b, c
}

// joined makes a cluster of two hosts that have started, and waits until all
// three vote.
func joined(t *testing.T, a, b *process) *client.Client {
	t.Helper()
	c := dial(t, a, b)
	await(t, "the first host serves", func() bool { return c.Ping(context.Background(), a.http) == nil })
	query(t, c, "CREATE DNODE '"+b.peer+"'")
	await(t, "the second host joins", func() bool {
		mnodes, err := c.Query(context.Background(), "SHOW MNODES")
		return err == nil && len(mnodes.Data) == 2 && only(t, c, "SHOW MNODES", "role", "master", "slave") &&
			only(t, c, "SHOW DNODES", "status", "ready") && c.Ping(context.Background(), b.http) == nil
	})
	return c
}

// pairWithTable is a pair with a table d.t on both hosts, in sync.
func pairWithTable(t *testing.T) (arb, a, b *process, c *client.Client) {
	t.Helper()
	arb, a, b, c = pair(t)
	query(t, c, "CREATE DATABASE d REPLICA 2")
	query(t, c, "CREATE TABLE d.t (ts TIMESTAMP, n BIGINT)")
	whole(t, c)
	return arb, a, b, c
}

// tool runs tnode to its end.
func tool(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "tnode"), args...)
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), b.String()
}
