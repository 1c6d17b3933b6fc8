package node

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/conf"
	"github.com/tarbitrator/tarbitrator/node/api"
	"github.com/tarbitrator/tarbitrator/node/query"
)

type runnerFunc func(statement string) error

func (f runnerFunc) Run(_ context.Context, _ query.Session, statement []byte) (*query.Result, error) {
	return &query.Result{}, f(string(statement))
}

func TestStatementsAreTimedByKind(t *testing.T) {
	times := &timed{runner: runnerFunc(func(s string) error {
		if strings.Contains(s, "wrong") {
			return errors.New("wrong")
		}
		return nil
	})}
	for _, s := range []string{"INSERT INTO t", "insert into u", "Select 1", "select wrong", "use d", ""} {
		_, _ = times.Run(t.Context(), query.Session{}, []byte(s))
	}
	var m api.Metrics
	m.Add(times.collect)
	w := httptest.NewRecorder()
	m.ServeHTTP(w, nil)
	for _, want := range []string{
		`tnode_statement_seconds_count{kind="insert",outcome="done"} 2`,
		`tnode_statement_seconds_count{kind="select",outcome="done"} 1`,
		`tnode_statement_seconds_count{kind="select",outcome="failed"} 1`,
		`tnode_statement_seconds_count{kind="other",outcome="done"} 2`,
	} {
		if !strings.Contains(w.Body.String(), want+"\n") {
			t.Errorf("missing %q in\n%s", want, w.Body)
		}
	}
	if strings.Contains(w.Body.String(), `kind="drop"`) {
		t.Error("what never ran is shown")
	}
}

func TestZone(t *testing.T) {
	for name, ok := range map[string]bool{"": true, "UTC": true, "Mars/Olympus": false} {
		if _, err := Zone(conf.Config{Timezone: name}); (err == nil) != ok {
			t.Errorf("timezone %q: got %v, want it known: %v", name, err, ok)
		}
	}
}
