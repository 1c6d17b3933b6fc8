package conf

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestFiles runs the stories in testdata: a file, and what Parse says of it.
func TestFiles(t *testing.T) {
	datadriven.RunTest(t, "testdata/files.txt", func(t *testing.T, d *datadriven.TestData) string {
		c, warnings, err := Parse("taos.cfg", strings.NewReader(d.Input))
		var b strings.Builder
		for _, w := range warnings {
			b.WriteString("warning: " + w.String() + "\n")
		}
		if err != nil {
			return b.String() + "error: " + err.Error()
		}
		// Only what differs from the defaults is shown.
		defaults := map[string]bool{}
		for line := range strings.Lines(Default().String()) {
			defaults[line] = true
		}
		for line := range strings.Lines(c.String()) {
			if !defaults[line] {
				b.WriteString(line)
			}
		}
		if b.Len() == 0 {
			return "defaults"
		}
		return b.String()
	})
}

func TestManual(t *testing.T) {
	want, err := os.ReadFile("testdata/manual.md")
	if err != nil {
		t.Fatal(err)
	}
	if got := Manual(); got != string(want) {
		t.Errorf("testdata/manual.md is not what the table of keys says; it says:\n%s", got)
	}
}

func TestDefault(t *testing.T) {
	c := Default()
	if err := c.Check(); err != nil {
		t.Errorf("the default configuration is wrong: %v", err)
	}
	if c.OfflineThreshold != 10*24*time.Hour || c.WaitReplicaTimeout != 250*time.Millisecond || c.Tick() != 50*time.Millisecond ||
		c.MaxRetryWaitTime != 20*time.Second || c.StatusInterval != time.Second || c.NumOfMnodes != 3 || !c.Balance || c.RestfulRowLimit != -1 {
		t.Errorf("got %+v", c)
	}
}

func TestPrintedConfigParsesBack(t *testing.T) {
	c := Default()
	c.FirstEp, c.Arbitrator, c.DataDir, c.WaitReplicaTimeout = "a:6030", "[::1]:6042", "/var/lib/my data", 120*time.Millisecond
	got, warnings, err := Parse("printed", strings.NewReader(c.String()))
	if err != nil || len(warnings) > 0 {
		t.Fatalf("got warnings %v, error %v", warnings, err)
	}
	if got != c {
		t.Errorf("got %+v\nwant %+v", got, c)
	}
}

func TestResolve(t *testing.T) {
	tests := []struct {
		name, file, endPoint, firstEp string
		gossip                        uint16
	}{
		{"alone", "", "box:6030", "box:6030", 6031},
		{"second of a cluster", "firstEp a\nserverPort 7000", "box:7000", "a:6030", 7001},
		{"own name", "fqdn b.example.com", "b.example.com:6030", "b.example.com:6030", 6031},
		{"several on one machine", "firstEp localhost:6030\nserverPort 6130\ngossipPort 9", "localhost:6130", "localhost:6030", 9},
		{"loopback address", "firstEp 127.0.0.1\nserverPort 6130", "127.0.0.1:6130", "127.0.0.1:6030", 6131},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _, err := Parse("f", strings.NewReader(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			c = c.Resolve("Box")
			if c.EndPoint() != tt.endPoint || c.FirstEp != tt.firstEp || c.GossipPort != tt.gossip {
				t.Errorf("got end point %s, first %s, gossip %d; want %s, %s, %d",
					c.EndPoint(), c.FirstEp, c.GossipPort, tt.endPoint, tt.firstEp, tt.gossip)
			}
			if again := c.Resolve("other"); again != c {
				t.Errorf("a second Resolve changes %+v to %+v", c, again)
			}
		})
	}
}

func TestFileFromAnEditorOfWindows(t *testing.T) {
	c, _, err := Parse("f", strings.NewReader("\ufeffhttpPort 7041\r\n\r\nbalance 0\r\n"))
	if err != nil || c.HTTPPort != 7041 || c.Balance {
		t.Errorf("got %+v, error %v", c, err)
	}
}

func TestVariables(t *testing.T) {
	c := Default()
	c.Arbitrator = "w:6042"
	names := map[string]string{}
	for _, v := range c.Variables() {
		if v.Info == "" || v.Scope != "server" && v.Scope != "both" {
			t.Errorf("%s: info %q, scope %q", v.Name, v.Info, v.Scope)
		}
		names[v.Name] = v.Value
	}
	for name, want := range map[string]string{"arbitrator": "w:6042", "balance": "1", "offlineThreshold": "864000", "waitReplicaTimeout": "250", "httpPort": "6041", "fqdn": ""} {
		if got, ok := names[name]; !ok || got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	var shared []string
	for _, v := range c.Shared() {
		shared = append(shared, v.Name)
	}
	const want = "arbitrator numOfMnodes offlineThreshold balance statusInterval electionTimeout timezone"
	if got := strings.Join(shared, " "); got != want {
		t.Errorf("equal on all hosts: got %s, want %s", got, want)
	}
}

// TestGossipKey: either spelling is the same key, what is none is refused, and
// none of it is ever shown.
func TestGossipKey(t *testing.T) {
	const spelt = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0e/+8="
	want := [keyBytes]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 255, 239}
	for _, value := range []string{spelt, strings.TrimRight(spelt, "="), strings.ReplaceAll(spelt, "/", "_"), hex.EncodeToString(want[:])} {
		c, _, err := Parse("f", strings.NewReader("gossipKey "+value))
		if err != nil {
			t.Errorf("%s: %v", value, err)
			continue
		}
		if got, set := c.GossipSecret(); !set || got != want {
			t.Errorf("%s: got %x, want %x", value, got, want)
		}
		if strings.Contains(c.String()+fmt.Sprint(c.Variables()), value) {
			t.Errorf("%s is shown in\n%s%v", value, c, c.Variables())
		}
	}
	for _, value := range []string{"secret", spelt[4:], spelt + "AAAA", strings.Repeat("g", 64)} {
		_, _, err := Parse("f", strings.NewReader("gossipKey "+value))
		if err == nil || strings.Contains(err.Error(), value) || !strings.Contains(err.Error(), "openssl rand") {
			t.Errorf("%s: got %v", value, err)
		}
	}
	if _, set := Default().GossipSecret(); set {
		t.Error("a key is set by default")
	}
}

func TestLogLevel(t *testing.T) {
	for flag, want := range map[int]slog.Level{0: slog.LevelInfo, 131: slog.LevelInfo, 135: slog.LevelDebug, 143: slog.LevelDebug, 207: slog.LevelDebug} {
		if got := (Config{DebugFlag: flag}).LogLevel(); got != want {
			t.Errorf("debugFlag %d: got %v, want %v", flag, got, want)
		}
	}
}

func TestParseReportsAReadError(t *testing.T) {
	broken := errors.New("disk on fire")
	if _, _, err := Parse("taos.cfg", iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

func TestParseBoundsTheFile(t *testing.T) {
	if _, _, err := Parse("f", strings.NewReader("#"+strings.Repeat("x", 2*maxLine))); err == nil || !strings.Contains(err.Error(), "f:1: the line is longer") {
		t.Errorf("long line: got %v", err)
	}
	if _, _, err := Parse("f", strings.NewReader(strings.Repeat("# comment\n", maxBytes/10+1))); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("large file: got %v", err)
	}
}

// FuzzParse: what Parse accepts is a configuration that passes Check, and its
// printed form is accepted again and means the same.
func FuzzParse(f *testing.F) {
	f.Add("firstEp a:6030\n# x\nbalance 0\ndataDir \"/a b\"\n")
	f.Add(Default().String())
	f.Add("electionTimeout 1s\nwaitReplicaTimeout 0.1s\nbind ::1\ntimezone UTC")
	f.Fuzz(func(t *testing.T, file string) {
		c, _, err := Parse("f", strings.NewReader(file))
		if err != nil {
			return
		}
		if err := c.Check(); err != nil {
			t.Fatalf("accepted, but: %v", err)
		}
		again, _, err := Parse("f", strings.NewReader(c.String()))
		c.GossipKey = "" // it is not printed
		if err != nil || again != c {
			t.Fatalf("printed:\n%s\nparsed back: %+v, error %v; want %+v", c.String(), again, err, c)
		}
	})
}
