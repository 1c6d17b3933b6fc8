package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"github.com/tarbitrator/tarbitrator/internal/conf"
	"github.com/tarbitrator/tarbitrator/internal/logqueue"
	"github.com/tarbitrator/tarbitrator/node"
)

// configName is the file that is read when -c names a directory.
const configName = "tnode.cfg"

func startCommand() *cli.Command {
	return &cli.Command{
		Name: "start", Usage: "run this data host",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "configuration `FILE`, or the directory that holds " + configName, Value: "/etc/tarbitrator"},
			&cli.BoolFlag{Name: "new-cluster", Usage: "found a cluster although the arbitrator does not answer or knows one with this end point"},
			&cli.BoolFlag{Name: "print-config", Aliases: []string{"C"}, Usage: "print the configuration in force and exit"},
		},
		Action: start,
	}
}

func start(c *cli.Context) error {
	if c.Args().Present() {
		return usage(c, fmt.Errorf("unexpected argument %q", c.Args().First()), false)
	}
	context.AfterFunc(c.Context, func() { signal.Reset(os.Interrupt, syscall.SIGTERM) }) // a second signal ends the process at once
	config, warnings, err := readConfig(c.String("config"))
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if c.Bool("print-config") {
		fmt.Fprint(c.App.Writer, config)
		return nil
	}
	log, flush, err := openLog(config)
	if err != nil {
		return err
	}
	defer flush()
	for _, w := range warnings {
		log.Warn("configuration", "warning", w.String())
	}
	return node.Run(c.Context, node.Config{
		Config: config, NewCluster: c.Bool("new-cluster"),
		Ready: func() {
			if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
				log.Warn("systemd was not told that the host is ready", "err", err)
			}
		},
		Flush: flush,
	}, log)
}

// readConfig reads the configuration file and checks what it says.
func readConfig(path string) (conf.Config, []conf.Warning, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, configName)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return conf.Config{}, nil, fmt.Errorf("read configuration: %w: write it there, or name another file with -c", err)
	}
	if err != nil {
		return conf.Config{}, nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	config, warnings, err := conf.Parse(path, f)
	if err != nil {
		return config, warnings, err
	}
	name, err := os.Hostname()
	if err != nil {
		return config, warnings, fmt.Errorf("read the name of this machine (or set fqdn): %w", err)
	}
	config = config.Resolve(name)
	if err := config.Check(); err != nil {
		return config, warnings, err
	}
	if _, err := node.Zone(config); err != nil {
		return config, warnings, fmt.Errorf("%s: %w", path, err)
	}
	return config, warnings, nil
}

// openLog is where messages go: to standard error and to a file in the directory
// of logs. Neither can hold the host up, nor the other one, and the death of
// whoever reads standard error does not end it. Whoever ends the process calls
// flush before.
func openLog(config conf.Config) (log *slog.Logger, flush func(), err error) {
	f, late, err := node.OpenLog(config.LogDir)
	if errors.Is(err, fs.ErrPermission) {
		return nil, nil, fmt.Errorf("%w: set logDir", err)
	}
	if err != nil {
		return nil, nil, err
	}
	signal.Ignore(syscall.SIGPIPE)
	stderr, file := logqueue.Start(os.Stderr), logqueue.Start(f)
	handler := slog.NewTextHandler(io.MultiWriter(stderr, file), &slog.HandlerOptions{Level: config.LogLevel()})
	log = slog.New(handler)
	if late {
		log.Warn("the disk of logDir does not answer: this host starts without its log there", "dir", config.LogDir)
	}
	return log, func() { logqueue.Close(stderr, file) }, nil
}
