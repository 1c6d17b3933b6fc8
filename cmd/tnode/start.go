package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"github.com/tarbitrator/tarbitrator/internal/conf"
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
	config, warnings, err := readConfig(c.String("config"))
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if c.Bool("print-config") {
		fmt.Fprint(c.App.Writer, config)
		return nil
	}
	out, err := openLog(config)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: config.LogLevel()}))
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
	}, log)
}

// readConfig reads the configuration file. The file of the default directory
// may be missing: then the defaults hold.
func readConfig(path string) (conf.Config, []conf.Warning, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, configName)
	}
	f, err := os.Open(path)
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

// openLog is where messages go: to standard error and, if the directory of
// logs can be written, to a file there.
func openLog(config conf.Config) (io.Writer, error) {
	if err := os.MkdirAll(config.LogDir, 0o700); err != nil {
		return nil, fmt.Errorf("make logDir: %w", err)
	}
	file, err := node.OpenLogFile(filepath.Join(config.LogDir, "tnode.log"))
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w: set logDir", err)
	}
	if err != nil {
		return nil, err
	}
	return io.MultiWriter(os.Stderr, file), nil
}
