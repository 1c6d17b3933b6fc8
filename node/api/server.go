package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Config holds the limits of the HTTP server. Fixed after New.
type Config struct {
	Addr           string        // where to listen; host:port
	MaxConnections int           // for one more, one that waits makes room; default 10,000
	MaxBodyBytes   int64         // of one request, also after decompression; default 1 MiB and 64 KiB
	MaxQueuedBytes int64         // of all bodies in hand; more is refused with 503; default 256 MiB
	HeaderTimeout  time.Duration // for the head of a request; default 10 s
	BodyTimeout    time.Duration // for a whole request; default 60 s
	IdleTimeout    time.Duration // between two requests; default 10 min
}

// DefaultConfig holds the defaults that Config's comments give.
func DefaultConfig() Config {
	return Config{
		Addr: ":6041", MaxConnections: 10_000,
		MaxBodyBytes: 1<<20 + 64<<10, MaxQueuedBytes: 256 << 20,
		HeaderTimeout: 10 * time.Second, BodyTimeout: time.Minute, IdleTimeout: 10 * time.Minute,
	}
}

// Check reports everything that is wrong with c.
func (c Config) Check() error {
	var wrong []error
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		wrong = append(wrong, fmt.Errorf("HTTP address %q: %w", c.Addr, err))
	}
	if c.MaxConnections < 1 || c.MaxBodyBytes < 1 || c.MaxQueuedBytes < c.MaxBodyBytes {
		wrong = append(wrong, errors.New("HTTP limits must be positive, and all bodies at least as many bytes as one"))
	}
	return errors.Join(wrong...)
}

// Server is the HTTP port of a host. Doors hang on it by path.
//
// It keeps its own table of paths instead of http.ServeMux because a client
// posts to a path with a trailing slash and would lose its body on the
// redirect that the latter answers with.
type Server struct {
	config Config
	log    *slog.Logger
	http   *http.Server

	ready    func(context.Context) error // fixed before Run
	exact    map[string]http.Handler     // fixed before Run
	prefixes []route                     // fixed before Run; first match wins

	crowd       *crowd
	queuedBytes atomic.Int64
}

// connKey finds the connection of a request in its context.
type connKey struct{}

type route struct {
	prefix  string
	handler http.Handler
}

// New makes a server that Run starts.
func New(config Config, log *slog.Logger) (*Server, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	s := &Server{config: config, log: log, exact: map[string]http.Handler{}, crowd: newCrowd(config.MaxConnections)}
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: config.HeaderTimeout,
		ReadTimeout:       config.BodyTimeout,
		IdleTimeout:       config.IdleTimeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				s.crowd.leave(c)
			}
		},
	}
	return s, nil
}

// Handle serves one path. A path that ends in a slash stands for everything
// below it. All paths are registered before Run.
func (s *Server) Handle(path string, h http.Handler) {
	if strings.HasSuffix(path, "/") {
		s.prefixes = append(s.prefixes, route{path, h})
		return
	}
	s.exact[path] = h
}

// Gate closes all doors but /metrics while ready returns an error, which
// clients get to read, with its number if it has one: they come back, or go to
// another host. It may wait for something until its context ends.
func (s *Server) Gate(ready func(context.Context) error) { s.ready = ready }

// Listen opens the port. It is apart from Run so that a host can say that the
// port is taken before it joins anything.
func (s *Server) Listen() (net.Listener, error) {
	l, err := net.Listen("tcp", s.config.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP on %s (httpPort): %w", s.config.Addr, err)
	}
	return l, nil
}

// Run serves until ctx ends, then lets requests under way finish for a second,
// and returns when all of them have.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	// Requests outlive ctx by the grace of Shutdown, so that an INSERT that is
	// on its way to the log still gets its answer.
	requests, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	s.http.BaseContext = func(net.Listener) context.Context { return requests }

	served := make(chan error, 1)
	go func() { served <- s.http.Serve(gate{l, s.crowd}) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	grace, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer done()
	if err := s.http.Shutdown(grace); err != nil {
		abandon()
		_ = s.http.Close() // what is left is cut off: there is no one to tell
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

// Connections is the number of open connections.
func (s *Server) Connections() int { return s.crowd.size() }

// ServeHTTP finds the door for a path.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		s.crowd.works(c)
		defer s.crowd.waits(c) // what is left of an unread body is not worth the place
	}
	if s.ready != nil && r.URL.Path != "/metrics" && !s.admit(w, r) {
		return
	}
	if h, ok := s.exact[r.URL.Path]; ok {
		h.ServeHTTP(w, r)
		return
	}
	for _, route := range s.prefixes {
		if strings.HasPrefix(r.URL.Path, route.prefix) {
			route.handler.ServeHTTP(w, r)
			return
		}
	}
	http.Error(w, "no such path: "+r.URL.Path, http.StatusNotFound)
}

// admit answers a request that the gate does not let in. A ping and a look at the
// status are answered at once: they ask how things are now.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) bool {
	ctx := r.Context()
	if r.URL.Path == "/-/ping" || r.URL.Path == statusPath {
		now, cancel := context.WithCancel(ctx)
		cancel()
		ctx = now
	}
	err := s.ready(ctx)
	if err == nil {
		return true
	}
	w.Header().Set("Retry-After", "1")
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(http.StatusServiceUnavailable)
	closed := struct {
		Code uint16 `json:"code"`
		Desc string `json:"desc"`
	}{CodeOutOfService, err.Error()}
	var own coded
	if errors.As(err, &own) {
		closed.Code = own.SQLCode()
	}
	json.NewEncoder(w).Encode(closed) //nolint:errcheck // the client has gone
	return false
}
