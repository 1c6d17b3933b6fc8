// Command tnode is a data host, and the tools that speak to one.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/tarbitrator/tarbitrator/internal/logqueue"
	"github.com/tarbitrator/tarbitrator/internal/version"
	"github.com/tarbitrator/tarbitrator/node/query"
)

// Exit codes. They are part of the face: scripts rely on them.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	code := run(ctx, os.Args)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	// -h is the host of the shell, as users of such shells expect.
	cli.HelpFlag = &cli.BoolFlag{Name: "help", Usage: "show help"}
	cli.VersionFlag = &cli.BoolFlag{Name: "version", Aliases: []string{"V"}, Usage: "print the version"}
	cli.VersionPrinter = func(c *cli.Context) {
		fmt.Fprintf(c.App.Writer, "tnode %s %s/%s, server version %s\n", version.Build(), runtime.GOOS, runtime.GOARCH, query.Version)
	}
	app := &cli.App{
		Name: "tnode", Usage: "a data host of a time-series cluster for two servers",
		Version: version.Build(), HideHelpCommand: true,
		Commands:       []*cli.Command{startCommand(), sqlCommand(), demoCommand(), statusCommand(), recoverCommand()},
		ExitErrHandler: func(*cli.Context, error) {}, // the code is chosen below
		OnUsageError:   usage,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usage(c, fmt.Errorf("no such command: %s", c.Args().First()), false)
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, command := range app.Commands {
		command.OnUsageError = usage
		plain(command.Flags)
	}
	plain([]cli.Flag{cli.HelpFlag, cli.VersionFlag})
	err := app.RunContext(ctx, args)
	if err == nil {
		return 0
	}
	var coded *exitError
	if !errors.As(err, &coded) {
		coded = &exitError{exitFailed, err}
	}
	if coded.err != nil {
		logqueue.Say(os.Stderr, fmt.Sprintf("tnode: %v", coded.err)) // a full pipe does not hold the end up
	}
	return coded.code
}

// plain leaves "(default: false)" out of the help: what else would a switch be.
func plain(flags []cli.Flag) {
	for _, flag := range flags {
		if b, ok := flag.(*cli.BoolFlag); ok {
			b.DisableDefaultText = true
		}
	}
}

// exitError ends the process with a code. Without an error there is nothing
// left to say.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usage(_ *cli.Context, err error, _ bool) error {
	return &exitError{exitUsage, fmt.Errorf("%w (try --help)", err)}
}
