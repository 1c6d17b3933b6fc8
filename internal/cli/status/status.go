// Package status prints a cluster on one screen, as one of its hosts sees it.
//
// It asks that host only and changes nothing.
package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/tarbitrator/tarbitrator/client"
	"github.com/tarbitrator/tarbitrator/internal/cli/screen"
)

// Print writes the screen of the first of the hosts that has one. Without any
// it returns the best reason: that of a host which answers, if one does.
func Print(ctx context.Context, config client.Config, out io.Writer) error {
	s, err := ask(ctx, config)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, Screen(s, screen.PaintFor(out)))
	return err
}

// JSON writes what the first of the hosts that has a status answers.
func JSON(ctx context.Context, config client.Config, out io.Writer) error {
	s, err := ask(ctx, config)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(s)
}

func ask(ctx context.Context, config client.Config) (*client.Status, error) {
	c, err := client.New(config)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var best error
	for _, host := range config.EndPoints {
		s, err := c.Status(ctx, host)
		if err == nil {
			return s, nil
		}
		var said *client.Error
		if errors.As(err, &said) {
			err = fmt.Errorf("%s says: %w", host, err)
		}
		if best == nil || said != nil && !errors.As(best, new(*client.Error)) {
			best = err
		}
	}
	return nil, best
}
