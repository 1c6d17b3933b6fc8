// Command tarbitrator is the third vote of clusters with two data hosts: it
// remembers votes and positions, and never data.
//
// It turns flags and signals into calls of package arbitrator; it holds no
// rule.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/tarbitrator/tarbitrator/internal/logqueue"
	"github.com/tarbitrator/tarbitrator/internal/version"
)

// The exit codes of DESIGN: what a script can tell apart.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
)

const (
	defaultPort    = 6042
	defaultDataDir = "/var/lib/tarbitrator"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args))
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string) int {
	cli.VersionFlag = &cli.BoolFlag{Name: "version", Aliases: []string{"V"}, Usage: "print the version"}
	cli.VersionPrinter = func(c *cli.Context) {
		fmt.Fprintf(c.App.Writer, "tarbitrator %s %s/%s\n", version.Build(), runtime.GOOS, runtime.GOARCH)
	}
	err := app().RunContext(ctx, args)
	if err == nil {
		return 0
	}
	logqueue.Say(os.Stderr, fmt.Sprintf("tarbitrator: %v", err)) // a full pipe does not hold the end up
	var code cli.ExitCoder
	if errors.As(err, &code) {
		return code.ExitCode()
	}
	return exitFailed
}

func app() *cli.App {
	usage := func(_ *cli.Context, err error, _ bool) error { return usageError("%w (see tarbitrator --help)", err) }
	httpFlag := &cli.StringFlag{Name: "http", Usage: "`ADDR` for /metrics, /healthz and /status (default: 127.0.0.1, port + 1)"}
	portFlag := &cli.UintFlag{Name: "port", Aliases: []string{"p"}, Value: defaultPort, Usage: "TCP `PORT` that hosts connect to"}
	return &cli.App{
		Name:    "tarbitrator",
		Usage:   "the third vote of clusters with two data hosts; it stores no data",
		Version: version.Build(),
		Flags: []cli.Flag{
			portFlag,
			&cli.StringFlag{Name: "bind", Usage: "`ADDR` to listen on (default: all)"},
			&cli.StringFlag{Name: "data-dir", Value: defaultDataDir, Usage: "`DIR` of the votes; never copy or restore it"},
			httpFlag,
			&cli.BoolFlag{Name: "debug", Aliases: []string{"d"}, Usage: "log details", DisableDefaultText: true},
		},
		HideHelpCommand: true,
		OnUsageError:    usage,
		ExitErrHandler:  func(*cli.Context, error) {}, // run prints
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageError("unknown command %q (see tarbitrator --help)", c.Args().First())
			}
			conf, err := parse(c)
			if err != nil {
				return err
			}
			log, flush := openLog(c.Bool("debug"))
			defer flush()
			return serve(c.Context, conf, log)
		},
		Commands: []*cli.Command{{
			Name:         "status",
			Usage:        "show what a running arbitrator serves",
			Flags:        []cli.Flag{portFlag, httpFlag},
			OnUsageError: usage,
			Action: func(c *cli.Context) error {
				if c.Args().Present() {
					return usageError("status takes no argument, got %q", c.Args().First())
				}
				conf, err := parse(c)
				if err != nil {
					return err
				}
				return status(c.Context, c.App.Writer, conf.http)
			},
		}},
	}
}

func usageError(format string, args ...any) error {
	return cli.Exit(fmt.Errorf(format, args...), exitUsage)
}

// config is what the flags say.
type config struct {
	listen   string
	dataDir  string
	http     string
	httpGive bool // --http was given: failing to listen there is an error
}

// parse reads the flags, given before or after a subcommand's name.
func parse(c *cli.Context) (config, error) {
	for _, outer := range c.Lineage() {
		if names := outer.LocalFlagNames(); slices.Contains(names, "port") || slices.Contains(names, "http") {
			c = outer
			break
		}
	}
	port := c.Uint("port")
	if port < 1 || port > 65534 {
		return config{}, usageError("port %d: want 1 to 65534, because the next one serves HTTP", port)
	}
	conf := config{
		listen:  net.JoinHostPort(c.String("bind"), strconv.FormatUint(uint64(port), 10)),
		dataDir: c.String("data-dir"), http: c.String("http"), httpGive: c.IsSet("http"),
	}
	if bind := c.String("bind"); bind != "" && net.ParseIP(bind) == nil {
		if _, err := net.LookupHost(bind); err != nil {
			return config{}, usageError("bind %q: %w", bind, err)
		}
	}
	if !conf.httpGive {
		conf.http = net.JoinHostPort("127.0.0.1", strconv.FormatUint(uint64(port)+1, 10))
	} else if _, _, err := net.SplitHostPort(conf.http); err != nil {
		return config{}, usageError("http %q: want host:port: %w", conf.http, err)
	}
	return conf, nil
}

// openLog is where messages go: to standard error, which can't hold the
// arbitrator up. The death of whoever reads it does not end the arbitrator.
// Whoever ends the process calls flush before.
func openLog(details bool) (log *slog.Logger, flush func()) {
	level := slog.LevelInfo
	if details {
		level = slog.LevelDebug
	}
	signal.Ignore(syscall.SIGPIPE)
	stderr := logqueue.Start(os.Stderr)
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})), func() { logqueue.Close(stderr) }
}
