package node

import (
	"bytes"
	"context"
	"time"

	"github.com/tarbitrator/tarbitrator/node/api"
	"github.com/tarbitrator/tarbitrator/node/api/rest"
	"github.com/tarbitrator/tarbitrator/node/query"
)

// timed runs statements and notes how long each kind takes, waiting for a master
// included.
type timed struct {
	runner rest.Runner
	kinds  [len(statementKinds)]struct{ done, failed api.Latency }
}

// statementKinds are the first words that are counted apart. The last stands for
// every other.
var statementKinds = [...]string{"insert", "select", "show", "create", "drop", "other"}

// kindOf is the place of a statement in statementKinds.
func kindOf(statement []byte) int {
	last := len(statementKinds) - 1
	for i, word := range statementKinds[:last] {
		if len(statement) >= len(word) && bytes.EqualFold(statement[:len(word)], []byte(word)) {
			return i
		}
	}
	return last
}

// Run implements rest.Runner.
func (t *timed) Run(ctx context.Context, s query.Session, statement []byte) (*query.Result, error) {
	kind, start := &t.kinds[kindOf(statement)], time.Now()
	result, err := t.runner.Run(ctx, s, statement)
	if err == nil {
		kind.done.Observe(time.Since(start))
	} else {
		kind.failed.Observe(time.Since(start))
	}
	return result, err
}

// collect writes the histograms of what was run at all.
func (t *timed) collect(text *api.MetricText) {
	text.Family("tnode_statement_seconds", "histogram", "Time that statements took on this host, by their first word and outcome.")
	for i := range t.kinds {
		for _, x := range []struct {
			outcome string
			times   *api.Latency
		}{{"done", &t.kinds[i].done}, {"failed", &t.kinds[i].failed}} {
			if x.times.Count() > 0 {
				text.Histogram(x.times, "kind", statementKinds[i], "outcome", x.outcome)
			}
		}
	}
}
