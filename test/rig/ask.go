package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/tarbitrator/tarbitrator/client"
)

// EndPoint is where a data host serves HTTP.
func (r *Rig) EndPoint(name string) string { return net.JoinHostPort(r.net.address(name), "6041") }

// PeerEndPoint is where a data host is reached by other hosts: its name in the
// cluster.
func (r *Rig) PeerEndPoint(name string) string { return net.JoinHostPort(r.net.address(name), "6030") }

// Client makes a client of these hosts, in this order.
func (r *Rig) Client(names ...string) (*client.Client, error) {
	config := client.DefaultConfig()
	config.EndPoints = nil
	for _, n := range names {
		config.EndPoints = append(config.EndPoints, r.EndPoint(n))
	}
	return client.New(config)
}

// SQL runs one statement at a host and repeats it until it succeeds or ctx ends.
func (r *Rig) SQL(ctx context.Context, name, statement string) error {
	var last error
	for ctx.Err() == nil {
		if last = post(ctx, r.EndPoint(name), statement); last == nil || strings.Contains(last.Error(), "exists") {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s at %s: %w", statement, name, last)
}

func post(ctx context.Context, endPoint, statement string) error {
	body, err := Ask(ctx, http.DefaultClient, endPoint, statement)
	if err == nil && !strings.HasPrefix(body, `{"code":0`) {
		err = errors.New(body)
	}
	return err
}

// Ask posts one statement and returns the whole answer.
func Ask(ctx context.Context, c *http.Client, endPoint, statement string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+endPoint+"/rest/sql", strings.NewReader(statement))
	if err != nil {
		return "", err
	}
	req.SetBasicAuth("root", "taosdata")
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// Get fetches a page that a machine serves to itself only.
func (r *Rig) Get(name, url string) (string, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return r.net.dialIn(ctx, name, address)
		},
	}
	resp, err := (&http.Client{Timeout: 5 * time.Second, Transport: transport}).Get(url)
	if err != nil {
		return "", fmt.Errorf("get %s on %s: %w", url, name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("get %s on %s: %w", url, name, err)
	}
	return string(body), nil
}
