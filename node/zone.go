package node

import (
	"fmt"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/conf"
)

// Zone is the time zone in which timestamps without one are meant.
func Zone(c conf.Config) (*time.Location, error) {
	if c.Timezone == "" {
		return time.Local, nil
	}
	zone, err := time.LoadLocation(c.Timezone)
	if err != nil {
		return nil, fmt.Errorf("timezone %s is not known on this machine (a name such as Europe/Berlin, from the package tzdata): %w", c.Timezone, err)
	}
	return zone, nil
}
