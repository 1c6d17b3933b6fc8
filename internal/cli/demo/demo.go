// Package demo runs an arbitrator and two data hosts on this machine, writes to
// them while it kills them in turn, and counts what is left.
//
// It holds no rule of the product: it sees what any client sees.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/client"
)

// Config says how the demo runs.
type Config struct {
	Keep bool // leave the cluster running when the story is told
	// Out takes a line for each thing that happens. A terminal gets a live view
	// first, and the lines when that ends.
	Out io.Writer
}

// How long the demo waits before it calls something failed.
const (
	startWithin   = 15 * time.Second
	failOver      = 10 * time.Second
	catchUpWithin = 20 * time.Second
	calm          = 2 * time.Second // of undisturbed writing between two blows
)

// story is one run of the demo.
type story struct {
	config  Config
	rig     *rig
	journal *journal
	client  *client.Client
	load    *load
	machine *machine
}

// Run runs the demo and cleans up, also when ctx ends early. It returns an
// error if anything that was acknowledged is not there at the end.
func Run(ctx context.Context, config Config) (err error) {
	dir, err := os.MkdirTemp("", "tarbitrator-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	s := &story{config: config, journal: newJournal(config.Out)}
	if s.rig, err = newRig(dir, config.Keep); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	defer func() { err = errors.Join(err, s.leave(ctx, dir, err)) }()
	c := client.DefaultConfig()
	c.EndPoints = []string{s.rig.hosts[0].http, s.rig.hosts[1].http}
	c.TryTimeout = time.Second
	if s.client, err = client.New(c); err != nil {
		return err
	}
	defer s.client.Close()
	stopView := s.show(ctx)
	err = s.tell(ctx)
	stopView()
	if ctx.Err() != nil {
		s.say("stopped")
		return ctx.Err()
	}
	return err
}

// leave cleans up. What is left behind, because it is wanted or to find out what
// went wrong, is said.
func (s *story) leave(ctx context.Context, dir string, err error) error {
	if s.config.Keep && err == nil {
		fmt.Fprint(s.config.Out, s.rig.kept())
		return nil
	}
	s.rig.stop()
	if err != nil && ctx.Err() == nil {
		s.say("data and logs stay in %s", dir)
		return nil
	}
	return os.RemoveAll(dir)
}

func (s *story) say(format string, args ...any) { s.journal.say(format, args...) }

// tell is the story: birth, load, three deaths, verdict.
func (s *story) tell(ctx context.Context) error {
	if err := s.birth(ctx); err != nil {
		return err
	}
	writing, stop := context.WithCancel(ctx)
	defer stop()
	s.load = &load{client: s.client, base: time.Now().UnixMilli()}
	s.machine = &machine{client: s.client}
	s.journal.watch(s.load)
	var writers sync.WaitGroup
	writers.Go(func() { s.load.run(writing) })
	writers.Go(func() { s.machine.run(writing, "this machine") })
	err := s.blows(ctx)
	stop()
	writers.Wait()
	if err != nil {
		return err
	}
	return s.verdict(ctx)
}

// birth starts the three processes and makes them a cluster with a database.
func (s *story) birth(ctx context.Context) error {
	for _, p := range []*process{s.rig.arbitrator, s.rig.hosts[0], s.rig.hosts[1]} {
		if err := p.start(); err != nil {
			return err
		}
		s.journal.started(p)
		s.say("%s started on %s (pid %d)", p.name, p.listen, p.pid())
	}
	a, b := s.rig.hosts[0], s.rig.hosts[1]
	err := await(ctx, "host A founds a cluster", startWithin, func(ctx context.Context) (bool, error) {
		err := s.client.Ping(ctx, a.http)
		return err == nil, err
	})
	if err != nil {
		return s.withLog(err, a)
	}
	statements := []string{
		"CREATE DNODE '" + b.listen + "'",
		"", // wait for host B
		"CREATE DATABASE demo REPLICA 2",
		createMachine,
	}
	for w := range writers {
		statements = append(statements, fmt.Sprintf("CREATE TABLE "+tableName+" (ts TIMESTAMP, n BIGINT)", w))
	}
	for _, statement := range statements {
		if statement == "" {
			if err := s.paired(ctx); err != nil {
				return s.withLog(err, b)
			}
			continue
		}
		if _, err := s.client.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
		s.say("%s", statement)
	}
	return nil
}

// paired waits until both hosts and the arbitrator hold the metadata together.
func (s *story) paired(ctx context.Context) error {
	return await(ctx, "host B joins and the arbitrator answers", startWithin, func(ctx context.Context) (bool, error) {
		mnodes, err := s.client.Query(ctx, "SHOW MNODES")
		if err != nil {
			return false, err
		}
		dnodes, err := s.client.Query(ctx, "SHOW DNODES")
		if err != nil {
			return false, err
		}
		return len(mnodes.Data) == 2 && all(mnodes, "role", "master", "slave") && len(dnodes.Data) == 3 && all(dnodes, "status", "ready"), nil
	})
}

// all reports whether every row has one of the values in a column.
func all(rows *client.Rows, column string, values ...string) bool {
	at := rows.Index(column)
	if at < 0 {
		return false
	}
	for row := range rows.Data {
		one := false
		for _, v := range values {
			one = one || rows.Text(row, at) == v
		}
		if !one {
			return false
		}
	}
	return true
}

// blows kills the master, the arbitrator and the other host, one at a time, and
// waits for the cluster to be whole again in between.
func (s *story) blows(ctx context.Context) error {
	if err := s.whole(ctx); err != nil {
		return err
	}
	if err := s.write(ctx); err != nil {
		return err
	}
	for _, victim := range []func(context.Context) (*process, error){
		s.master, func(context.Context) (*process, error) { return s.rig.arbitrator, nil }, s.master,
	} {
		p, err := victim(ctx)
		if err != nil {
			return err
		}
		if err := s.blow(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// blow kills one process, measures what clients felt, and brings it back.
func (s *story) blow(ctx context.Context, p *process) error {
	role := "the master"
	if p == s.rig.arbitrator {
		role = "which only votes"
	}
	at, err := p.kill()
	if err != nil {
		return err
	}
	s.journal.killed(p, at)
	s.say("SIGKILL %s, %s", p.name, role)
	err = await(ctx, "writes go on", failOver, func(context.Context) (bool, error) {
		_, over := s.load.gap(at)
		_, _, failed := s.load.counts()
		return over, failed
	})
	if err != nil {
		return err
	}
	if err := s.write(ctx); err != nil {
		return err
	}
	longest, _ := s.load.gap(at)
	s.say("writes went on; the longest time without an acknowledgement was %d ms", longest.Milliseconds())
	if err := p.start(); err != nil {
		return err
	}
	back := time.Now()
	s.journal.started(p)
	s.say("%s started again (pid %d)", p.name, p.pid())
	if err := s.whole(ctx); err != nil {
		return s.withLog(err, p)
	}
	s.say("whole again after %.1f s: both hosts in sync, the arbitrator is told nothing more", time.Since(back).Seconds())
	return s.write(ctx)
}

// write lets the load run undisturbed for a while and says how far it is.
func (s *story) write(ctx context.Context) error {
	timer := time.NewTimer(calm)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	_, n, err := s.load.counts()
	if err != nil {
		return fmt.Errorf("a write was given up: %w", err)
	}
	s.say("%d counted rows acknowledged", n)
	return nil
}

// whole waits until every group has both replicas in sync, a shut feed, and all
// processes answer.
func (s *story) whole(ctx context.Context) error {
	return await(ctx, "both hosts in sync and the feed shut", catchUpWithin, func(ctx context.Context) (bool, error) {
		groups, err := s.client.Query(ctx, "SHOW demo.VGROUPS")
		if err != nil {
			return false, err
		}
		dnodes, err := s.client.Query(ctx, "SHOW DNODES")
		if err != nil {
			return false, err
		}
		if err := s.rig.arbitrator.healthy(ctx); err != nil {
			return false, err
		}
		return len(groups.Data) > 0 && all(groups, "mode", "sync") && all(groups, "feed", "shut") && all(groups, "onlines", "2") &&
			all(dnodes, "status", "ready"), nil
	})
}

// master is the host that leads the groups of the database.
func (s *story) master(ctx context.Context) (*process, error) {
	groups, err := s.client.Query(ctx, "SHOW demo.VGROUPS")
	if err != nil {
		return nil, fmt.Errorf("find the master: %w", err)
	}
	for i, h := range s.rig.hosts {
		if all(groups, fmt.Sprintf("v%d_status", i+1), "master") {
			return h, nil
		}
	}
	return nil, errors.New("find the master: no host leads all groups")
}

// logTail bounds what of a log is quoted.
const logTail = 2 << 10

// withLog adds the end of a process's log to an error.
func (s *story) withLog(err error, p *process) error {
	b, readErr := os.ReadFile(p.log)
	if readErr != nil {
		return err
	}
	if len(b) > logTail {
		b = b[len(b)-logTail:]
	}
	return fmt.Errorf("%w\nthe end of %s:\n%s", err, filepath.Base(p.log), b)
}
