// Package status prints a cluster on one screen, as one of its hosts sees it.
//
// It asks that host only and changes nothing.
package status

import (
	"context"
	"fmt"
	"io"

	"github.com/tarbitrator/tarbitrator/client"
	"github.com/tarbitrator/tarbitrator/internal/cli/shell"
)

// Print writes the screen.
func Print(ctx context.Context, config client.Config, out io.Writer) error {
	c, err := client.New(config)
	if err != nil {
		return err
	}
	defer c.Close()
	alive, err := c.Query(ctx, "SHOW CLUSTER ALIVE")
	if err != nil {
		return err
	}
	state := map[string]string{"0": "not available", "1": "fully available", "2": "partly available"}[alive.Text(0, 0)]
	fmt.Fprintf(out, "cluster: %s\n\n", state)
	for _, screen := range []struct{ title, statement string }{
		{"hosts", "SHOW DNODES"}, {"metadata", "SHOW MNODES"}, {"groups", "SHOW VGROUPS"},
	} {
		rows, err := c.Query(ctx, screen.statement)
		if err != nil {
			return err
		}
		if len(rows.Data) == 0 {
			continue
		}
		fmt.Fprintln(out, screen.title)
		shell.Table(out, rows)
		fmt.Fprintln(out)
	}
	return nil
}
