// Command arbitrator measures what a healthy cluster under full write load costs
// its arbitrator: bytes on the wire with all headers, syncs, memory. During the
// measurement no feed may open and nobody may be elected.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tarbitrator/tarbitrator/test/rig"
)

var (
	bin     = flag.String("bin", "bin", "directory of tnode and tarbitrator")
	length  = flag.Duration("for", 60*time.Second, "how long to measure")
	clients = flag.Int("clients", 32, "connections that write one row at a time")
	vgroups = flag.Int("vgroups", 4, "vgroups of the database")
)

// The gates.
const (
	maxBytesPerSecond = 500
	maxResidentBytes  = 25 << 20
)

func main() { rig.Main(measure) }

func measure(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "arbitrator")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, err := rig.New(dir, rig.Options{Bin: *bin})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := prepare(ctx, r); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var written atomic.Int64
	var done sync.WaitGroup
	for c := range *clients {
		done.Go(func() { write(ctx, r, c, &written) })
	}
	time.Sleep(8 * time.Second) // start-up, and the first pulse of every group
	before, err := look(r)
	if err != nil {
		cancel()
		return err
	}
	rows := written.Load()
	time.Sleep(*length)
	after, err := look(r)
	rows = written.Load() - rows
	cancel()
	done.Wait()
	if err != nil {
		return err
	}
	return judge(before, after, rows)
}

func prepare(ctx context.Context, r *rig.Rig) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := r.Up(ctx); err != nil {
		return err
	}
	if err := r.SQL(ctx, rig.A, fmt.Sprintf("CREATE DATABASE d REPLICA 2 VGROUPS %d", *vgroups)); err != nil {
		return err
	}
	for c := range *clients {
		if err := r.SQL(ctx, rig.A, fmt.Sprintf("CREATE TABLE d.t%d (ts TIMESTAMP, v BIGINT)", c)); err != nil {
			return err
		}
	}
	return nil
}

// write inserts one row after another, at one host and then at the other.
func write(ctx context.Context, r *rig.Rig, c int, written *atomic.Int64) {
	h := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2}, Timeout: 5 * time.Second}
	host := r.EndPoint([]string{rig.A, rig.B}[c%2])
	for i := int64(0); ctx.Err() == nil; i++ {
		body, err := rig.Ask(ctx, h, host, fmt.Sprintf("INSERT INTO d.t%d VALUES (%d, %d)", c, 1_700_000_000_000+i, i))
		if err == nil && strings.HasPrefix(body, `{"code":0`) {
			written.Add(1)
		}
	}
}

// sight is what is counted, at one moment.
type sight struct {
	at        time.Time
	wire      uint64
	syncs     uint64
	resident  uint64
	elections int
	openings  int
}

var syncsLine = regexp.MustCompile(`(?m)^tarbitrator_generation (\d+)`)

func look(r *rig.Rig) (s sight, err error) {
	s.at = time.Now()
	if s.wire, err = r.WireBytes(rig.Arbitrator); err != nil {
		return s, err
	}
	if s.resident, err = r.ResidentBytes(rig.Arbitrator); err != nil {
		return s, err
	}
	page, err := r.Get(rig.Arbitrator, "http://127.0.0.1:6043/metrics")
	if err != nil {
		return s, err
	}
	m := syncsLine.FindStringSubmatch(page)
	if m == nil {
		return s, errors.New("the arbitrator's metrics have no tarbitrator_generation")
	}
	s.syncs, _ = strconv.ParseUint(m[1], 10, 64) // digits, says the pattern
	for _, n := range []string{rig.A, rig.B} {
		log, err := os.ReadFile(r.Log(n))
		if err != nil {
			return s, err
		}
		s.elections += strings.Count(string(log), "leads now")
		s.openings += strings.Count(string(log), "to=open")
	}
	return s, nil
}

func judge(before, after sight, rows int64) error {
	took := after.at.Sub(before.at).Seconds()
	rate := float64(after.wire-before.wire) / took
	syncs := float64(after.syncs-before.syncs) / took
	fmt.Printf("rows acknowledged        %.0f/s\n", float64(rows)/took)
	fmt.Printf("on the arbitrator's wire %.0f bytes/s (limit %d)\n", rate, maxBytesPerSecond)
	fmt.Printf("syncs                    %.2f/s (limit 0.4: one per pulse and host)\n", syncs)
	fmt.Printf("resident memory          %.1f MB (limit %d)\n", float64(after.resident)/1e6, maxResidentBytes>>20)
	fmt.Printf("elections %d, feed openings %d (limit 0)\n", after.elections-before.elections, after.openings-before.openings)
	var errs []error
	if rate >= maxBytesPerSecond {
		errs = append(errs, errors.New("too many bytes"))
	}
	if syncs > 0.4+0.1 {
		errs = append(errs, errors.New("too many syncs"))
	}
	if after.resident >= maxResidentBytes {
		errs = append(errs, errors.New("too much memory"))
	}
	if after.elections != before.elections || after.openings != before.openings {
		errs = append(errs, errors.New("the cluster was not calm"))
	}
	if rows == 0 {
		errs = append(errs, errors.New("nothing was written"))
	}
	return errors.Join(errs...)
}
