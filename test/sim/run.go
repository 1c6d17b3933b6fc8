package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// allScenarios is everything that a seed may be: chaos and stories.
func allScenarios() []scenario { return append(storms(), scenarios()...) }

func storms() []scenario {
	return []scenario{
		{"chaos", chaosOf(2, false)},
		{"chaos-members", chaosOf(2, true)},
		{"chaos-four", chaosOf(4, false)},
	}
}

// plan says what a seed runs: of ten seeds five are chaos on a pair, one with
// changes of membership, one on four hosts, and three are stories in turn.
func plan(seed uint64) scenario {
	s := storms()
	switch n := seed % 10; n {
	case 0, 1, 2, 3, 4:
		return s[0]
	case 5:
		return s[1]
	case 6:
		return s[2]
	default:
		told := scenarios()
		return told[(seed/10*3+n-7)%uint64(len(told))]
	}
}

func find(name string) (scenario, error) {
	for _, s := range allScenarios() {
		if s.name == name {
			return s, nil
		}
	}
	return scenario{}, fmt.Errorf("no scenario is called %q, see -list", name)
}

// result is what became of one seed.
type result struct {
	seed   uint64
	name   string
	hash   uint64
	bad    *violation
	acks   int
	reads  int
	copied int           // states, from host to host
	gap    time.Duration // longest that a bound was put on
	took   time.Duration // virtual
}

// runSeed runs one seed of a scenario.
func runSeed(s scenario, seed uint64, trace io.Writer) (res result) {
	defer seedLibraries(seed)()
	w := newWorld(seed, trace)
	defer func() {
		res = result{seed: seed, name: s.name, hash: w.hash, took: w.now, copied: w.copiesInstalled}
		for _, g := range w.groups {
			res.acks += g.acks
			res.reads += g.reads
		}
		for _, gap := range w.gaps {
			res.gap = max(res.gap, gap)
		}
		if p := recover(); p != nil {
			v, ok := p.(violation)
			if !ok {
				panic(fmt.Sprintf("seed %d, %s: %v", seed, s.name, p))
			}
			res.bad = &v
		}
	}()
	s.run(w)
	for _, g := range w.groups {
		g.checkRegisters()
	}
	return res
}

func (r *result) String() string {
	return fmt.Sprintf("FAILED seed %d (%s) after %.3f s: %s: %s\n  go run ./test/sim -scenario %s -seed %d -trace",
		r.seed, r.name, r.took.Seconds(), r.bad.rule, r.bad.text, r.name, r.seed)
}

func pick(o options, seed uint64) (scenario, error) {
	if o.only != "" {
		return find(o.only)
	}
	return plan(seed), nil
}

// runOne runs and, if asked, tells one seed.
func runOne(o options) (err error) {
	s, err := pick(o, o.seed)
	if err != nil {
		return err
	}
	var trace io.Writer
	if o.trace {
		out := bufio.NewWriter(os.Stdout)
		defer func() { err = errors.Join(err, out.Flush()) }()
		trace = out
	}
	start := time.Now()
	r := runSeed(s, o.seed, trace)
	fmt.Fprintf(os.Stderr, "seed %d (%s): %.1f s in %v, %d acknowledged, %d read, trace %016x\n",
		r.seed, r.name, r.took.Seconds(), time.Since(start).Round(time.Millisecond), r.acks, r.reads, r.hash)
	if r.bad != nil {
		return fmt.Errorf("%v", &r)
	}
	return nil
}

// heapBytes is what a process may use before it collects garbage. A seed leaves
// tens of megabytes behind, and a few of those alive while it runs: collecting
// whenever the heap has doubled, as is usual, marks them over and over.
const heapBytes = 128 << 20

// runRange runs seeds in this process.
func runRange(o options) error {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(heapBytes)
	start, failed := time.Now(), 0
	var n uint64
	var acks, reads, copied int
	var gap time.Duration
	for ; n < o.seeds; n++ {
		if o.budget > 0 && time.Since(start) >= o.budget {
			break
		}
		s, err := pick(o, o.from+n)
		if err != nil {
			return err
		}
		r := runSeed(s, o.from+n, nil)
		acks, reads, copied, gap = acks+r.acks, reads+r.reads, copied+r.copied, max(gap, r.gap)
		if r.bad != nil {
			failed++
			fmt.Println(r.String())
			if !o.keepGoing {
				n++
				break
			}
		}
	}
	took := time.Since(start)
	fmt.Printf("seeds %d to %d: %d failed; %d acknowledged, %d read, %d states copied, longest bounded gap %v; %.1f s, %.1f seeds/s\n",
		o.from, o.from+n-1, failed, acks, reads, copied, gap.Round(ms), took.Seconds(), float64(n)/took.Seconds())
	if failed > 0 {
		return fmt.Errorf("%d of %d seeds failed", failed, n)
	}
	return nil
}

// runProcesses splits the range over processes, after the saved seeds and the
// table of rules.
func runProcesses(o options) error {
	if err := printRules(os.Stdout, rulesFile); err != nil {
		return err
	}
	if err := runSaved(o.saved); err != nil {
		return err
	}
	procs := o.procs
	if procs <= 0 {
		procs = runtime.NumCPU()
	}
	if o.budget > 0 {
		o.from, o.seeds = 1+rand.Uint64N(1<<40), 1<<30*uint64(procs)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	start := time.Now()
	share := (o.seeds + uint64(procs) - 1) / uint64(procs)
	var cmds []*exec.Cmd
	for i := range uint64(procs) {
		args := []string{"-procs", "1", "-from", itoa(o.from + i*share), "-seeds", itoa(min(share, o.seeds-min(o.seeds, i*share)))}
		if o.budget > 0 {
			args = append(args, "-for", o.budget.String())
		}
		if o.keepGoing {
			args = append(args, "-all")
		}
		cmd := exec.Command(self, args...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start process %d: %w", i, err)
		}
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		if e := cmd.Wait(); e != nil {
			err = fmt.Errorf("seeds failed: %w", e)
		}
	}
	if o.record != "" && o.budget == 0 && err == nil {
		return record(o, time.Since(start))
	}
	return err
}

// runSaved runs every seed that ever failed: lines of scenario and seed.
func runSaved(name string) error {
	f, err := os.Open(name)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the saved seeds: %w", err)
	}
	defer f.Close()
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] == "#" {
			continue
		}
		seed, err := strconv.ParseUint(words[1], 10, 64)
		if err != nil {
			return fmt.Errorf("saved seed %q: %w", lines.Text(), err)
		}
		s, err := find(words[0])
		if err != nil {
			return err
		}
		if r := runSeed(s, seed, nil); r.bad != nil {
			return fmt.Errorf("saved %v", &r)
		}
		n++
	}
	fmt.Printf("%d saved seeds passed\n", n)
	return nil
}

const recordTitle = `# Simulated seeds

Ranges that passed, by ` + "`make sim FROM= SEEDS=`" + `.

| when | seeds | took | commit |
| --- | --- | --- | --- |
`

// record appends one line about a range that passed.
func record(o options, took time.Duration) error {
	commit, err := exec.Command("git", "describe", "--always", "--dirty", "--exclude", "*").Output()
	if err != nil {
		return fmt.Errorf("ask git for the commit: %w", err)
	}
	f, err := os.OpenFile(o.record, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the record: %w", err)
	}
	if info, e := f.Stat(); e == nil && info.Size() == 0 {
		_, err = f.WriteString(recordTitle)
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "| %s | %d to %d | %.0f s | %s |\n",
			time.Now().UTC().Format("2006-01-02 15:04"), o.from, o.from+o.seeds-1, took.Seconds(), strings.TrimSpace(string(commit)))
	}
	return errors.Join(err, f.Close())
}
