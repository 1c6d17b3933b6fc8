package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/node/host"
)

func open(t *testing.T, edit func(*Config)) *Server {
	t.Helper()
	config := DefaultConfig()
	config.Addr = "127.0.0.1:0"
	if edit != nil {
		edit(&config)
	}
	s, err := New(config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBodiesInHandAreBounded(t *testing.T) {
	s := open(t, func(c *Config) { c.MaxBodyBytes, c.MaxQueuedBytes = 10, 25 })
	request := func(n int) *http.Request {
		return httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(make([]byte, n)))
	}
	var held []*Body
	for range 2 {
		b, err := s.ReadBody(request(10))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, b)
	}
	if _, err := s.ReadBody(request(10)); !errors.Is(err, ErrOverloaded) {
		t.Errorf("third body: got %v, want %v", err, ErrOverloaded)
	}
	held[0].Release()
	if b, err := s.ReadBody(request(10)); err != nil {
		t.Errorf("after a release: %v", err)
	} else {
		b.Release()
	}
	held[1].Release()
	if n := s.queuedBytes.Load(); n != 0 {
		t.Errorf("%d bytes still count as held", n)
	}
	if _, err := s.ReadBody(request(11)); !errors.Is(err, ErrBodyTooLong) {
		t.Errorf("long body: got %v, want %v", err, ErrBodyTooLong)
	}
}

// A body that is too long is read all the same, up to a bound: the client reads
// its answer only once it has written everything.
func TestLongBodyIsDrained(t *testing.T) {
	s := open(t, func(c *Config) { c.MaxBodyBytes = 10 })
	for name, c := range map[string]struct {
		send, left int // bytes
		length     int64
		expect     string
	}{
		"a little too long":       {send: 1 << 20, length: 1 << 20},
		"of unknown length":       {send: 1 << 20, length: -1},
		"more than is reasonable": {send: maxDrained + 5, left: 5, length: maxDrained + 5},
		"not sent yet":            {send: 100, left: 100, length: 100, expect: "100-continue"},
	} {
		body := bytes.NewReader(make([]byte, c.send))
		r := httptest.NewRequest(http.MethodPost, "/", io.NopCloser(body))
		r.ContentLength = c.length
		r.Header.Set("Expect", c.expect)
		if _, err := s.ReadBody(r); !errors.Is(err, ErrBodyTooLong) || body.Len() != c.left {
			t.Errorf("%s: got %v with %d bytes left, want %v with %d", name, err, body.Len(), ErrBodyTooLong, c.left)
		}
	}
}

// TestRunFinishesWhatItBegan: a request that is under way when the host stops
// still gets its answer.
func TestRunFinishesWhatItBegan(t *testing.T) {
	s := open(t, nil)
	begun, stopped := make(chan struct{}), make(chan struct{})
	s.Handle("/slow", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-stopped
		if r.Context().Err() != nil {
			t.Error("the request was cancelled with its host")
		}
		io.WriteString(w, "done")
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	answer := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + l.Addr().String() + "/slow")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answer <- string(b)
	}()
	<-begun
	stop()
	close(stopped)
	if got := <-answer; got != "done" {
		t.Errorf("got %q, want done", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestMetricsText(t *testing.T) {
	var m Metrics
	var l Latency
	l.Observe(time.Millisecond)
	l.Observe(time.Minute)
	m.Add(func(t *MetricText) {
		t.Family("a_total", "counter", "What a is.")
		t.Sample(3, "group", "2", "why", `say "no"`)
		t.Family("b_seconds", "histogram", "How long.")
		t.Histogram(&l, "kind", "insert")
	})
	w := httptest.NewRecorder()
	m.ServeHTTP(w, nil)
	for _, want := range []string{
		"# HELP a_total What a is.\n# TYPE a_total counter\n" + `a_total{group="2",why="say \"no\""} 3` + "\n",
		`b_seconds_bucket{kind="insert",le="0.0005"} 0`, `b_seconds_bucket{kind="insert",le="0.001"} 1`,
		`b_seconds_bucket{kind="insert",le="+Inf"} 2`, `b_seconds_sum{kind="insert"} 60.001`, `b_seconds_count{kind="insert"} 2`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("missing %q in\n%s", want, w.Body)
		}
	}
}

// What a host says while it is closed can be read by programs, whatever is in it,
// and a number that it has counts.
func TestClosedDoor(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("not \"yet\"\x01 \u2028"), `{"code":32,"desc":"not \"yet\"\u0001 \u2028"}`},
		{&host.CodedError{Code: 0x0331, Text: "outside"}, `{"code":817,"desc":"outside"}`},
	} {
		s := open(t, nil)
		s.Gate(func(context.Context) error { return c.err })
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/rest/sql", nil))
		if got := strings.TrimSpace(w.Body.String()); w.Code != http.StatusServiceUnavailable || got != c.want {
			t.Errorf("got %d %s, want 503 %s", w.Code, got, c.want)
		}
	}
}
