package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/tarbitrator/tarbitrator/client"
	"github.com/tarbitrator/tarbitrator/internal/cli/screen"
)

const (
	drawEvery = 100 * time.Millisecond
	askEvery  = 250 * time.Millisecond
	// rateOver is the time over which traffic is averaged: the arbitrator's
	// pulse comes every 5 seconds.
	rateOver = 5 * time.Second
)

// Terminal sequences: another screen without a cursor, and back; the top left
// corner; the rest of a line, and of the screen, empty.
const (
	enterView = "\x1b[?1049h\x1b[?25l"
	leaveView = "\x1b[?25h\x1b[?1049l"
	topLeft   = "\x1b[H"
	restEmpty = "\x1b[K"
	downEmpty = "\x1b[J"
)

// live shows the story on a terminal while it is told. It only looks.
type live struct {
	*story
	out *os.File

	mu struct {
		sync.Mutex
		status  *client.Status // nil: nobody answers
		traffic []tally        // of the arbitrator, the oldest first
	}
}

// tally is a count at a moment.
type tally struct {
	at    time.Time
	bytes uint64
}

// show begins the live view if there is a terminal for it. What it returns ends
// the view and prints the lines.
func (s *story) show(ctx context.Context) (stop func()) {
	out, ok := terminal(s.config.Out)
	if !ok {
		return func() {}
	}
	l := &live{story: s, out: out}
	s.journal.goLive()
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { l.ask(ctx) })
	work.Go(func() { l.draw(ctx) })
	return func() {
		cancel()
		work.Wait()
		s.journal.goPlain()
	}
}

// draw redraws the view until ctx ends.
func (l *live) draw(ctx context.Context) {
	ticker := time.NewTicker(drawEvery)
	defer ticker.Stop()
	paint := screen.PaintFor(l.out)
	io.WriteString(l.out, enterView)       //nolint:errcheck // nobody watches any more
	defer io.WriteString(l.out, leaveView) //nolint:errcheck // likewise
	for {
		width, height, err := term.GetSize(int(l.out.Fd())) // anew each time: it may have been resized
		if err != nil {
			width, height = screen.Width, 24
		}
		lines := frame(l.view(width), width, height, paint)
		io.WriteString(l.out, topLeft+strings.Join(lines, restEmpty+"\n")+restEmpty+downEmpty) //nolint:errcheck // likewise
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// ask asks the hosts and the arbitrator how they are until ctx ends.
func (l *live) ask(ctx context.Context) {
	ticker := time.NewTicker(askEvery)
	defer ticker.Stop()
	for {
		var status *client.Status
		for _, h := range l.rig.hosts {
			if s, err := l.client.Status(ctx, h.http); err == nil {
				status = s
				break
			}
		}
		bytes, err := l.rig.arbitrator.traffic(ctx)
		l.note(status, bytes, err == nil)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// note keeps what was answered.
func (l *live) note(status *client.Status, bytes uint64, answers bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.status = status
	now, kept := time.Now(), l.mu.traffic
	if n := len(kept); !answers || n > 0 && bytes < kept[n-1].bytes {
		kept = nil // it was started anew, or a connection was: its counts begin again
	}
	if answers {
		kept = append(kept, tally{now, bytes})
	}
	for len(kept) > 2 && now.Sub(kept[0].at) > rateOver {
		kept = kept[1:]
	}
	l.mu.traffic = kept
}

// view gathers what is known now.
func (l *live) view(width int) *view {
	l.mu.Lock()
	status, traffic := l.mu.status, l.mu.traffic
	l.mu.Unlock()
	j := l.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	v := &view{now: now, elapsed: now.Sub(j.start), arbBytes: -1, sinceBlow: -1, blows: j.mu.blows, events: j.mu.events}
	if n := len(traffic); n > 1 {
		v.arbBytes = float64(traffic[n-1].bytes-traffic[0].bytes) / traffic[n-1].at.Sub(traffic[0].at).Seconds()
	}
	if status != nil {
		v.service, v.mode = status.Service, status.Mode
		for _, d := range status.Databases {
			if d.Name == database {
				v.feed = d.Feed
			}
		}
	}
	for _, p := range []*process{l.rig.hosts[0], l.rig.hosts[1], l.rig.arbitrator} {
		v.processes = append(v.processes, shownProcess{p.name, p.listen, j.mu.pids[p.name], roleOf(status, p)})
	}
	if j.mu.load != nil {
		_, v.rows, _ = j.mu.load.counts()
		v.columns = j.mu.load.columns(now, columnSpan, min(width, int(v.elapsed/columnSpan)+1))
		v.stall = j.mu.load.stall(j.start, now)
		for _, b := range j.mu.blows {
			if b.kills {
				v.sinceBlow = j.mu.load.stall(b.at, now)
			}
		}
	}
	return v
}

// roleOf is what a process does for the cluster.
func roleOf(s *client.Status, p *process) string {
	if s == nil {
		return ""
	}
	for _, m := range s.Machines {
		switch {
		case m.EndPoint != p.listen:
		case m.State != "ready":
			return m.State
		case m.Name == "arbitrator":
			return "votes"
		case m.Leads > 0:
			return "master"
		default:
			return "slave"
		}
	}
	return ""
}

// traffic is how many bytes the arbitrator has sent and received on the
// connections that it has.
func (p *process) traffic(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.http+"/status", nil)
	if err != nil {
		return 0, fmt.Errorf("ask %s: %w", p.name, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask %s: %w", p.name, err)
	}
	defer resp.Body.Close()
	var st struct {
		Sent     uint64 `json:"bytes_sent"`
		Received uint64 `json:"bytes_received"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&st); err != nil {
		return 0, fmt.Errorf("read the status of %s: %w", p.name, err)
	}
	return st.Sent + st.Received, nil
}
