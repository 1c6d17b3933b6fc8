// Command sim runs the cluster's quorum rules through seeded simulations: one
// thread, virtual time, the real machines of consensus and arbitrator, the real
// log over a disk that knows process death and power loss.
//
// It knows no rule itself: it acts as a shell and checks what must hold. Equal
// seeds give equal runs, so a seed is a bug report.
//
//	go run ./test/sim -from 1 -seeds 2000        a range of seeds
//	go run ./test/sim -for 240s                  a time budget, from a random seed
//	go run ./test/sim -seed 4711 -trace          one seed, told step by step
//	go run ./test/sim -scenario leader-killed    one story over a range of seeds
//	go run ./test/sim -rules                     the table of rules and their tests
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	var o options
	flag.Uint64Var(&o.from, "from", 1, "first `seed`")
	flag.Uint64Var(&o.seeds, "seeds", 2000, "number of seeds")
	flag.DurationVar(&o.budget, "for", 0, "run from a random seed for this long, after every seed that ever failed")
	flag.StringVar(&o.only, "scenario", "", "run only this `name`, see -list")
	flag.Uint64Var(&o.seed, "seed", 0, "run only this seed")
	flag.BoolVar(&o.trace, "trace", false, "tell the one seed step by step")
	flag.IntVar(&o.procs, "procs", 0, "processes; default: one for each processor")
	flag.StringVar(&o.record, "record", "docs/benchmarks/sim.md", "append range, commit and time of a range that passed to this `file`; empty: don't")
	flag.StringVar(&o.saved, "saved", "test/sim/seeds.txt", "`file` of every seed that ever failed")
	flag.BoolVar(&o.keepGoing, "all", false, "do not stop at the first failing seed")
	list := flag.Bool("list", false, "list the scenarios")
	rules := flag.Bool("rules", false, "print the table of rules and the tests that guard them")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "sim: no arguments, only flags; see -help")
		os.Exit(2)
	}
	switch {
	case *list:
		for _, s := range allScenarios() {
			fmt.Println(s.name)
		}
	case *rules:
		exit(printRules(os.Stdout, rulesFile))
	case o.seed != 0:
		exit(runOne(o))
	case o.only != "" || o.procs == 1:
		exit(runRange(o))
	default:
		exit(runProcesses(o))
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	from, seeds, seed uint64
	budget            time.Duration
	only              string
	trace, keepGoing  bool
	procs             int
	record, saved     string
}
