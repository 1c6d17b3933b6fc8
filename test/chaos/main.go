// Command chaos breaks a whole cluster again and again while clients use it,
// and checks that they can't tell it from one host that never fails.
//
// Some clients read and write a few shared rows through both hosts. Everything
// they learn is noted, and at the end the whole history must be linearizable:
// an order of the operations exists that explains every read. Others write a
// row after another to tables of their own, each until it is acknowledged, so
// the number of their rows is known.
//
// A round hurts the cluster several times: processes are killed, stopped and
// frozen, cables fail in one direction or both, disks hang, fill up and lose
// power. Then everything is healed, and each data host must hold exactly the
// acknowledged rows in its own replicas, with equal digests at an equal applied
// index.
//
// It needs root, and nft for the faults of single links.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tarbitrator/tarbitrator/test/rig"
)

var (
	bin       = flag.String("bin", "bin", "directory of tnode and tarbitrator")
	length    = flag.Duration("for", 0, "how long to go on; such a run fails if it has proved little")
	rounds    = flag.Int("rounds", 10, "how often to hurt, heal and check, without -for")
	hurts     = flag.Int("hurts", 6, "faults in a round")
	writers   = flag.Int("writers", 4, "clients that write, each to a table of its own")
	clients   = flag.Int("clients", 16, "clients that share the registers")
	keys      = flag.Int("keys", 8, "registers")
	only      = flag.String("fault", "", "only faults whose name contains this")
	seed      = flag.Uint64("seed", 0, "order of the faults; 0: draw one")
	ddl       = flag.Bool("ddl", true, "create and drop databases meanwhile")
	dir       = flag.String("dir", "", "directory for data and logs, kept; a temporary one otherwise, kept after a failure")
	plantFile = flag.String("plant", "", "put the bug of this patch into a copy of the tree, and fail unless a history shows it")
)

func main() {
	flag.Parse()
	if *plantFile != "" {
		os.Exit(plant(*plantFile))
	}
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
	fmt.Println("nothing lost, nothing stale")
}
