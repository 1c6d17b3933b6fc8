package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tarbitrator/tarbitrator/node"
)

// recoverCommand is R35: the last host goes on alone.
func recoverCommand() *cli.Command {
	return &cli.Command{
		Name: "recover", Usage: "let this stopped host go on alone when the other data hosts are lost for good",
		Description: "Tells what is kept and what is lost, and asks before it changes anything.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "configuration `FILE` of this host, or the directory that holds " + configName, Value: "/etc/tarbitrator"},
			&cli.BoolFlag{Name: "yes-i-accept-the-loss", Usage: "do not ask; for scripts"},
			&cli.BoolFlag{Name: "arbitrator-is-lost", Usage: "the arbitrator's directory is lost for good, too: go on although it can't be told"},
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usage(c, fmt.Errorf("unexpected argument %q", c.Args().First()), false)
			}
			config, _, err := readConfig(c.String("config"))
			if err != nil {
				return &exitError{exitUsage, err}
			}
			r, err := node.OpenRecovery(config, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(c.Context)
			done, err := r.Connect(ctx)
			if err == nil {
				err = recoverHost(ctx, r, accepted{
					loss: c.Bool("yes-i-accept-the-loss"), noArbitrator: c.Bool("arbitrator-is-lost"), in: os.Stdin,
				}, os.Stdout)
			}
			cancel()
			if done != nil {
				<-done
			}
			return errors.Join(err, r.Close())
		},
	}
}

// accepted is what the operator has said, and where to ask for the rest.
type accepted struct {
	loss, noArbitrator bool
	in                 io.Reader
}

func recoverHost(ctx context.Context, r *node.Recovery, a accepted, out io.Writer) error {
	var names []string
	for _, d := range r.Lost() {
		names = append(names, fmt.Sprintf("dnode %d", d.ID))
	}
	if len(names) == 0 {
		return errors.New("this is the only data host: there is nobody to give up; start it")
	}
	lost := strings.Join(names, ", ")
	losses, err := r.Losses(ctx)
	if errors.Is(err, node.ErrNoArbitrator) && !a.noArbitrator {
		return &exitError{exitUnreachable, fmt.Errorf("%w: it could still vote for %s. Start it; or, if its directory is lost for good, add --arbitrator-is-lost", err, lost)}
	} else if err != nil && !errors.Is(err, node.ErrNoArbitrator) {
		return err
	}
	fmt.Fprintf(out, "dnode %d goes on alone. Given up for good: %s.\n\n", r.Dnode(), lost)
	printLosses(out, losses)
	phrase := "give up " + lost
	if !a.loss {
		fmt.Fprintf(out, "\nType %q to go on: ", phrase)
		line, _ := bufio.NewReader(a.in).ReadString('\n') // what was not typed is no consent
		if strings.TrimSpace(line) != phrase {
			return errors.New("not confirmed: nothing was changed")
		}
	}
	err = r.Fence(ctx)
	if a.noArbitrator && errors.Is(err, node.ErrNoArbitrator) {
		err = nil // the operator answers for it
	}
	if err != nil {
		return fmt.Errorf("nothing was changed on this host: %w", err)
	}
	if err := r.Rewrite(time.Now()); err != nil {
		return err
	}
	fmt.Fprintf(out, `
Done. What next:
  1. start tnode here: it serves alone, and refuses the directories that were given up
  2. where they were: empty the data directory, start tnode
  3. for each of them type here: RESTORE DNODE <number>
The arbitrator takes part again by itself once there are two data hosts.
`)
	return nil
}

func printLosses(out io.Writer, losses []node.Loss) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "group\tdatabase\tkept up to entry\tlost")
	uncounted := false
	for _, l := range losses {
		name := l.Database
		if name == "" {
			name = "(metadata)"
		}
		lost := "nothing that was acknowledged"
		switch {
		case !l.Counted:
			uncounted = true
			lost = "not known: " + l.Why
		case l.Most == 0:
		case l.Least == l.Most:
			lost = fmt.Sprintf("%d entries", l.Most)
		default:
			lost = fmt.Sprintf("%d to %d entries", l.Least, l.Most)
		}
		fmt.Fprintf(w, "%d\t%s\t%d\t%s\n", l.Group, name, l.Kept, lost)
	}
	w.Flush() //nolint:errcheck // it writes to a terminal
	fmt.Fprintln(out, "\nAn entry holds one or more statements. What was acknowledged while both hosts\nanswered is kept.")
	if uncounted {
		fmt.Fprintln(out, "What was acknowledged while this host was away is lost where it is not known.")
	}
}
