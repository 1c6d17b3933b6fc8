package status

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tarbitrator/tarbitrator/client"
	"github.com/tarbitrator/tarbitrator/internal/cli/screen"
)

var rewrite = flag.Bool("rewrite", false, "write the golden screens anew")

var at = time.Date(2026, 5, 1, 14, 2, 11, 0, time.UTC)

// well is a pair with an arbitrator when all is well.
func well() *client.Status {
	return &client.Status{
		Dnode: 1, EndPoint: "a.example.com:6030", Version: "3.3.6.0-tarbitrator", At: at, Started: at.Add(-100 * time.Hour),
		Cluster: "6917529027641081857", Service: "full", Mode: "sync", ModeSince: at.Add(-76*time.Hour - 5*time.Minute),
		Machines: []client.Machine{
			{Name: "dnode 1", EndPoint: "a.example.com:6030", State: "ready", Leads: 4, Groups: 4},
			{Name: "dnode 2", EndPoint: "b.example.com:6030", State: "ready", Groups: 4},
			{Name: "arbitrator", EndPoint: "w.example.com:6042", State: "ready"},
		},
		Databases: []client.Database{
			{Replicas: 2, Vgroups: 1, Led: 1, Masters: []string{"dnode 1"}, Mode: "sync"},
			{Name: "plant", Replicas: 2, Vgroups: 4, Led: 4, Masters: []string{"dnode 1"}, Mode: "sync"},
		},
	}
}

func TestScreen(t *testing.T) {
	for _, c := range []struct {
		name  string
		story func(*client.Status)
	}{
		{"well", func(*client.Status) {}},
		{"other_away", func(s *client.Status) {
			s.Service, s.Mode, s.ModeSince = "partly", "async", at.Add(-12*time.Second)
			all := []string{"metadata", "database plant"}
			s.Machines[0].Stops, s.Machines[2].Stops = all, all
			s.Machines[1].State, s.Machines[1].Reason, s.Machines[1].SeenSeconds = "offline", "status msg timeout", 12
			for i := range s.Databases {
				s.Databases[i].Mode = "async"
			}
			s.Failovers = []client.Failover{
				{At: at.Add(-12 * time.Second), From: "dnode 2", To: "dnode 1", Cause: "killed", Milliseconds: 131},
				{At: at.Add(-50 * time.Hour), To: "dnode 2", Cause: "unknown", Milliseconds: 4},
			}
			s.Alarms = []client.Alarm{
				{
					Code: "HOST_OFFLINE", Level: "warning", Object: "dnode 2", Since: at.Add(-10 * time.Second),
					What: "b.example.com:6030 is offline: status msg timeout", Next: "start tnode there; if it runs, look at its log and at the network between the hosts",
				},
				{
					Code: "ASYNC", Level: "warning", Object: "database plant", Since: at.Add(-10 * time.Second),
					What: "what is acknowledged now is not on every replica: some are away", Next: "bring back dnode 2 (b.example.com:6030); what it missed is copied by itself",
				},
			}
		}},
		{"no_master", func(s *client.Status) {
			s.Service, s.Mode, s.ModeSince = "none", "unknown", at.Add(-time.Hour)
			for i := range s.Machines[1:] {
				s.Machines[i+1].State, s.Machines[i+1].SeenSeconds = "offline", -1
			}
			s.Machines[0].Leads = 0
			for i := range s.Databases {
				s.Databases[i].Mode, s.Databases[i].Led, s.Databases[i].Masters = "unknown", 0, nil
			}
			s.Alarms = []client.Alarm{{
				Code: "CUT_OFF", Level: "critical", Object: "dnode 1", Since: at.Add(-time.Hour),
				What: "this host reaches neither another host nor the arbitrator: they are down, or it is cut off",
				Next: "look at the network of this machine, then at dnode 2 (b.example.com:6030) and the arbitrator (w.example.com:6042)",
			}}
		}},
		{"many_databases", func(s *client.Status) {
			s.Started, s.ModeSince = at.Add(-time.Minute), at.Add(-time.Minute)
			for i := range 20 {
				s.Databases = append(s.Databases, client.Database{
					Name: fmt.Sprintf("plant%d", i), Replicas: 2, Vgroups: 2, Led: 2, Masters: []string{"dnode 1", "dnode 2"}, Mode: "sync",
				})
			}
			last := &s.Databases[len(s.Databases)-1]
			last.Mode, last.Led, last.Masters, s.Service = "unknown", 1, []string{"dnode 1"}, "partly"
			s.Machines[1].Stops = []string{"database a", "database b", "database c"}
		}},
		{"under_way", func(s *client.Status) {
			s.Tasks = []client.Task{{Object: "dnode 2", What: "restore dnode", Waiting: "an empty directory is to report from b.example.com:6030"}}
			for i := range 8 {
				s.Tasks = append(s.Tasks, client.Task{
					Object: fmt.Sprintf("vgroup %d", i+2), What: "add replica", Waiting: "dnode 2 has 71234 of 1000000 entries", Since: at.Add(-40 * time.Second),
				})
			}
		}},
		{"alone", func(s *client.Status) {
			s.Machines = s.Machines[:1]
			s.Machines[0].Stops = []string{"metadata", "database plant"}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := well()
			c.story(s)
			got := Screen(s, screen.Paint{})
			for line := range strings.Lines(got) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > screen.Width {
					t.Errorf("a line of %d: %q", n, line)
				}
			}
			path := filepath.Join("testdata", c.name+".golden")
			if *rewrite {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Colours change no word, and there are none unless a terminal asks for them.
func TestColours(t *testing.T) {
	s := well()
	if got := Screen(s, screen.Paint{}); strings.Contains(got, "\x1b") {
		t.Errorf("colours on no terminal:\n%q", got)
	}
	coloured := Screen(s, screen.Paint{Colours: true})
	if !strings.Contains(coloured, "\x1b[32mfully available\x1b[0m") {
		t.Errorf("no colours on a terminal:\n%q", coloured)
	}
	coloured = regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(coloured, "")
	if want := Screen(s, screen.Paint{}); coloured != want {
		t.Errorf("without its colours it reads\n%s\nwant\n%s", coloured, want)
	}
}

// The first host that has a status is shown. Without one, what a host says
// tells more than that another one does not answer.
func TestWhoIsAsked(t *testing.T) {
	answers := func(code int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	good := answers(http.StatusOK, `{"dnode":2,"service":"full","mode":"sync"}`)
	starting := answers(http.StatusServiceUnavailable, `{"code":32,"desc":"this host is starting"}`)
	stranger := answers(http.StatusUnauthorized, "Authentication failure")
	for _, c := range []struct {
		name  string
		hosts []string
		want  string // in the screen, or in the error
		code  int    // of the error
	}{
		{"one", []string{good}, "by   dnode 2", 0},
		{"the second", []string{closed, starting, good}, "by   dnode 2", 0},
		{"one that starts", []string{closed, starting}, "says: this host is starting", client.CodeOutOfService},
		{"one that knows us not", []string{stranger, closed}, "says: Authentication failure", client.CodeAuthFailure},
		{"nobody", []string{closed}, "refused", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := client.DefaultConfig()
			config.EndPoints = c.hosts
			var out strings.Builder
			err := Print(context.Background(), config, &out)
			if err != nil {
				out.WriteString(err.Error())
			}
			if !strings.Contains(out.String(), c.want) {
				t.Errorf("got %q, want %q in it", out.String(), c.want)
			}
			var said *client.Error
			if errors.As(err, &said) != (c.code != 0) || c.code != 0 && said.Code != c.code {
				t.Errorf("got %v, want an error of code %#x", err, c.code)
			}
		})
	}
}
