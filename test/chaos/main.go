// Command chaos breaks a whole cluster again and again while clients write,
// and checks after every round that nothing was lost.
//
// Every writer counts the rows that were acknowledged. A round hurts the
// cluster several times: processes are killed, frozen and cut off, cables fail
// in one direction, the power of a disk is cut. Then everything is healed, and
// each data host must hold exactly the acknowledged rows in its own replicas,
// with equal digests at an equal applied index. While the cluster is hurt,
// reads must never miss a row that was acknowledged before they began.
//
// It needs root, and nft for the faults of single links.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/tarbitrator/tarbitrator/test/rig"
)

var (
	bin     = flag.String("bin", "bin", "directory of tnode and tarbitrator")
	rounds  = flag.Int("rounds", 20, "how often to hurt, heal and check")
	hurts   = flag.Int("hurts", 6, "faults in a round")
	writers = flag.Int("writers", 8, "clients that write, each to a table of its own")
	only    = flag.String("fault", "", "only faults whose name contains this")
	seed    = flag.Uint64("seed", 0, "order of the faults; 0: draw one")
	ddl     = flag.Bool("ddl", true, "create and drop databases meanwhile")
	dir     = flag.String("dir", "", "directory for data and logs, kept; a temporary one otherwise, kept after a failure")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if _, ok := rig.Inside(); !ok {
		code, err := rig.Enter(ctx)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "chaos: seed %d: %v\n", *seed, err)
		os.Exit(1)
	}
	fmt.Println("nothing lost")
}

func run(ctx context.Context) (err error) {
	home := *dir
	if home == "" {
		if home, err = os.MkdirTemp("", "chaos"); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				err = os.RemoveAll(home)
			}
		}()
	}
	fmt.Printf("seed %d, logs in %s\n", *seed, home)
	// Every process of a rig has its own view of the mounts. A disk is only gone
	// once it is gone from all of them.
	if out, err := exec.Command("mount", "--make-rshared", "/").CombinedOutput(); err != nil {
		return fmt.Errorf("share mounts: %w: %s", err, out)
	}
	r, err := rig.New(home, rig.Options{Bin: *bin, Disks: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	up, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := r.Up(up); err != nil {
		return err
	}
	w, err := newWorld(up, r, home)
	if err != nil {
		return err
	}
	return w.rounds(ctx)
}

// world is the cluster with those who write to it.
type world struct {
	*rig.Rig
	home   string
	random *rand.Rand
	load   *load
}

const database = "CREATE DATABASE d REPLICA 2 VGROUPS 2"

func newWorld(ctx context.Context, r *rig.Rig, home string) (*world, error) {
	w := &world{Rig: r, home: home, random: rand.New(rand.NewPCG(*seed, 0)), load: newLoad(*writers)}
	if err := r.SQL(ctx, rig.A, database); err != nil {
		return nil, err
	}
	for i := range *writers {
		if err := r.SQL(ctx, rig.A, fmt.Sprintf("CREATE TABLE %s (ts TIMESTAMP, v BIGINT)", table(i))); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *world) rounds(ctx context.Context) error {
	faults := chosen(*only)
	if len(faults) == 0 {
		return fmt.Errorf("no fault is called %q", *only)
	}
	for n := range *rounds {
		running, stop := context.WithCancel(ctx)
		done := w.load.start(running, *ddl)
		time.Sleep(500 * time.Millisecond)
		var names []string
		for range *hurts {
			f := faults[w.random.IntN(len(faults))]
			names = append(names, f.name)
			if err := w.hurt(ctx, f); err != nil {
				stop()
				<-done
				return fmt.Errorf("round %d, %s: %w", n, strings.Join(names, ", "), err)
			}
		}
		err := w.writesAgain(ctx)
		stop()
		<-done
		err = errors.Join(err, w.load.violation())
		if err == nil {
			err = w.check(ctx)
		}
		fmt.Printf("round %d: %s: %d rows, longest wait %.1f s\n", n, strings.Join(names, ", "), w.load.acknowledged(), w.load.longestWait().Seconds())
		if err != nil {
			return fmt.Errorf("round %d: %w", n, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	w.load.printErrors()
	return nil
}

// hurt does one fault, waits a while, heals it, and waits a while.
func (w *world) hurt(ctx context.Context, f fault) error {
	heal, err := f.do(w)
	if err != nil {
		return err
	}
	w.pause(ctx, 2500*time.Millisecond)
	if err := heal(); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	w.pause(ctx, 1500*time.Millisecond)
	return nil
}

// pause waits for some time up to most, often a short one.
func (w *world) pause(ctx context.Context, most time.Duration) {
	x := w.random.Float64()
	select {
	case <-time.After(time.Duration(x * x * float64(most))):
	case <-ctx.Done():
	}
}
