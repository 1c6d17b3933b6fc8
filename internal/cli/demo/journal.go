package demo

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// journal is what has happened so far. The story writes it; without a live view
// each line is printed at once, with one when the view ends.
type journal struct {
	out   io.Writer
	start time.Time

	mu struct {
		sync.Mutex
		live   bool // lines are kept for the view instead of printed
		events []event
		blows  []blow
		pids   map[string]int // of the processes that run, by name
		load   *load          // nil until it writes
	}
}

// event is one line of the story.
type event struct {
	at   time.Duration // since the start
	text string
}

// blow is the end of a process, or its return.
type blow struct {
	at    time.Time
	name  string
	kills bool
}

func newJournal(out io.Writer) *journal {
	j := &journal{out: out, start: time.Now()}
	j.mu.pids = map[string]int{}
	return j
}

func (e event) line() string { return fmt.Sprintf("%5.1f s  %s", e.at.Seconds(), e.text) }

// say adds a line.
func (j *journal) say(format string, args ...any) {
	e := event{time.Since(j.start), fmt.Sprintf(format, args...)}
	j.mu.Lock()
	j.mu.events = append(j.mu.events, e)
	live := j.mu.live
	j.mu.Unlock()
	if !live {
		fmt.Fprintln(j.out, e.line())
	}
}

// started notes that a process runs.
func (j *journal) started(p *process) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, first := j.mu.pids[p.name]; first {
		j.mu.blows = append(j.mu.blows, blow{time.Now(), p.name, false})
	}
	j.mu.pids[p.name] = p.pid()
}

// killed notes that one was killed.
func (j *journal) killed(p *process, at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.pids[p.name] = 0
	j.mu.blows = append(j.mu.blows, blow{at, p.name, true})
}

// watch tells whose acknowledgements are shown.
func (j *journal) watch(l *load) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.load = l
}

// goLive keeps further lines for the view.
func (j *journal) goLive() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.live = true
}

// goPlain prints what was kept, and each further line at once.
func (j *journal) goPlain() {
	j.mu.Lock()
	events := j.mu.events
	j.mu.live = false
	j.mu.Unlock()
	for _, e := range events {
		fmt.Fprintln(j.out, e.line())
	}
}

// terminal is the terminal that a writer is, if it is one that can be redrawn.
func terminal(out io.Writer) (*os.File, bool) {
	f, ok := out.(*os.File)
	return f, ok && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != "" && term.IsTerminal(int(f.Fd()))
}
