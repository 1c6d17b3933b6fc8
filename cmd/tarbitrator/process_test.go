package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

var binary string // built once by TestMain

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tarbitrator")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "tarbitrator")
		if out, err := exec.Command("go", "build", "-trimpath", "-o", binary, ".").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
			return 1
		}
		return m.Run()
	}())
}

// freePort returns two neighbouring ports that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		a.Close()
		if err == nil {
			b.Close()
			return port
		}
	}
	t.Fatal("no two free ports")
	return 0
}

// process is a tarbitrator that runs.
type process struct {
	*exec.Cmd
	stderr bytes.Buffer
}

func start(t *testing.T, port int, dir string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(binary, "-p", fmt.Sprint(port), "--bind", "127.0.0.1", "--data-dir", dir)}
	p.Stderr = &p.stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	return p
}

// tool runs a command of the program and returns its exit code and output.
func tool(t *testing.T, args ...string) (int, string) {
	t.Helper()
	out, err := exec.Command(binary, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	code := 0
	if exit != nil {
		code = exit.ExitCode()
	}
	return code, string(out)
}

// witness asks the arbitrator at port for its identity, as a host does.
func witness(t *testing.T, port int) id.UUID {
	t.Helper()
	guest := peer.NewNet(peer.Config{UUID: id.UUID{7}}, peer.Identity{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		body, err := guest.CallAddr(ctx, fmt.Sprintf("127.0.0.1:%d", port), "cluster.lookup", []byte(`{"end_point":"a:6030"}`))
		if err != nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		_, rest, _ := strings.Cut(string(body), `"witness":"`)
		uuid, err := id.ParseUUID(rest[:32])
		if err != nil {
			t.Fatalf("lookup: %s: %v", body, err)
		}
		return uuid
	}
	t.Fatal("the arbitrator does not answer")
	return id.UUID{}
}

// vote asks for a vote of replica 3 of group 7, enrolling it first, and reports
// whether it was given.
func vote(t *testing.T, port int, from uint64, term uint64) bool {
	t.Helper()
	w := witness(t, port)
	answers, up := make(chan peer.Message, 10), make(chan struct{}, 10)
	host := peer.NewNet(peer.Config{
		UUID: id.UUID{byte(from)}, Addr: "a:6030", Offer: peer.Offer{Start: peer.Start{Boot: 1, Nonce: from}}, // one start, whoever asks
		OnFrame: func(_ peer.Remote, _ peer.Class, msgs []peer.Message) {
			for _, m := range msgs {
				answers <- m
			}
		},
		OnLink: func(_ peer.Remote, s peer.LinkState) {
			if s == peer.LinkUp {
				up <- struct{}{}
			}
		},
	}, peer.Identity{Cluster: 5, Host: id.Host(from), Secret: peer.Secret{5}}, slog.New(slog.DiscardHandler))
	host.SetPeers([]peer.Peer{{UUID: w, Addrs: []string{fmt.Sprintf("127.0.0.1:%d", port)}, Arbitrator: true}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = host.Run(ctx, l)
	}()
	defer func() { cancel(); <-done }()
	wait := func(what string, c <-chan struct{}) {
		select {
		case <-c:
		case <-time.After(20 * time.Second):
			t.Fatalf("no %s within 20 s: %+v", what, host.Links())
		}
	}
	answer := func(what string) peer.Message {
		select {
		case m := <-answers:
			return m
		case <-time.After(20 * time.Second):
			t.Fatalf("no answer to %s", what)
			return peer.Message{}
		}
	}
	wait("link", up)
	host.Send(w, peer.Beats, []peer.Message{{Kind: peer.KindEnroll, Group: 7, To: 3, Enroll: &peer.Enroll{Witness: w}}})
	if m := answer("enrolment"); m.Kind != peer.KindEnrolled {
		t.Fatalf("enrolment: %+v", m)
	}
	host.Send(w, peer.Beats, []peer.Message{{Kind: peer.KindRaft, Group: 7, From: id.Replica(from), To: 3, Raft: &raftpb.Message{
		Type: raftpb.MsgVote.Enum(), From: &from, To: new(uint64(3)), Term: &term, Index: new(uint64(1)), LogTerm: new(uint64(1)),
	}}})
	m := answer("vote")
	return m.Kind == peer.KindRaft && !m.Raft.GetReject()
}

// A vote outlives kill -9; a stop is clean.
func TestVoteOutlivesKill(t *testing.T) {
	port, dir := freePort(t), filepath.Join(t.TempDir(), "deep", "votes")
	p := start(t, port, dir)
	if !vote(t, port, 1, 2) {
		t.Fatal("the first vote of a term was refused")
	}
	if code, out := tool(t, "status", "-p", fmt.Sprint(port)); code != 0 || !strings.Contains(out, "cluster 5: 1 replicas") || !strings.Contains(out, "a:6030") {
		t.Errorf("status: %d\n%s", code, out)
	}
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	p = start(t, port, dir)
	if vote(t, port, 2, 2) {
		t.Error("a second vote was given in one term, after kill -9")
	}
	if !vote(t, port, 2, 3) {
		t.Error("a vote of the next term was refused")
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, p.stderr.String())
	}
	for _, want := range []string{"records=1", "arbitrator stopped"} {
		if !strings.Contains(p.stderr.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, p.stderr.String())
		}
	}
}

// Everything that can't be had is named, with what to do about it.
func TestRefusals(t *testing.T) {
	port, dir := freePort(t), t.TempDir()
	start(t, port, dir)
	witness(t, port)
	taken := fmt.Sprint(port)
	other := fmt.Sprint(freePort(t))
	file := filepath.Join(dir, "a-file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"port in use", []string{"-p", taken, "--bind", "127.0.0.1", "--data-dir", t.TempDir()}, 1, "choose another address with --port or --bind"},
		{"directory in use", []string{"-p", other, "--data-dir", dir}, 1, "in use by another process"},
		{"no directory", []string{"-p", other, "--data-dir", filepath.Join(file, "x")}, 1, "data directory"},
		{"http in use", []string{"-p", other, "--http", "127.0.0.1:" + taken, "--data-dir", t.TempDir()}, 1, "with --http"},
		{"unknown flag", []string{"--nonsense"}, 2, "--help"},
		{"unknown command", []string{"frobnicate"}, 2, "frobnicate"},
		{"port out of range", []string{"-p", "65535"}, 2, "65534"},
		{"no port", []string{"-p", "0"}, 2, "want 1 to 65534"},
		{"status of nobody", []string{"status", "-p", other}, 3, "no arbitrator answers"},
		{"status argument", []string{"status", "x"}, 2, "takes no argument"},
		{"version", []string{"-V"}, 0, "tarbitrator "},
		{"help", []string{"--help"}, 0, "--data-dir"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if code, out := tool(t, tc.args...); code != tc.code || !strings.Contains(out, tc.want) {
				t.Errorf("exit code %d, want %d with %q:\n%s", code, tc.code, tc.want, out)
			}
		})
	}
}
