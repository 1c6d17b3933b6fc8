// Package shell is the SQL prompt of tnode, and its statements from a script.
//
// It speaks to hosts through package client and holds no state but the current
// database.
package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/reeflective/readline"

	"github.com/tarbitrator/tarbitrator/client"
)

// Shell runs statements for a person or a script.
type Shell struct {
	config client.Config
	client *client.Client
	in     *os.File
	out    io.Writer
}

// New makes a shell. It dials nobody yet.
func New(config client.Config, in *os.File, out io.Writer) (*Shell, error) {
	c, err := client.New(config)
	if err != nil {
		return nil, err
	}
	return &Shell{config: config, client: c, in: in, out: out}, nil
}

// Execute runs statements that stand in one text, with semicolons between them,
// and stops at the first that fails.
func (s *Shell) Execute(ctx context.Context, text string) error {
	for _, statement := range Split(text) {
		if err := s.run(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// Interact reads statements from a prompt until the input ends. Without a
// terminal it reads all of its input as one text.
func (s *Shell) Interact(ctx context.Context) error {
	if info, err := s.in.Stat(); err == nil && info.Mode()&os.ModeCharDevice == 0 {
		b, err := io.ReadAll(s.in)
		if err != nil {
			return fmt.Errorf("read statements: %w", err)
		}
		return s.Execute(ctx, string(b))
	}
	rows, err := s.client.Query(ctx, "SELECT SERVER_VERSION()")
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "Connected to %s, version %s. Statements end with a semicolon; help helps, exit leaves.\n", strings.Join(s.config.EndPoints, ", "), rows.Text(0, 0))
	prompt := readline.NewShell()
	prompt.Prompt.Primary(func() string { return s.config.Database + "> " })
	prompt.Prompt.Secondary(func() string { return "   -> " })
	prompt.AcceptMultiline = func(line []rune) bool { return complete(string(line)) }
	prompt.History.Add("statements of this session", readline.NewInMemoryHistory())
	for {
		line, err := prompt.Readline()
		switch {
		case errors.Is(err, readline.ErrInterrupt):
			continue
		case err != nil:
			return nil // end of input
		}
		switch command(line) {
		case "exit", "quit":
			return nil
		case "help", "?":
			fmt.Fprint(s.out, help)
		default:
			s.answer(ctx, line)
		}
	}
}

// answer runs the statements of a line up to the first that fails. Ctrl-C ends
// these and no later ones.
func (s *Shell) answer(ctx context.Context, line string) {
	// ctx ends with the first Ctrl-C, and with it the process if this were a script.
	ctx, stop := signal.NotifyContext(context.WithoutCancel(ctx), os.Interrupt)
	defer stop()
	for _, statement := range Split(line) {
		err := s.run(ctx, statement)
		switch {
		case err == nil:
			continue
		case ctx.Err() == nil:
			fmt.Fprintln(s.out, "error:", err)
		case errors.Is(err, client.ErrUnknownOutcome):
			fmt.Fprintln(s.out, "interrupted: it may have run all the same")
		default:
			fmt.Fprintln(s.out, "interrupted")
		}
		return // what follows may need what has failed, as after USE
	}
}

// help is what the prompt says of itself.
const help = `Where to begin:
  SHOW DATABASES;  USE d;  SHOW TABLES;  DESCRIBE t;
  SHOW DNODES;  SHOW VGROUPS;  SHOW ALARMS;  SHOW FAILOVERS;
A statement may have several lines; its semicolon ends it. Ctrl-C ends the one that
runs, Ctrl-D leaves. "tnode status" shows the whole cluster on one screen.
`

// commands are the words that the prompt itself understands.
var commands = []string{"exit", "quit", "help", "?"}

// command is the word for the prompt that a line consists of, or nothing.
func command(line string) string {
	word := strings.ToLower(strings.Trim(strings.TrimSpace(line), ";"))
	if !slices.Contains(commands, word) {
		return ""
	}
	return word
}

// complete reports whether a line can be run as it stands.
func complete(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || strings.HasSuffix(line, ";") || command(line) != ""
}

func (s *Shell) run(ctx context.Context, statement string) error {
	start := time.Now()
	rows, err := s.client.Query(ctx, statement)
	if err != nil {
		return err
	}
	if name, ok := used(statement); ok {
		s.use(name)
		fmt.Fprintln(s.out, "Database changed.")
		return nil
	}
	took := time.Since(start).Seconds()
	if len(rows.Columns) == 1 && rows.Columns[0].Name == "affected_rows" {
		fmt.Fprintf(s.out, "Query OK, %s rows affected (%.3f s)\n", rows.Text(0, 0), took)
		return nil
	}
	Table(s.out, rows)
	fmt.Fprintf(s.out, "%d rows (%.3f s)\n", len(rows.Data), took)
	return nil
}

// used is the database that a USE names.
func used(statement string) (string, bool) {
	words := strings.Fields(strings.TrimSuffix(strings.TrimSpace(statement), ";"))
	if len(words) != 2 || !strings.EqualFold(words[0], "use") {
		return "", false
	}
	return strings.Trim(words[1], "`"), true
}

// use changes the database of the statements that follow: the server keeps no
// state between two of them.
func (s *Shell) use(database string) {
	s.config.Database = database
	if c, err := client.New(s.config); err == nil {
		s.client.Close()
		s.client = c
	}
}
