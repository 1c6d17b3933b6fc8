// Command consensus measures the consensus alone: proposals of 16 bytes, a
// proposer inside the leader's process, the follower and the arbitrator in
// processes of their own, real logs and real connections on this machine. A
// proposal counts when it is durable on both data hosts and applied.
//
// With -lag it measures something else: how long the survivor of a pair needs to
// its first commit when the arbitrator was away while many entries were
// committed (the feed must cost the same at any lag).
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

var (
	bin     = flag.String("bin", "bin", "directory of tarbitrator")
	groups  = flag.Int("groups", 1, "groups")
	flight  = flag.Int("flight", 1024, "proposals in flight, all groups together")
	length  = flag.Duration("for", 5*time.Second, "length of one measurement")
	rounds  = flag.Int("rounds", 5, "measurements; the median is reported")
	lag     = flag.Int("lag", 0, "measure the opening of the feed after this many entries instead")
	total   = flag.Int("total", 0, "with -lag: entries committed in all, those before the lag with the arbitrator; default -lag")
	profile = flag.String("cpuprofile", "", "write the leader's profile to this file")
	role    = flag.String("role", "", "for the program's own use")
	dirFlag = flag.String("dir", "", "for the program's own use")
)

// The fixed cast: UUIDs and ports on loopback.
var (
	leaderUUID   = id.UUID{1}
	followerUUID = id.UUID{2}
	identity     = peer.Identity{Cluster: 77, Secret: peer.Secret{7}}
)

const (
	leaderPort, followerPort       = "16030", "16130"
	arbitratorPort, arbitratorHTTP = "16042", "16043"

	payload = 16
)

func addr(port string) string { return net.JoinHostPort("127.0.0.1", port) }

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *role == "follower" {
		err = follow(ctx)
	} else {
		err = lead(ctx)
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// spec is group g as a member of the cast has it.
func spec(g id.Group, self id.Replica, witness id.UUID) consensus.GroupSpec {
	return consensus.GroupSpec{Group: g, Replica: self, Formed: true, Members: []consensus.Member{
		{Replica: 1, UUID: leaderUUID}, {Replica: 2, UUID: followerUUID}, {Replica: 3, UUID: witness, Witness: true},
	}}
}

// follow is the follower's process: it holds its replicas until it is killed.
func follow(ctx context.Context) error {
	witness, err := readWitness(*dirFlag)
	if err != nil {
		return err
	}
	s, err := newStack(ctx, filepath.Join(*dirFlag, "follower"), followerUUID, followerPort, leaderUUID, leaderPort, witness)
	if err != nil {
		return err
	}
	defer s.stop()
	for g := range *groups {
		if err := s.host.Create(ctx, spec(id.Group(g+2), 2, witness), newNothing()); err != nil {
			return err
		}
	}
	return giveAway(ctx, s.host)
}

// giveAway hands every group that this process comes to lead to the other.
func giveAway(ctx context.Context, h *consensus.Host) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		for _, s := range h.Statuses() {
			if s.Role != consensus.RoleMaster {
				continue
			}
			if err := h.Transfer(ctx, s.Group, 1); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func readWitness(dir string) (id.UUID, error) {
	b, err := os.ReadFile(filepath.Join(dir, "witness"))
	if err != nil {
		return id.UUID{}, err
	}
	return id.ParseUUID(string(b))
}

// lead is the leader's process, which also starts the others and measures.
func lead(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "consensus")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if *lag > 0 {
		return measureLags(ctx, dir)
	}
	cast, err := newCast(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cast.stop()) }()
	defer startProfile()()
	var rates, medians []float64
	for range *rounds {
		rate, median, err := measure(ctx, cast.host)
		if err != nil {
			return err
		}
		rates, medians = append(rates, rate), append(medians, median)
	}
	slices.Sort(rates)
	slices.Sort(medians)
	fmt.Printf("%d groups, %d in flight: %.0f proposals/s, median latency %.3f ms (medians of %d)\n",
		*groups, *flight, rates[len(rates)/2], medians[len(medians)/2], *rounds)
	return nil
}

// measure keeps *flight proposals under way for *length.
func measure(ctx context.Context, h *consensus.Host) (rate, medianMs float64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var count atomic.Int64
	var failed atomic.Pointer[error]
	var done sync.WaitGroup
	samples := make([][]time.Duration, *flight)
	for p := range *flight {
		done.Go(func() {
			data := make([]byte, payload)
			g := id.Group(p%*groups + 2)
			for i := uint64(0); ctx.Err() == nil; i++ {
				binary.LittleEndian.PutUint64(data, i)
				at := time.Now()
				if _, err := h.Propose(context.Background(), g, slices.Clone(data)); err != nil {
					failed.Store(&err)
					return
				}
				count.Add(1)
				if len(samples[p]) < 1<<16 {
					samples[p] = append(samples[p], time.Since(at))
				}
			}
		})
	}
	time.Sleep(*length / 5) // warm up
	from, start := count.Load(), time.Now()
	time.Sleep(*length)
	n, took := count.Load()-from, time.Since(start)
	cancel()
	done.Wait()
	if e := failed.Load(); e != nil {
		return 0, 0, *e
	}
	all := slices.Concat(samples...)
	slices.Sort(all)
	return float64(n) / took.Seconds(), float64(all[len(all)/2].Microseconds()) / 1000, nil
}

// measureLags measures *rounds openings of the feed, each with a cast of its
// own.
func measureLags(ctx context.Context, dir string) error {
	var all []float64
	for i := range *rounds {
		ms, err := measureLag(ctx, filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return err
		}
		all = append(all, ms)
	}
	slices.Sort(all)
	fmt.Printf("after %d entries without the arbitrator, %d in all: %.1f ms from the other host's death to the first commit (median of %d, %.1f to %.1f)\n",
		*lag, max(*total, *lag), all[len(all)/2], *rounds, all[0], all[len(all)-1])
	return nil
}

// measureLag commits *lag entries while the arbitrator is away, brings it back,
// kills the follower, and measures the time to the next commit.
func measureLag(ctx context.Context, dir string) (ms float64, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	c, err := newCast(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	// A process that has done more takes longer to die: compare lags at the same
	// total.
	if err := commit(ctx, c.host, max(*total-*lag, 0)); err != nil {
		return 0, err
	}
	if err := c.killArbitrator(); err != nil {
		return 0, err
	}
	if err := commit(ctx, c.host, *lag); err != nil {
		return 0, err
	}
	back := time.Now()
	if err := c.startArbitrator(ctx); err != nil {
		return 0, err
	}
	for ctx.Err() == nil { // until it has said something to this host
		if age, ok := c.host.Heard(c.witness); ok && age < time.Since(back) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	died := time.Now()
	if err := c.killFollower(); err != nil {
		return 0, err
	}
	if _, err := c.host.Propose(ctx, 2, make([]byte, payload)); err != nil {
		return 0, err
	}
	return float64(time.Since(died).Microseconds()) / 1000, nil
}

// commit proposes n entries, *flight at a time.
func commit(ctx context.Context, h *consensus.Host, n int) error {
	var left atomic.Int64
	left.Store(int64(n))
	var workers errgroup.Group
	for range *flight {
		workers.Go(func() error {
			for left.Add(-1) >= 0 {
				if _, err := h.Propose(ctx, 2, make([]byte, payload)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return workers.Wait()
}

// cast is the three processes.
type cast struct {
	*stack
	dir        string
	witness    id.UUID
	arbitrator *exec.Cmd
	follower   *exec.Cmd
}

func newCast(ctx context.Context, dir string) (c *cast, err error) {
	c = &cast{dir: dir}
	if err := c.startArbitrator(ctx); err != nil {
		return nil, err
	}
	if c.stack, err = newStack(ctx, filepath.Join(dir, "leader"), leaderUUID, leaderPort, followerUUID, followerPort, c.witness); err != nil {
		return nil, errors.Join(err, c.killArbitrator())
	}
	c.follower = exec.Command(os.Args[0], "-role", "follower", "-dir", dir, "-groups", fmt.Sprint(*groups))
	c.follower.Stderr = os.Stderr
	c.follower.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.follower.Start(); err != nil {
		return nil, err
	}
	for g := range *groups {
		gid := id.Group(g + 2)
		if err := c.host.Enroll(ctx, gid, 3, c.witness); err != nil {
			return nil, err
		}
		if err := c.host.Create(ctx, spec(gid, 1, c.witness), newNothing()); err != nil {
			return nil, err
		}
	}
	return c, c.waitForLead(ctx)
}

// waitForLead waits until this process leads everything and is in sync.
func (c *cast) waitForLead(ctx context.Context) error {
	for ctx.Err() == nil {
		ready := 0
		for _, s := range c.host.Statuses() {
			if s.Role == consensus.RoleMaster && s.Mode == consensus.ModeSync {
				ready++
			}
		}
		if ready == *groups {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return ctx.Err()
}

func (c *cast) stop() error {
	c.stack.stop()
	return errors.Join(c.killFollower(), c.killArbitrator())
}

func (c *cast) killFollower() error {
	if c.follower == nil {
		return nil
	}
	cmd := c.follower
	c.follower = nil
	err := cmd.Process.Kill()
	_ = cmd.Wait() // killed, as asked
	return err
}

// startArbitrator starts the real program and learns who it is.
func (c *cast) startArbitrator(ctx context.Context) error {
	_, port, _ := net.SplitHostPort(addr(arbitratorPort)) // a constant
	c.arbitrator = exec.Command(filepath.Join(*bin, "tarbitrator"), "--bind", "127.0.0.1", "--port", port,
		"--http", addr(arbitratorHTTP), "--data-dir", filepath.Join(c.dir, "arbitrator"))
	c.arbitrator.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.arbitrator.Start(); err != nil {
		c.arbitrator = nil
		return fmt.Errorf("start the arbitrator: %w", err)
	}
	var status struct{ UUID string }
	for ctx.Err() == nil {
		resp, err := http.Get("http://" + addr(arbitratorHTTP) + "/status")
		if err == nil {
			err = json.NewDecoder(resp.Body).Decode(&status)
			resp.Body.Close()
		}
		if err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	u, err := id.ParseUUID(status.UUID)
	if err != nil {
		return fmt.Errorf("ask the arbitrator who it is: %w", err)
	}
	c.witness = u
	return os.WriteFile(filepath.Join(c.dir, "witness"), []byte(u.String()), 0o600)
}

func (c *cast) killArbitrator() error {
	if c.arbitrator == nil {
		return nil
	}
	cmd := c.arbitrator
	c.arbitrator = nil
	err := cmd.Process.Kill()
	_ = cmd.Wait() // killed, as asked
	return err
}
