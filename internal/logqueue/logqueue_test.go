package logqueue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sink is a destination that can hang, and be full.
type sink struct {
	mu    sync.Mutex
	text  bytes.Buffer
	hangs chan struct{} // closed once it works again; nil: it works
	full  bool
	takes int // how many bytes of a write find room while it is full
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	hangs := s.hangs
	s.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		n := min(s.takes, len(b))
		s.text.Write(b[:n])
		return n, errors.New("no space left")
	}
	return s.text.Write(b)
}

// set changes how it is.
func (s *sink) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *sink) hang() { s.set(func() { s.hangs = make(chan struct{}) }) }

func (s *sink) work() { s.set(func() { close(s.hangs); s.hangs = nil }) }

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// withoutTime is a text without the times that slog has put into it.
func withoutTime(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "time="); ok {
			_, line, _ = strings.Cut(rest, " ")
		}
		b.WriteString(line)
	}
	return b.String()
}

func missing(lines int, more string) string {
	return fmt.Sprintf("level=WARN msg=\"messages are missing here: they could not be written\" lines=%d%s\n", lines, more)
}

// Whoever logs is never held up by a destination that hangs. What finds no room
// is counted; what was queued before comes first, then the number, then what
// follows.
func TestDestinationHangs(t *testing.T) {
	long := strings.Repeat("x", maxBytes/8-100) + "\n" // the last small line would find room
	for _, c := range []struct {
		name string
		line func(i int) string
		fit  int
	}{
		{"too many lines", func(i int) string { return fmt.Sprintf("line %d\n", i) }, maxLines},
		{"too many bytes", func(int) string { return long }, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &sink{}
				w := Start(s)
				s.hang()
				fmt.Fprint(w, "first\n")
				want := "first\n"
				synctest.Wait() // it hangs in the destination
				for i := range c.fit {
					fmt.Fprint(w, c.line(i))
					want += c.line(i)
				}
				for i := range 3 {
					fmt.Fprint(w, c.line(i))
				}
				fmt.Fprint(w, "small, and no longer in order\n")
				s.work()
				synctest.Wait()
				fmt.Fprint(w, "last\n")
				Close(w)
				want += missing(4, "") + "last\n"
				if got := withoutTime(s.String()); got != want {
					t.Errorf("got %d bytes, want %d; the end is\n%s", len(got), len(want), got[max(0, len(got)-300):])
				}
			})
		})
	}
}

var tooLong = strings.Repeat("x", maxBytes) + "\n"

// A line that could never be queued is lost like any other.
func TestLineThatIsTooLong(t *testing.T) {
	s := &sink{}
	w := Start(s)
	fmt.Fprint(w, tooLong)
	Close(w)
	if got := withoutTime(s.String()); got != missing(1, "") {
		t.Errorf("got %.300q", got)
	}
}

// What a full disk does not take is counted, and the reason is said. A line that
// was cut does not run into the next one.
func TestDestinationFull(t *testing.T) {
	for _, c := range []struct {
		name  string
		takes int
		left  string
		lost  int
	}{
		{"nothing is taken", 0, "", 3},
		{"a part of a line is taken", 2, "on\n", 3},
		{"a whole line is taken", 4, "one\n", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &sink{full: true, takes: c.takes}
				w := Start(s)
				fmt.Fprint(w, "one\ntwo\n")
				synctest.Wait()
				s.set(func() { s.takes = 0 })
				fmt.Fprint(w, "three\n")
				synctest.Wait()
				s.set(func() { s.full = false })
				fmt.Fprint(w, "four\n")
				synctest.Wait()
				fmt.Fprint(w, tooLong) // another reason
				Close(w)
				want := c.left + missing(c.lost, ` err="no space left"`) + "four\n" + missing(1, "")
				if got := withoutTime(s.String()); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			})
		})
	}
}

// What is missing is said at the end, if nothing follows.
func TestLostAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{full: true}
		w := Start(s)
		fmt.Fprint(w, "line\n")
		synctest.Wait()
		s.set(func() { s.full = false })
		Close(w)
		if got, want := withoutTime(s.String()), missing(1, ` err="no space left"`); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// Close writes what is queued, and waits a second at most for all destinations
// together.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		well, stuck, hangs := &sink{}, &sink{}, &sink{}
		a, b, c := Start(well), Start(stuck), Start(hangs)
		stuck.hang()
		hangs.hang()
		for _, w := range []io.Writer{a, b, c} {
			fmt.Fprint(w, "last\n")
		}
		began := time.Now()
		Close(b, a, c)
		if took := time.Since(began); took != closeWithin {
			t.Errorf("Close took %v, want %v", took, closeWithin)
		}
		for _, w := range []io.Writer{a, b, c} {
			fmt.Fprint(w, "after the end\n")
		}
		Close(a)
		if got := well.String(); got != "last\n" {
			t.Errorf("a destination that is well has %q", got)
		}
		stuck.work()
		hangs.work()
		Close(b, c)
		if stuck.String() != "last\n" || hangs.String() != "last\n" {
			t.Error("a destination that works again has not got what was queued")
		}
	})
}

// Say is written whole when it returns.
func TestSay(t *testing.T) {
	s := &sink{}
	Say(s, "tnode: no")
	if got := s.String(); got != "tnode: no\n" {
		t.Errorf("got %q", got)
	}
}

// Lines of many loggers arrive whole, each once, those of one in their order.
func TestManyWriters(t *testing.T) {
	s := &sink{}
	w := Start(s)
	log := slog.New(slog.NewTextHandler(w, nil))
	const loggers, lines = 8, 200
	var wg sync.WaitGroup
	for i := range loggers {
		wg.Go(func() {
			for j := range lines {
				log.Info("line", "logger", i, "n", j)
			}
		})
	}
	wg.Wait()
	Close(w)
	var next [loggers]int
	for line := range strings.Lines(withoutTime(s.String())) {
		var i, j int
		if _, err := fmt.Sscanf(line, "level=INFO msg=line logger=%d n=%d\n", &i, &j); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if next[i] != j {
			t.Fatalf("logger %d: line %d, want %d", i, j, next[i])
		}
		next[i]++
	}
	for i, n := range next {
		if n != lines {
			t.Errorf("logger %d: %d lines, want %d", i, n, lines)
		}
	}
}
