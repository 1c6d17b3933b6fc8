package client

import (
	"context"
	"fmt"
	"net/http"
)

// Vnode is one replica as its own host sees it.
type Vnode struct {
	Group    uint32 `json:"vgroup"`
	Database string `json:"database"`
	Role     string `json:"role"`
	Mode     string `json:"mode"`
	Feed     string `json:"feed"`
	Term     uint64 `json:"term"`
	Commit   uint64 `json:"commit"`
	Applied  uint64 `json:"applied"`
	Tables   int    `json:"tables"`
	Rows     uint64 `json:"rows"`
	Digest   string `json:"digest"` // over all rows, the same on all replicas at the same applied index
}

// Vnodes asks one host for its own replicas; the question is never forwarded.
func (c *Client) Vnodes(ctx context.Context, host string) ([]Vnode, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/api/v1/vnodes", nil)
	if err != nil {
		return nil, fmt.Errorf("make request to %s: %w", host, err)
	}
	body, status, err := c.do(req)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("ask %s for its replicas: HTTP status %d: %s", host, status, body)
	}
	var answer struct {
		Vnodes []Vnode `json:"vnodes"`
	}
	if err := strict(body, &answer); err != nil {
		return nil, fmt.Errorf("read the replicas of %s: %w", host, err)
	}
	return answer.Vnodes, nil
}

// Ping reports whether a host serves HTTP.
func (c *Client) Ping(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, c.config.TryTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/-/ping", nil)
	if err != nil {
		return fmt.Errorf("make request to %s: %w", host, err)
	}
	_, status, err := c.do(req)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("ping %s: HTTP status %d", host, status)
	}
	return err
}
