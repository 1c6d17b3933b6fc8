package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tarbitrator/tarbitrator/test/rig"
)

// load is the clients. Each writer has one INSERT in flight and repeats it, at
// either host, until it is acknowledged: so the number of its rows is known.
type load struct {
	hosts   []string // end points
	client  *http.Client
	writers []*writer
	mu      struct {
		sync.Mutex
		wrong   []error
		strange map[string]int // answers that are neither success nor a known way to wait
	}
}

type writer struct {
	table  string
	acked  atomic.Int64 // rows 0 to acked-1 are stored
	last   atomic.Int64 // when it was acknowledged last, Unix nanoseconds
	waited atomic.Int64 // longest wait for an acknowledgement
}

func table(i int) string { return fmt.Sprintf("d.t%d", i) }

// firstRow is the timestamp of row 0, in ms.
const firstRow = 1_700_000_000_000

// tryFor is how long a client waits before it asks the other host.
const tryFor = 2 * time.Second

func newLoad(hosts []string, n int) *load {
	l := &load{hosts: hosts, client: &http.Client{
		Timeout: tryFor,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 2 * n,
			DialContext:         (&net.Dialer{Timeout: 300 * time.Millisecond}).DialContext,
		},
	}}
	for i := range n {
		l.writers = append(l.writers, &writer{table: table(i)})
	}
	l.mu.strange = map[string]int{}
	return l
}

// run runs all clients until ctx ends. A statement that is under way then is
// repeated until it is acknowledged.
func (l *load) run(ctx context.Context, ddl bool) {
	var all sync.WaitGroup
	for i, w := range l.writers {
		w.last.Store(time.Now().UnixNano())
		all.Go(func() { l.write(ctx, w, i) })
	}
	all.Go(func() { l.read(ctx) })
	if ddl {
		all.Go(func() { l.define(ctx) })
	}
	all.Wait()
}

func (l *load) endPoint(i int) string { return l.hosts[i%len(l.hosts)] }

const ok = `{"code":0,`

// lateWrites is how long a statement is repeated after its writer was told to
// stop.
const lateWrites = 30 * time.Second

// padding makes the log grow fast: a host that was away must often be given a
// copy of the data, as the log that it lacks is gone.
var padding = strings.Repeat("x", 400)

func (l *load) write(ctx context.Context, w *writer, host int) {
	for ctx.Err() == nil {
		row := w.acked.Load()
		statement := fmt.Sprintf("INSERT INTO %s VALUES (%d, %d, '%s')", w.table, firstRow+row, row, padding)
		giveUp := time.Time{}
		for {
			body, err := rig.Ask(context.Background(), l.client, l.endPoint(host), statement)
			if err == nil && strings.HasPrefix(body, ok) {
				break
			}
			l.note(body)
			host++
			if ctx.Err() != nil {
				if giveUp.IsZero() {
					giveUp = time.Now().Add(lateWrites)
				} else if time.Now().After(giveUp) {
					l.report(fmt.Errorf("%s: still no acknowledgement: %s %w", statement, body, err))
					return
				}
			}
			time.Sleep(20 * time.Millisecond) // a refused connection is refused at once
		}
		now := time.Now().UnixNano()
		w.waited.Store(max(w.waited.Load(), now-w.last.Load()))
		w.last.Store(now)
		w.acked.Store(row + 1)
	}
}

var counted = regexp.MustCompile(`"data":\[\[(\d+)\]\]`)

// read counts rows through either host: none that was acknowledged before may
// be missing.
func (l *load) read(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		w := l.writers[i/2%len(l.writers)]
		atLeast := w.acked.Load()
		body, err := rig.Ask(ctx, l.client, l.endPoint(i), "SELECT COUNT(*) FROM "+w.table)
		if err != nil || !strings.HasPrefix(body, ok) {
			l.note(body)
			time.Sleep(20 * time.Millisecond)
			continue
		}
		atMost := w.acked.Load() + 1
		m := counted.FindStringSubmatch(body)
		if m == nil {
			l.report(fmt.Errorf("strange count: %s", body))
			continue
		}
		if n, _ := strconv.ParseInt(m[1], 10, 64); n < atLeast || n > atMost {
			l.report(fmt.Errorf("%s at %s: %s: %d read, %d to %d acknowledged", w.table, l.endPoint(i), countWrong, n, atLeast, atMost))
		}
	}
}

// define creates databases, writes a row, reads it and drops them again.
func (l *load) define(ctx context.Context) {
	patient := &http.Client{Timeout: 25 * time.Second, Transport: l.client.Transport}
	host := 0
	must := func(statement, fine string) string {
		for ctx.Err() == nil {
			body, err := rig.Ask(ctx, patient, l.endPoint(host), statement)
			if err == nil && (strings.HasPrefix(body, ok) || fine != "" && strings.Contains(body, fine)) {
				return body
			}
			l.note(body)
			host++
			time.Sleep(50 * time.Millisecond)
		}
		return ""
	}
	for i := 0; ctx.Err() == nil; i++ {
		db := "x" + strconv.Itoa(i%3)
		must("CREATE DATABASE IF NOT EXISTS "+db+" REPLICA 2 VGROUPS 1", "")
		must("CREATE TABLE IF NOT EXISTS "+db+".t (ts TIMESTAMP, v INT)", "")
		must(fmt.Sprintf("INSERT INTO %s.t VALUES (%d, 1)", db, firstRow), "")
		if body := must("SELECT COUNT(*) FROM "+db+".t", ""); body != "" && !strings.Contains(body, "[[1]]") {
			l.report(fmt.Errorf("a new database %s answers %s", db, body))
		}
		must("DROP DATABASE IF EXISTS "+db, "")
	}
	// Leave nothing behind for the check.
	for i := range 3 {
		end := time.Now().Add(lateWrites)
		for time.Now().Before(end) {
			body, err := rig.Ask(context.Background(), patient, l.endPoint(host), "DROP DATABASE IF EXISTS x"+strconv.Itoa(i))
			if err == nil && strings.HasPrefix(body, ok) {
				break
			}
			host++
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func (l *load) report(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.wrong = append(l.mu.wrong, err)
}

var digits = regexp.MustCompile(`\d+`)

// note counts the kinds of errors that clients met.
func (l *load) note(body string) {
	if body == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.mu.strange) < 1000 {
		l.mu.strange[digits.ReplaceAllString(body, "#")]++
	}
}

// printErrors shows what clients were told meanwhile.
func (l *load) printErrors() {
	l.mu.Lock()
	defer l.mu.Unlock()
	kinds := slices.SortedFunc(maps.Keys(l.mu.strange), func(a, b string) int { return l.mu.strange[b] - l.mu.strange[a] })
	for _, k := range kinds {
		fmt.Printf("%6d x %s\n", l.mu.strange[k], k)
	}
}

func (l *load) violation() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.mu.wrong...)
}

func (l *load) acknowledged() (n int64) {
	for _, w := range l.writers {
		n += w.acked.Load()
	}
	return n
}

func (l *load) longestWait() (longest time.Duration) {
	for _, w := range l.writers {
		longest = max(longest, time.Duration(w.waited.Swap(0)))
	}
	return longest
}
