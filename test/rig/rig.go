package rig

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Names of the machines of a rig.
const (
	A, B, Arbitrator = "a", "b", "w"
	clientName       = "c"
)

// Rig is one cluster. Its methods are called by one goroutine.
type Rig struct {
	dir    string
	bin    string
	prefix string
	names  []string
	disks  bool
	procs  map[string]*exec.Cmd
	frozen map[string]bool // disks
	cut    map[string]bool // cables
}

// Options says what a rig needs beside processes in namespaces.
type Options struct {
	Bin   string // directory of tnode and tarbitrator
	Disks bool   // every data host gets a file system of its own, which can hang
}

// addresses within the rig's own bridge; nothing of it reaches the machine's
// network.
var addresses = map[string]string{A: "10.77.0.1", B: "10.77.0.2", Arbitrator: "10.77.0.3", clientName: "10.77.0.4"}

// EndPoint is where a data host serves HTTP.
func EndPoint(name string) string { return net.JoinHostPort(addresses[name], "6041") }

// insideKey marks a process that runs in the client's namespace of a rig.
const insideKey = "RIG_PREFIX"

// Inside reports whether this process runs where it can reach a rig's hosts,
// and of which rig.
func Inside() (prefix string, ok bool) {
	prefix = os.Getenv(insideKey)
	return prefix, prefix != ""
}

// Main is the main function of a program that measures a rig: it runs the
// program again inside the rig's network, and there calls run. It ends the
// process with code 1 when run fails.
func Main(run func(ctx context.Context) error) {
	fetch()
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if _, ok := Inside(); !ok {
		code, err := Enter(ctx)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Enter makes the namespaces and runs this program again inside them with the
// same arguments. It returns that program's exit code.
func Enter(ctx context.Context) (int, error) {
	prefix := fmt.Sprintf("rig%d", os.Getpid())
	defer removeNetwork(prefix)
	if err := makeNetwork(prefix); err != nil {
		return 1, err
	}
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", prefix + "-" + clientName, os.Args[0]}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), insideKey+"="+prefix)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return exit.ExitCode(), nil
	}
	return 1, err
}

func makeNetwork(prefix string) error {
	bridge := prefix + "-br"
	lines := []string{
		"ip netns add " + bridge,
		"ip -n " + bridge + " link add br0 type bridge",
		"ip -n " + bridge + " link set br0 up",
	}
	for _, n := range []string{A, B, Arbitrator, clientName} {
		ns := prefix + "-" + n
		lines = append(lines,
			"ip netns add "+ns,
			fmt.Sprintf("ip -n %s link add v%s type veth peer name eth0 netns %s", bridge, n, ns),
			fmt.Sprintf("ip -n %s link set v%s master br0 up", bridge, n),
			fmt.Sprintf("ip -n %s addr add %s/24 dev eth0", ns, addresses[n]),
			fmt.Sprintf("ip -n %s link set eth0 up", ns),
			fmt.Sprintf("ip -n %s link set lo up", ns))
	}
	for _, l := range lines {
		if err := run(l); err != nil {
			return fmt.Errorf("make network: %w", err)
		}
	}
	return nil
}

func removeNetwork(prefix string) {
	for _, n := range []string{A, B, Arbitrator, clientName, "br"} {
		_ = run("ip netns del " + prefix + "-" + n) // it may not have been made
	}
}

func run(line string) error {
	words := strings.Fields(line)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// New lays a rig out in dir. The program must be inside (Enter).
func New(dir string, o Options) (*Rig, error) {
	prefix, ok := Inside()
	if !ok {
		return nil, errors.New("not inside a rig's network: call Enter first")
	}
	bin, err := filepath.Abs(o.Bin)
	if err != nil {
		return nil, fmt.Errorf("find binaries: %w", err)
	}
	r := &Rig{
		dir: dir, bin: bin, prefix: prefix, names: []string{A, B}, disks: o.Disks,
		procs: map[string]*exec.Cmd{}, frozen: map[string]bool{}, cut: map[string]bool{},
	}
	for _, n := range r.names {
		if err := r.layOut(n); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// layOut makes one data host's directory, disk and configuration.
func (r *Rig) layOut(name string) error {
	data := filepath.Join(r.dir, name)
	if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if r.disks {
		image := data + ".img"
		for _, l := range []string{"truncate -s 2G " + image, "mkfs.ext4 -q -F " + image, "mount -o loop " + image + " " + data} {
			if err := run(l); err != nil {
				return fmt.Errorf("make disk: %w", err)
			}
		}
	}
	conf := fmt.Sprintf("firstEp %s:6030\nsecondEp %s:6030\nfqdn %s\ndataDir %s\nlogDir %s\narbitrator %s:6042\n",
		addresses[A], addresses[B], addresses[name], filepath.Join(data, "data"), filepath.Join(r.dir, "log-"+name), addresses[Arbitrator])
	if err := os.WriteFile(r.conf(name), []byte(conf), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

func (r *Rig) conf(name string) string { return filepath.Join(r.dir, name+".cfg") }

// Log is the file with everything that a process printed.
func (r *Rig) Log(name string) string { return filepath.Join(r.dir, name+".log") }

// Start starts one process in its namespace.
func (r *Rig) Start(name string) error {
	args := []string{"netns", "exec", r.prefix + "-" + name}
	if name == Arbitrator {
		args = append(args, filepath.Join(r.bin, "tarbitrator"), "--data-dir", filepath.Join(r.dir, "arbitrator"))
	} else {
		args = append(args, filepath.Join(r.bin, "tnode"), "start", "-c", r.conf(name))
	}
	log, err := os.OpenFile(r.Log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer log.Close() // the child has its own
	cmd := exec.Command("ip", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	r.procs[name] = cmd
	return nil
}

// Pid is the process of a machine.
func (r *Rig) Pid(name string) int { return r.procs[name].Process.Pid }

// Kill ends a process at once and waits until it is gone.
func (r *Rig) Kill(name string) error {
	cmd := r.procs[name]
	if cmd == nil {
		return nil
	}
	delete(r.procs, name)
	if err := cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	_ = cmd.Wait() // killed, as asked
	return nil
}

// Freeze stops a process without ending it; Thaw lets it go on.
func (r *Rig) Freeze(name string) error { return r.procs[name].Process.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (r *Rig) Thaw(name string) error { return r.procs[name].Process.Signal(syscall.SIGCONT) }

// Cut pulls a machine's cable; Plug puts it back.
func (r *Rig) Cut(name string) error {
	r.cut[name] = true
	return run(fmt.Sprintf("ip -n %s-br link set v%s down", r.prefix, name))
}

// Plug puts a machine's cable back.
func (r *Rig) Plug(name string) error {
	delete(r.cut, name)
	return run(fmt.Sprintf("ip -n %s-br link set v%s up", r.prefix, name))
}

// HangDisk makes every write and sync of a data host wait; UnhangDisk ends it.
func (r *Rig) HangDisk(name string) error {
	r.frozen[name] = true
	return run("fsfreeze --freeze " + filepath.Join(r.dir, name))
}

// UnhangDisk lets a data host's disk work again.
func (r *Rig) UnhangDisk(name string) error {
	delete(r.frozen, name)
	return run("fsfreeze --unfreeze " + filepath.Join(r.dir, name))
}

// Close ends all processes and takes the disks down.
func (r *Rig) Close() error {
	var errs []error
	for n := range r.frozen {
		errs = append(errs, r.UnhangDisk(n))
	}
	for n := range r.cut {
		errs = append(errs, r.Plug(n))
	}
	for n := range r.procs {
		errs = append(errs, r.Kill(n))
	}
	if r.disks {
		for _, n := range r.names {
			errs = append(errs, run("umount "+filepath.Join(r.dir, n)))
		}
	}
	return errors.Join(errs...)
}

// Up starts everything and makes a cluster of it.
func (r *Rig) Up(ctx context.Context) error {
	for _, n := range []string{Arbitrator, A, B} {
		if err := r.Start(n); err != nil {
			return err
		}
	}
	if err := r.SQL(ctx, A, fmt.Sprintf("CREATE DNODE '%s:6030'", addresses[B])); err != nil {
		return err
	}
	return nil
}

// SQL runs one statement at a host and repeats it until it succeeds or ctx ends.
func (r *Rig) SQL(ctx context.Context, name, statement string) error {
	var last error
	for ctx.Err() == nil {
		if last = post(ctx, EndPoint(name), statement); last == nil || strings.Contains(last.Error(), "exists") {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s at %s: %w", statement, name, last)
}

func post(ctx context.Context, endPoint, statement string) error {
	body, err := Ask(ctx, http.DefaultClient, endPoint, statement)
	if err == nil && !strings.HasPrefix(body, `{"code":0`) {
		err = errors.New(body)
	}
	return err
}

// Ask posts one statement and returns the whole answer.
func Ask(ctx context.Context, c *http.Client, endPoint, statement string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+endPoint+"/rest/sql", strings.NewReader(statement))
	if err != nil {
		return "", err
	}
	req.SetBasicAuth("root", "taosdata")
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// WireBytes counts the bytes that have crossed a machine's cable, both ways,
// with all headers.
func (r *Rig) WireBytes(name string) (uint64, error) {
	out, err := exec.Command("ip", "-n", r.prefix+"-br", "-s", "-j", "link", "show", "v"+name).Output()
	if err != nil {
		return 0, fmt.Errorf("read counters of %s: %w", name, err)
	}
	var links []struct {
		Stats struct {
			Rx, Tx struct{ Bytes uint64 }
		} `json:"stats64"`
	}
	if err := json.Unmarshal(out, &links); err != nil || len(links) != 1 {
		return 0, fmt.Errorf("read counters of %s: %w: %s", name, err, out)
	}
	return links[0].Stats.Rx.Bytes + links[0].Stats.Tx.Bytes, nil
}

// Get fetches a page that a machine serves to itself only.
func (r *Rig) Get(name, url string) (string, error) {
	out, err := exec.Command("ip", "netns", "exec", r.prefix+"-"+name, os.Args[0], fetchArg, url).Output()
	if err != nil {
		return "", fmt.Errorf("get %s on %s: %w", url, name, err)
	}
	return string(out), nil
}

const fetchArg = "-rig-fetch"

// fetch does what Get asks of a second copy of this program. It does not return
// when it was meant.
func fetch() {
	if len(os.Args) != 3 || os.Args[1] != fetchArg {
		return
	}
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Get(os.Args[2])
	if err == nil {
		defer resp.Body.Close()
		_, err = io.Copy(os.Stdout, resp.Body)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// ResidentBytes is the memory that a process holds now.
func (r *Rig) ResidentBytes(name string) (uint64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.Pid(name)))
	if err != nil {
		return 0, fmt.Errorf("read memory of %s: %w", name, err)
	}
	for line := range strings.Lines(string(status)) {
		var kb uint64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("no VmRSS of %s", name)
}
