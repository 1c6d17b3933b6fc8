package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/tarbitrator/tarbitrator/client"
	"github.com/tarbitrator/tarbitrator/internal/cli/demo"
	"github.com/tarbitrator/tarbitrator/internal/cli/shell"
	"github.com/tarbitrator/tarbitrator/internal/cli/status"
)

// hostFlags say which host to speak to, and as whom.
func hostFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "host", Aliases: []string{"h"}, Value: "127.0.0.1", Usage: "`HOST` to speak to; several with commas: the next one is tried when one does not answer"},
		&cli.UintFlag{Name: "port", Aliases: []string{"P"}, Value: 6041, Usage: "its HTTP `PORT`"},
		&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Value: "root", Usage: "`USER` to log in as"},
		&cli.BoolFlag{Name: "password", Aliases: []string{"p"}, Usage: "ask for the password; without it that of a new cluster is tried"},
		&cli.StringFlag{Name: "password-file", Usage: "`FILE` whose first line is the password"},
	}
}

func sqlCommand() *cli.Command {
	return &cli.Command{
		Name: "sql", Usage: "run SQL statements, one by one or from a prompt",
		Flags: append(hostFlags(),
			&cli.StringFlag{Name: "statement", Aliases: []string{"s"}, Usage: "run this `SQL` and exit; several with semicolons"},
			&cli.StringFlag{Name: "database", Aliases: []string{"d"}, Usage: "`DATABASE` of tables named without one"},
		),
		Action: func(c *cli.Context) error {
			config, err := clientConfig(c)
			if err != nil {
				return err
			}
			config.Database = c.String("database")
			s, err := shell.New(config, os.Stdin, os.Stdout)
			if err != nil {
				return usage(c, err, false)
			}
			if c.IsSet("statement") {
				return reached(s.Execute(c.Context, c.String("statement")))
			}
			return reached(s.Interact(c.Context))
		},
	}
}

func statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show the cluster as one host sees it: who is there, how safe the data is, what to do",
		Flags: append(hostFlags(), &cli.BoolFlag{Name: "json", Usage: "print it as JSON, for programs"}),
		Action: func(c *cli.Context) error {
			config, err := clientConfig(c)
			if err != nil {
				return err
			}
			show := status.Print
			if c.Bool("json") {
				show = status.JSON
			}
			err = show(c.Context, config, os.Stdout)
			if errors.Is(err, context.DeadlineExceeded) {
				return &exitError{exitUnreachable, fmt.Errorf("no answer within %v: %w", config.TryTimeout, err)}
			}
			return reached(err)
		},
	}
}

func demoCommand() *cli.Command {
	return &cli.Command{
		Name: "demo", Usage: "run an arbitrator and two hosts on this machine, and kill them in turn",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "keep", Usage: "leave the cluster running, and say what to try on it"},
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usage(c, fmt.Errorf("unexpected argument %q", c.Args().First()), false)
			}
			err := demo.Run(c.Context, demo.Config{Keep: c.Bool("keep"), Out: os.Stdout})
			if c.Context.Err() != nil {
				return &exitError{exitFailed, nil} // stopped by the user, who knows
			}
			return err
		},
	}
}

// clientConfig reads the flags of hostFlags.
func clientConfig(c *cli.Context) (client.Config, error) {
	config := client.DefaultConfig()
	if c.Args().Present() {
		return config, usage(c, fmt.Errorf("unexpected argument %q", c.Args().First()), false)
	}
	config.EndPoints, config.Unreachable = nil, time.Second
	for _, host := range strings.Split(c.String("host"), ",") {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(host, fmt.Sprint(c.Uint("port")))
		}
		config.EndPoints = append(config.EndPoints, host)
	}
	config.User = c.String("user")
	switch {
	case c.IsSet("password-file"):
		b, err := os.ReadFile(c.String("password-file"))
		if err != nil {
			return config, fmt.Errorf("read password: %w", err)
		}
		config.Password, _, _ = strings.Cut(string(b), "\n")
		config.Password = strings.TrimSuffix(config.Password, "\r")
	case c.Bool("password"):
		fmt.Fprint(os.Stderr, "Password: ")
		b, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(os.Stderr)
		if err != nil {
			return config, fmt.Errorf("read password from the terminal (scripts use --password-file): %w", err)
		}
		config.Password = string(b)
	}
	return config, nil
}

// reached gives an error its exit code: a refusal by a host is a failure, no
// answer is another, unless the statement may have run all the same.
func reached(err error) error {
	var refused *client.Error
	var unreachable *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused) && refused.Code == client.CodeAuthFailure:
		return fmt.Errorf("%w: give the password with -p, or in a --password-file", err)
	case errors.As(err, &refused), errors.Is(err, client.ErrUnknownOutcome):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return &exitError{exitUnreachable, err}
	case errors.As(err, &unreachable):
		return &exitError{exitUnreachable, fmt.Errorf("%w: is tnode running there? -h and -P name another host", err)}
	}
	return err
}
