package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// rig is an arbitrator and two data hosts, as processes on loopback addresses
// in a temporary directory.
type rig struct {
	dir        string
	arbitrator *process
	hosts      [2]*process
}

// process is one program that is started, killed and started again with the
// same arguments.
type process struct {
	name   string
	path   string
	args   []string
	log    string // file of its messages
	keep   bool   // it outlives the demo
	listen string // address that other processes know it by
	http   string // address of its HTTP

	cmd  *exec.Cmd     // nil: not running
	done chan struct{} // closed once it has ended
}

// newRig lays out directories and configuration files. Nothing runs yet. Its
// processes end with the demo, unless they are to be kept.
func newRig(dir string, keep bool) (*rig, error) {
	tnode, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find tnode: %w", err)
	}
	tarbitrator := filepath.Join(filepath.Dir(tnode), "tarbitrator")
	if _, err := os.Stat(tarbitrator); err != nil {
		return nil, fmt.Errorf("the demo needs tarbitrator beside tnode: %w", err)
	}
	ports, err := freePorts(8)
	if err != nil {
		return nil, err
	}
	at := func(i int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[i])) }
	r := &rig{dir: dir}
	r.arbitrator = &process{
		name: "arbitrator", keep: keep, path: tarbitrator, listen: at(0), http: at(1), log: filepath.Join(dir, "arbitrator.log"),
		args: []string{"-p", strconv.Itoa(ports[0]), "--bind", "127.0.0.1", "--http", at(1), "--data-dir", filepath.Join(dir, "arbitrator")},
	}
	for i := range r.hosts {
		name := string(rune('A' + i))
		config := filepath.Join(dir, name+".cfg")
		h := &process{
			name: "host " + name, keep: keep, path: tnode, args: []string{"start", "-c", config},
			listen: at(2 + 3*i), http: at(3 + 3*i), log: filepath.Join(dir, name+".log"),
		}
		r.hosts[i] = h
		text := fmt.Sprintf("firstEp %s\nfqdn 127.0.0.1\nbind 127.0.0.1\nserverPort %d\nhttpPort %d\ngossipPort %d\narbitrator %s\nnumOfMnodes 2\ndataDir %s\nlogDir %s\n",
			r.hosts[0].listen, ports[2+3*i], ports[3+3*i], ports[4+3*i], r.arbitrator.listen, filepath.Join(dir, name), filepath.Join(dir, name+"-log"))
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write configuration of %s: %w", h.name, err)
		}
	}
	return r, nil
}

// freePorts finds ports that nobody listens on now.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // all of them at the end, so that no port is found twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// start runs the process, from a thread that lives as long as it does.
func (p *process) start() error {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	defer out.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = attributes(p.keep)
	started, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed processes end with an error: that is the point
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.done = cmd, done
	return nil
}

// kill ends the process as a power switch would, and returns when it was done.
func (p *process) kill() (time.Time, error) {
	if p.cmd == nil {
		return time.Time{}, fmt.Errorf("%s does not run", p.name)
	}
	at := time.Now()
	if err := p.cmd.Process.Kill(); err != nil {
		return at, fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.done
	p.cmd = nil
	return at, nil
}

// healthy asks the arbitrator itself whether it serves.
func (p *process) healthy(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.http+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", p.name, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", p.name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s: HTTP status %d", p.name, resp.StatusCode)
	}
	return nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stopWithin bounds how long a process may take to stop by itself.
const stopWithin = 5 * time.Second

// stop ends all processes, hosts first, and what does not end in time is killed.
func (r *rig) stop() {
	for _, p := range []*process{r.hosts[0], r.hosts[1], r.arbitrator} {
		if p.cmd == nil {
			continue
		}
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		late := time.AfterFunc(stopWithin, func() { _ = p.cmd.Process.Kill() })
		<-p.done
		late.Stop()
		p.cmd = nil
	}
}

// pollEvery is how often the demo looks whether something has happened yet.
const pollEvery = 20 * time.Millisecond

// await polls until what is waited for is so, or until it takes too long.
func await(ctx context.Context, what string, within time.Duration, so func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	var last error
	for {
		ok, err := so(ctx)
		if ok {
			return nil
		}
		if err != nil {
			last = err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s: not within %v", what, within), last)
		}
	}
}
