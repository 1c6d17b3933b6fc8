package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/tarbitrator/tarbitrator/arbitrator"
	"github.com/tarbitrator/tarbitrator/internal/version"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// serve runs an arbitrator until ctx ends.
func serve(ctx context.Context, conf config, log *slog.Logger) error {
	debug.SetGCPercent(50) // memory is dearer here than time
	l, err := net.Listen("tcp", conf.listen)
	if err != nil {
		return listenError(conf.listen, "--port or --bind", err)
	}
	store, err := openStore(conf.dataDir)
	if err != nil {
		l.Close()
		return err
	}
	httpListener, err := listenHTTP(conf, l, log)
	if err != nil {
		l.Close()
		return errors.Join(err, store.Log().Close())
	}
	records := store.Records()
	server := arbitrator.NewServer(store, records, l.Addr().String(), log)

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	if httpListener != nil {
		wg.Go(func() { serveHTTP(ctx, httpListener, server.Handler(), log) })
	}
	wg.Go(func() { watch(ctx, server, log) })
	log.Info("arbitrator started", "addr", l.Addr().String(), "data_dir", conf.dataDir, "uuid", store.UUID().String(),
		"records", len(records), "generation", store.Generation(), "version", version.Build())
	err = server.Run(ctx, l)
	stop()
	wg.Wait()
	if err == nil {
		log.Info("arbitrator stopped")
	}
	return err
}

func openStore(dir string) (*arbitrator.Store, error) {
	for _, name := range []string{"host", "vnode", "mnode"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return nil, fmt.Errorf("data directory %s is that of a data host: give the arbitrator its own with --data-dir", dir)
		}
	}
	files, err := wal.DirFS(dir)
	if err == nil {
		var store *arbitrator.Store
		if store, err = arbitrator.OpenStore(files, arbitrator.StoreOptions()); err == nil {
			return store, nil
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("data directory %s: %w: run as its owner, or choose another with --data-dir", dir, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, wal.ErrFull):
		return nil, fmt.Errorf("data directory %s: %w: free some 16 MiB there, or choose another with --data-dir", dir, err)
	}
	return nil, fmt.Errorf("data directory %s: %w", dir, err)
}

// listenError says what to do about a port that can't be had.
func listenError(addr, flags string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is in use: another program listens there; stop it, or choose another address with %s", addr, flags)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s is not an address of this machine: choose another with %s", addr, flags)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s may not be listened on by this user: choose a port above 1023 with %s", addr, flags)
	}
	return fmt.Errorf("listen on %s: %w", addr, err)
}

// ---- HTTP ----

// listenHTTP returns nil without an error when the default address is taken:
// votes matter more than metrics.
func listenHTTP(conf config, main net.Listener, log *slog.Logger) (net.Listener, error) {
	addr := conf.http
	if tcp, ok := main.Addr().(*net.TCPAddr); ok && !conf.httpGive {
		addr = fmt.Sprintf("127.0.0.1:%d", tcp.Port+1) // the port may have been drawn by the kernel
	}
	l, err := net.Listen("tcp", addr)
	if err == nil {
		return l, nil
	}
	err = listenError(addr, "--http", err)
	if conf.httpGive {
		return nil, err
	}
	log.Warn("no metrics and no status: the address for HTTP can't be had", "addr", addr, "err", err)
	return nil, nil
}

func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Warn("http ended", "err", err)
	}
}

// ---- systemd ----

// watch tells systemd, if it started us, that the arbitrator is ready, alive
// and stopping. Alive means that the machine's loop answers.
func watch(ctx context.Context, server *arbitrator.Server, log *slog.Logger) {
	notify := func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			log.Warn("systemd was not told", "state", state, "err", err)
		}
	}
	if _, err := server.Status(ctx); err != nil {
		return
	}
	notify(daemon.SdNotifyReady)
	defer notify(daemon.SdNotifyStopping)
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := server.Status(ctx); err == nil {
				notify(daemon.SdNotifyWatchdog)
			}
		}
	}
}
