package node

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/alarm"
	"github.com/tarbitrator/tarbitrator/node/api"
)

// An alarm is logged when it is raised and when it is cleared, and not in
// between; while it holds the metrics show it.
func TestAlarmsAreSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var away atomic.Bool
		a := &alarms{log: slog.New(slog.NewTextHandler(&log, nil)), look: func() ([]alarm.Finding, consensus.Mode) {
			if !away.Load() {
				return nil, consensus.ModeSync
			}
			return []alarm.Finding{{Code: alarm.HostOffline, Object: "dnode 2", What: "it is offline", Next: "start it"}}, consensus.ModeAsync
		}}
		metrics := &api.Metrics{}
		metrics.Add(a.collect)
		scrape := func() string {
			w := httptest.NewRecorder()
			metrics.ServeHTTP(w, nil)
			return w.Body.String()
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- a.run(ctx) }()

		time.Sleep(time.Minute + lookEvery/2) // between two looks
		if got := scrape(); strings.Contains(got, "HOST_OFFLINE") || !strings.Contains(got, `tnode_alarms{level="warning"} 0`) {
			t.Errorf("all is well, and the metrics say\n%s", got)
		}
		if o := a.outlook(); o.mode != consensus.ModeSync || time.Since(o.since) < 59*time.Second {
			t.Errorf("mode %v since %v", o.mode, o.since)
		}
		away.Store(true)
		time.Sleep(time.Hour)
		if got := scrape(); !strings.Contains(got, `tnode_alarm{code="HOST_OFFLINE",level="warning",object="dnode 2"} 1`) ||
			!strings.Contains(got, `tnode_alarms{level="warning"} 1`) {
			t.Errorf("the metrics do not show the alarm:\n%s", got)
		}
		away.Store(false)
		time.Sleep(time.Minute)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], `level=WARN msg="alarm raised" code=HOST_OFFLINE object="dnode 2"`) ||
			!strings.Contains(lines[1], `level=INFO msg="alarm cleared" code=HOST_OFFLINE object="dnode 2" took=1h0m0s`) {
			t.Errorf("the log says\n%s", log.String())
		}
		if len(a.Alarms()) != 0 {
			t.Errorf("alarms at the end: %v", a.Alarms())
		}
	})
}
