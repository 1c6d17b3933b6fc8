package demo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tarbitrator/tarbitrator/client"
)

// openTerminal makes a terminal: what is written to user's side comes out of
// the other.
func openTerminal(t *testing.T, width, height uint16) (user *os.File, screen *recorder) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	user, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	screen = &recorder{done: make(chan struct{})}
	resize(t, user, width, height)
	go func() {
		defer close(screen.done)
		b := make([]byte, 1<<16)
		for {
			n, err := master.Read(b)
			if err != nil {
				return
			}
			screen.mu.Lock()
			screen.b.Write(b[:n])
			screen.mu.Unlock()
		}
	}()
	t.Cleanup(func() { user.Close(); <-screen.done; master.Close() })
	return user, screen
}

func resize(t *testing.T, f *os.File, width, height uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		t.Fatal(err)
	}
}

type recorder struct {
	mu   sync.Mutex
	b    bytes.Buffer
	done chan struct{} // closed once the terminal is
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

func (r *recorder) await(t *testing.T, what string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(r.text(), what); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the terminal never shows %q:\n%q", what, r.text())
		}
	}
}

// A terminal gets a view that follows its size, and the lines when that ends;
// what is no terminal gets each line at once and not one escape.
func TestLiveView(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	tell := func(out *os.File) (*story, func()) {
		c, err := client.New(client.DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		nobody := func(name string) *process { return &process{name: name, listen: "127.0.0.1:1", http: "127.0.0.1:1"} }
		s := &story{
			config: Config{Out: out}, journal: newJournal(out), client: c,
			rig: &rig{arbitrator: nobody("arbitrator"), hosts: [2]*process{nobody("host A"), nobody("host B")}},
		}
		return s, s.show(context.Background())
	}

	user, screen := openTerminal(t, 80, 24)
	s, stop := tell(user)
	s.say("first thing")
	screen.await(t, enterView)
	screen.await(t, "killed in turn")
	screen.await(t, "first thing")
	resize(t, user, 40, 10)
	screen.await(t, "64 x 14 or more shows all")
	stop()
	s.say("last thing")
	screen.await(t, "last thing")
	_, after, _ := strings.Cut(screen.text(), leaveView)
	if strings.Contains(after, "\x1b") || strings.Count(after, "thing") != 2 {
		t.Errorf("after the view: %q", after)
	}

	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s, stop = tell(file)
	s.say("first thing")
	stop()
	b, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if got := string(b); strings.Contains(got, "\x1b") || !strings.HasSuffix(got, " s  first thing\n") {
		t.Errorf("a file gets %q", got)
	}
}
