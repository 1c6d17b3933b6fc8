package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Names of the machines of a rig.
const (
	A, B, Arbitrator = "a", "b", "w"
	clientName       = "c"
	bridgeName       = "br"
)

// Everybody is all machines of a cluster.
var Everybody = []string{A, B, Arbitrator}

// Rig is one cluster. Its methods are called by one goroutine; EndPoint, Client
// and Log by any.
type Rig struct {
	dir, bin   string
	logsOnDisk bool
	diskMB     int
	apart      string
	config     []string
	net        *network
	procs      map[string]*process
	disks      map[string]*disk
}

// Options says what a rig needs beside processes in namespaces.
type Options struct {
	Bin        string   // directory of tnode and tarbitrator
	Disks      bool     // every machine gets a file system of its own, which can hang, fill up and break
	DiskMB     int      // ... of so many MB on a data host, written once and past the page cache, for measurements; zero: small and quick to make
	Apart      string   // with DiskMB: this machine keeps to the last processor, and its disk is memory, so that the others feel little of it but what it does to them over the network
	LogsOnDisk bool     // logDir lies on that file system too, beside the data
	Config     []string // more lines for the configuration of both data hosts
}

// made counts the rigs of this process: each has addresses of its own.
var made atomic.Int32

// maxRigs is how many rigs a process may make: as many as there are third
// numbers of addresses.
const maxRigs = 254

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
	r := &Rig{dir: dir, bin: bin, logsOnDisk: o.LogsOnDisk, diskMB: o.DiskMB, apart: o.Apart, config: o.Config, procs: map[string]*process{}, disks: map[string]*disk{}}
	number := int(made.Add(1))
	if number > maxRigs {
		return nil, fmt.Errorf("a process makes at most %d rigs", maxRigs)
	}
	if r.net, err = newNetwork(prefix, number); err != nil {
		return nil, err
	}
	for _, n := range Everybody {
		if err := r.layOut(n, o.Disks); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return r, nil
}

// layOut makes one machine's directory, disk and configuration.
func (r *Rig) layOut(name string, ownDisk bool) error {
	if err := os.MkdirAll(r.data(name), 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if ownDisk {
		if err := r.makeDisk(name); err != nil {
			return err
		}
	}
	if name == Arbitrator {
		return nil // its flags say everything
	}
	lines := append([]string{
		"firstEp " + r.PeerEndPoint(A), "secondEp " + r.PeerEndPoint(B), "fqdn " + r.net.address(name),
		"dataDir " + filepath.Join(r.data(name), dataName), "logDir " + r.LogDir(name),
		"arbitrator " + r.net.address(Arbitrator) + ":6042",
	}, r.config...)
	if err := os.WriteFile(r.conf(name), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// dataName is the data directory within a machine's own directory, which may be
// the root of a disk.
const dataName = "data"

func (r *Rig) data(name string) string { return filepath.Join(r.dir, name) }

// LogDir is a data host's logDir.
func (r *Rig) LogDir(name string) string {
	if r.logsOnDisk {
		return filepath.Join(r.data(name), "log")
	}
	return filepath.Join(r.dir, "log-"+name)
}

func (r *Rig) conf(name string) string { return filepath.Join(r.dir, name+".cfg") }

// Up starts everything, makes a cluster of it, and waits until its metadata is on
// both hosts.
func (r *Rig) Up(ctx context.Context) error {
	for _, n := range []string{Arbitrator, A, B} {
		if err := r.Start(n); err != nil {
			return err
		}
	}
	if err := r.SQL(ctx, A, fmt.Sprintf("CREATE DNODE '%s'", r.PeerEndPoint(B))); err != nil {
		return err
	}
	for !r.grown() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait until the metadata is on both hosts: %w", ctx.Err())
		}
	}
	return nil
}

// grown reports whether the change that lets the second host into the metadata is
// over. Until its leader has left the joint configuration nothing is decided
// without the first host.
func (r *Rig) grown() bool {
	log, err := os.ReadFile(r.Log(A))
	if err != nil {
		return false
	}
	last := ""
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, `msg="members changed" group=1 `) && strings.HasSuffix(line, "\n") {
			last = line
		}
	}
	return strings.Contains(last, `voters="[1 2 3]" outgoing=[]`)
}

// Close ends all processes and takes disks and network down.
func (r *Rig) Close() error {
	var errs []error
	for n, d := range r.disks {
		if d.hung {
			errs = append(errs, r.UnhangDisk(n))
		}
	}
	for n, p := range r.procs {
		_ = p.cmd.Process.Signal(syscall.SIGCONT) // a frozen one dies all the same
		errs = append(errs, r.Kill(n))
	}
	for n, d := range r.disks {
		if err := d.remove(); err != nil {
			errs = append(errs, fmt.Errorf("take down the disk of %s: %w", n, err))
		}
	}
	r.net.remove()
	return errors.Join(errs...)
}
