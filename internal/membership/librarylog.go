package membership

import (
	"context"
	"io"
	"log"
	"log/slog"
	"strings"
)

// libraryLog is the logger of serf and memberlist. What they call errors is what
// strangers and dead hosts do to a port; what an operator has to know is said by
// Gossip itself. So all of it is for whoever debugs, and costs nothing
// otherwise: a log.Logger that discards does not even format.
func libraryLog(to *slog.Logger) *log.Logger {
	if !to.Enabled(context.Background(), slog.LevelDebug) {
		return log.New(io.Discard, "", 0)
	}
	return log.New(lines{to}, "", 0)
}

// lines turns each line into a message.
type lines struct{ to *slog.Logger }

// Write takes one line, as log.Logger hands them out.
func (l lines) Write(b []byte) (int, error) {
	l.to.Debug("gossip library", "text", strings.TrimSpace(string(b)))
	return len(b), nil
}
