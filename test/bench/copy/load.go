package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tarbitrator/tarbitrator/test/rig"
)

const (
	tables    = 64
	fillBytes = 1000 // of the text in a row of the data
	fillRows  = 200  // of one statement
	// fillAtOnce keeps the disk busy and the queue of the group short.
	fillAtOnce = 4
	// epoch is the first timestamp; a row a second follows.
	epoch = 1_700_000_000_000
)

// fill writes so many bytes of rows that nothing makes shorter.
func fill(ctx context.Context, host string, size int) error {
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(fillAtOnce)
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: fillAtOnce}}
	for i := range size / (fillBytes * fillRows) {
		all.Go(func() error {
			var b strings.Builder
			fmt.Fprintf(&b, "INSERT INTO d.f%d VALUES", i%tables)
			noise := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), byte(i >> 16)})
			text := make([]byte, fillBytes/2)
			for row := range fillRows {
				_, _ = noise.Read(text) // never fails
				fmt.Fprintf(&b, "(%d,'%s')", epoch+int64(i*fillRows+row), hex.EncodeToString(text))
			}
			return insert(ctx, c, host, b.String())
		})
	}
	return all.Wait()
}

// insert runs one statement, which must succeed.
func insert(ctx context.Context, c *http.Client, host, statement string) error {
	body, err := rig.Ask(ctx, c, host, statement)
	if err == nil && !strings.HasPrefix(body, `{"code":0,`) {
		err = fmt.Errorf("statement failed: %.200s", body)
	}
	return err
}

// load sends statements at fixed moments, whether or not those before it are
// answered: a stall makes all of them late that were due meanwhile. A statement
// takes from when it was due until its answer.
type load struct {
	hosts  [2]string // the second is asked where the first does not serve
	client *http.Client
	cancel context.CancelFunc
	wait   sync.WaitGroup
	next   atomic.Int64 // row

	mu struct {
		sync.Mutex
		done []answered
		err  error // the first
	}
}

// answered is one statement.
type answered struct {
	due  time.Time
	took time.Duration
}

// senders is how many statements may be under way: at 200 a second they are
// not all in use before a stall has lasted for seconds.
const senders = 1024

// started is the first row of the next load: no two write the same.
var started int64

func startLoad(ctx context.Context, host, other string) (*load, error) {
	if *rate <= 0 || *rows <= 0 {
		return nil, errors.New("-rate and -rows must be above zero")
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &load{hosts: [2]string{host, other}, cancel: cancel, client: &http.Client{
		Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: senders},
	}}
	l.next.Store(started)
	due := make(chan time.Time, senders)
	l.wait.Go(func() { l.clock(ctx, due) })
	for range senders {
		l.wait.Go(func() {
			for at := range due {
				l.send(ctx, at)
			}
		})
	}
	return l, nil
}

// clock says when statements are due, and closes due when ctx ends.
func (l *load) clock(ctx context.Context, due chan<- time.Time) {
	defer close(due)
	step := time.Second / time.Duration(*rate)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for at := time.Now(); ; at = at.Add(step) {
		timer.Reset(time.Until(at))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return
		case due <- at:
		}
	}
}

func (l *load) send(ctx context.Context, due time.Time) {
	to := l.next.Add(int64(*rows))
	row := to - int64(*rows)
	err := insert(ctx, l.client, l.hosts[0], statement(row))
	took := time.Since(due)
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.mu.err = errors.Join(l.mu.err, err)
		return
	}
	l.mu.done = append(l.mu.done, answered{due: due, took: took})
}

// statement inserts rows from one on, with values as sensors give them.
func statement(row int64) string {
	b := fmt.Appendf(nil, "INSERT INTO d.t%d VALUES ", row/int64(*rows)%tables)
	for i := range int64(*rows) {
		at := row + i
		b = append(b, '(')
		b = strconv.AppendInt(b, epoch+at*1000, 10)
		b = append(b, ',')
		b = strconv.AppendFloat(b, float64(2000+at*7%500)/100, 'f', 2, 64)
		b = append(b, ',')
		b = strconv.AppendInt(b, at%1000, 10)
		b = append(b, ')')
	}
	return string(b)
}

// stop ends the load.
func (l *load) stop() {
	l.cancel()
	l.wait.Wait()
	l.client.CloseIdleConnections()
	started = l.next.Load()
}

// during waits.
func (l *load) during(d time.Duration) error {
	end := time.Now().Add(d)
	return l.until(func() (bool, error) { return time.Now().After(end), nil })
}

// until waits until so is true, or a statement has failed.
func (l *load) until(so func() (bool, error)) error {
	for end := time.Now().Add(20 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		l.mu.Lock()
		err := l.mu.err
		l.mu.Unlock()
		if err != nil {
			return err
		}
		if ok, err := so(); ok || err != nil {
			return err
		}
	}
	return errors.New("not within 20 minutes")
}

// between is how long the statements took that were due in this time, sorted.
func (l *load) between(from, to time.Time) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []time.Duration
	for _, a := range l.mu.done {
		if !a.due.Before(from) && a.due.Before(to) {
			list = append(list, a.took)
		}
	}
	slices.Sort(list)
	return list
}
