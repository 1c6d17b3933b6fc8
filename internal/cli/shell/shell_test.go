package shell

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tarbitrator/tarbitrator/client"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{" ; ;", nil},
		{"show databases", []string{"show databases"}},
		{"a; b ;c", []string{"a", "b", "c"}},
		{"insert into t values (1, 'x;y')", []string{"insert into t values (1, 'x;y')"}},
		{`select "a\";b"; c`, []string{`select "a\";b"`, "c"}},
		{"select `a;b`", []string{"select `a;b`"}},
		{"select 'it''s;one'; b", []string{"select 'it''s;one'", "b"}},
		{"a -- one; two\n; b", []string{"a -- one; two", "b"}},
		{"a /* ; */ b; c", []string{"a /* ; */ b", "c"}},
		{"a 'open; b", []string{"a 'open; b"}},
	} {
		if got := Split(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
}

// TestComplete: a line that waits for a semicolon is no word for the prompt.
func TestComplete(t *testing.T) {
	for _, c := range []struct {
		line, command string
		complete      bool
	}{
		{"", "", true},
		{"help", "help", true},
		{" HELP; ", "help", true},
		{"?", "?", true},
		{"quit", "quit", true},
		{"help me", "", false},
		{"SELECT 1", "", false},
		{"SELECT 1;", "", true},
	} {
		if got := command(c.line); got != c.command {
			t.Errorf("command(%q): got %q, want %q", c.line, got, c.command)
		}
		if got := complete(c.line); got != c.complete {
			t.Errorf("complete(%q): got %v, want %v", c.line, got, c.complete)
		}
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	rows := &client.Rows{
		Columns: []client.Column{{Name: "offline reason"}, {Name: "vgId"}},
		Data:    [][]any{{"a\x1b[2Jb", json.Number("9007199254740993")}, {nil, json.Number("2")}},
	}
	Table(&out, rows)
	want := "" +
		"┌────────────────┬──────────────────┐\n" +
		"│ offline reason │ vgId             │\n" +
		"├────────────────┼──────────────────┤\n" +
		"│ a·[2Jb         │ 9007199254740993 │\n" +
		"│ NULL           │ 2                │\n" +
		"└────────────────┴──────────────────┘\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
	want = "" +
		"── row 1\n" +
		"offline reason: a·[2Jb\n" +
		"          vgId: 9007199254740993\n" +
		"── row 2\n" +
		"offline reason: NULL\n" +
		"          vgId: 2\n"
	if got := list(rows); got != want {
		t.Errorf("too wide for the terminal: got\n%swant\n%s", got, want)
	}
}

// Ctrl-C ends the statement that runs, and not those after it.
func TestInterrupt(t *testing.T) {
	asked := make(chan struct{})
	first := true
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if first {
			first = false
			io.Copy(io.Discard, r.Body) // only then is the end of the connection seen
			close(asked)
			<-r.Context().Done()
			return
		}
		io.WriteString(w, `{"code":0,"column_meta":[["n","INT",4]],"data":[[7]],"rows":1}`)
	}))
	defer host.Close()
	config := client.DefaultConfig()
	config.EndPoints = []string{strings.TrimPrefix(host.URL, "http://")}
	var out bytes.Buffer
	s, err := New(config, os.Stdin, &out)
	if err != nil {
		t.Fatal(err)
	}
	// As the command does, which would end a script.
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	go func() {
		<-asked
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			t.Error(err)
		}
	}()
	s.answer(ctx, "SELECT 1; SELECT 2")
	if got := out.String(); got != "interrupted\n" {
		t.Errorf("the statements of the line: got %q, want only that it was interrupted", got)
	}
	<-ctx.Done()
	out.Reset()
	s.answer(ctx, "SELECT 3")
	if !strings.Contains(out.String(), "│ 7 │") {
		t.Errorf("the next line: got %q, want its rows", &out)
	}
}
