// Package client speaks to a cluster over HTTP. It knows several hosts, tries
// the next one when one does not answer, and repeats only what is safe to
// repeat.
//
// It needs nothing but the standard library and has no background work.
package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Config says where the cluster is and how long to wait for it. Fixed after
// New.
type Config struct {
	EndPoints   []string      // HTTP addresses, host:port; the first is tried first
	User        string        // default root
	Password    string        // default taosdata
	Database    string        // for tables named without one; default none
	TryTimeout  time.Duration // for one host to answer what is Repeatable, at first; default 2 s
	Timeout     time.Duration // for a statement, all tries together; default 30 s
	Unreachable time.Duration // to go on while no host can be connected to; default 30 s
	Connections int           // kept open to each host; default 64
}

// DefaultConfig holds the defaults that Config's comments give.
func DefaultConfig() Config {
	return Config{
		EndPoints: []string{"127.0.0.1:6041"}, User: "root", Password: "taosdata",
		TryTimeout: 2 * time.Second, Timeout: 30 * time.Second, Unreachable: 30 * time.Second, Connections: 64,
	}
}

// Check reports everything that is wrong with c.
func (c Config) Check() error {
	var wrong []error
	if len(c.EndPoints) == 0 {
		wrong = append(wrong, errors.New("no end point given"))
	}
	for _, e := range c.EndPoints {
		if _, _, err := net.SplitHostPort(e); err != nil {
			wrong = append(wrong, fmt.Errorf("end point %q: %w", e, err))
		}
	}
	if c.TryTimeout <= 0 || c.Timeout <= 0 {
		wrong = append(wrong, errors.New("timeouts must be positive"))
	}
	return errors.Join(wrong...)
}

// Client runs statements. It may be used by any number of goroutines.
type Client struct {
	config Config
	http   *http.Client
	// preferred counts the times that the client moved on to the next host.
	preferred atomic.Uint32
}

// New makes a client. It dials nobody yet.
func New(config Config) (*Client, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: config.TryTimeout}
	return &Client{config: config, http: &http.Client{Transport: &http.Transport{
		DialContext:           dialer.DialContext,
		MaxIdleConnsPerHost:   config.Connections,
		IdleConnTimeout:       5 * time.Minute,
		DisableCompression:    true,
		ResponseHeaderTimeout: config.Timeout,
	}}}, nil
}

// Close closes the connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Exec runs a statement that changes something and returns the number of rows
// that it wrote.
func (c *Client) Exec(ctx context.Context, statement string) (int64, error) {
	rows, err := c.Query(ctx, statement)
	if err != nil {
		return 0, err
	}
	return rows.affected()
}

// Query runs any statement and returns its whole answer.
//
// It goes to the next host when one does not answer in time, refuses the
// connection or says that it has no master. What is Repeatable is also repeated
// when it may have run already; anything else ends with ErrUnknownOutcome then.
func (c *Client) Query(ctx context.Context, statement string) (*Rows, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	t := tries{config: c.config, statement: statement, began: time.Now()}
	pause := firstPause
	for try := 1; ; try++ {
		turn := c.preferred.Load()
		host := c.config.EndPoints[int(turn)%len(c.config.EndPoints)]
		rows, err := c.try(ctx, host, statement, t.time())
		if err == nil {
			return rows, nil
		}
		if err, over := t.note(ctx, err); over {
			return nil, err
		}
		c.preferred.CompareAndSwap(turn, turn+1) // others may have moved on already
		// A round over all hosts without success: give them a moment.
		if try%len(c.config.EndPoints) == 0 {
			wait(ctx, pause)
			pause = min(2*pause, longestPause)
		}
		if ctx.Err() != nil {
			return nil, t.giveUp()
		}
	}
}

const (
	firstPause   = 5 * time.Millisecond
	longestPause = 200 * time.Millisecond
)

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// try asks one host, for so long; zero: as long as ctx lasts.
func (c *Client) try(ctx context.Context, host, statement string, most time.Duration) (*Rows, error) {
	if most > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, most)
		defer cancel()
	}
	body, status, err := c.post(ctx, host, statement)
	if err != nil {
		return nil, err
	}
	return decode(body, status)
}

func (c *Client) post(ctx context.Context, host, statement string) (body []byte, status int, err error) {
	to := "http://" + host + "/rest/sql"
	if c.config.Database != "" {
		to += "/" + url.PathEscape(c.config.Database)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(statement))
	if err != nil {
		return nil, 0, fmt.Errorf("make request to %s: %w", host, err)
	}
	return c.do(req)
}

// maxAnswer bounds an answer in memory.
const maxAnswer = 1 << 30

func (c *Client) do(req *http.Request) (body []byte, status int, err error) {
	req.SetBasicAuth(c.config.User, c.config.Password)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("ask %s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if resp.ContentLength > 0 && resp.ContentLength < maxAnswer {
		b.Grow(int(resp.ContentLength) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, 0, fmt.Errorf("read the answer of %s: %w", req.URL.Host, err)
	}
	if n > maxAnswer {
		return nil, 0, fmt.Errorf("answer of %s is longer than %d bytes", req.URL.Host, maxAnswer)
	}
	return b.Bytes(), resp.StatusCode, nil
}
