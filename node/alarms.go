package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/alarm"
	"github.com/tarbitrator/tarbitrator/node/api"
)

// lookEvery is how often a host looks for what is wrong.
const lookEvery = time.Second

// alarms looks for what is wrong, logs each alarm when it is raised and when it
// is cleared, and keeps what holds now for whoever asks. What is wrong, others
// know (look); for how long makes it an alarm, alarm.Board does.
type alarms struct {
	look func() ([]alarm.Finding, consensus.Mode)
	log  *slog.Logger
	now  atomic.Pointer[outlook]
}

// outlook is what a host knew at its last look. It is replaced, never changed.
type outlook struct {
	alarms []alarm.Alarm // the most urgent first
	// mode is how safe the data is, and since when; known from the start of
	// this process on.
	mode  consensus.Mode
	since time.Time
}

// Alarms returns the alarms that hold now, the most urgent first.
func (a *alarms) Alarms() []alarm.Alarm { return a.outlook().alarms }

func (a *alarms) outlook() outlook {
	if o := a.now.Load(); o != nil {
		return *o
	}
	return outlook{}
}

// run looks until ctx ends.
func (a *alarms) run(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var board alarm.Board
	for {
		now := time.Now()
		found, mode := a.look()
		for _, c := range board.Step(now, found) {
			a.say(now, c)
		}
		next := &outlook{alarms: board.Raised(), mode: mode, since: now}
		if was := a.now.Load(); was != nil && was.mode == mode {
			next.since = was.since
		}
		a.now.Store(next)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (a *alarms) say(now time.Time, c alarm.Change) {
	if !c.Raised {
		a.log.Info("alarm cleared", "code", c.Code, "object", c.Object, "took", now.Sub(c.Since).Round(time.Second))
		return
	}
	log := a.log.Info
	switch c.Level {
	case alarm.Critical:
		log = a.log.Error
	case alarm.Warning:
		log = a.log.Warn
	}
	log("alarm raised", "code", c.Code, "object", c.Object, "what", c.What, "next", c.Next)
}

// collect writes the alarms as metrics.
func (a *alarms) collect(t *api.MetricText) {
	list := a.Alarms()
	t.Family("tnode_alarm", "gauge", "1 for each alarm that holds; docs/operate/alerts.md explains the codes.")
	count := map[alarm.Level]int{}
	for _, x := range list {
		count[x.Level]++
		t.Sample(1, "code", string(x.Code), "level", x.Level.String(), "object", x.Object)
	}
	t.Family("tnode_alarms", "gauge", "Alarms that hold, by level.")
	for _, level := range []alarm.Level{alarm.Critical, alarm.Warning, alarm.Notice} {
		t.Sample(float64(count[level]), "level", level.String())
	}
}

// findings is what this host finds now: the cluster's troubles as it knows
// them. An old copy knows only that it is one.
func (n *Node) findings() ([]alarm.Finding, consensus.Mode) {
	if why := n.refusal(); why != nil {
		return []alarm.Finding{{
			Code: alarm.OldCopy, Object: n.name(), What: why.Error(),
			Next: fmt.Sprintf("stop it and put its true directory back; if there is none, empty it, start it and type RESTORE DNODE %d on another host", n.host.Dnode()),
		}}, consensus.ModeUnknown
	}
	o := n.host.Overview()
	return o.Findings(), o.Mode()
}

// ownFindings is what only this host can see. Its report tells the others.
func (n *Node) ownFindings() []alarm.Finding {
	found := n.space.findings(n.name())
	if n.groups.DiskHung() > 0 {
		found = append(found, alarm.Finding{
			Code: alarm.DiskHung, Object: n.name(), What: "its disk does not answer: the log of " + n.config.DataDir + " can't be synced",
			Next: "look at dmesg and at the storage behind it; if it never answers, kill this host: the other one serves on",
		})
	}
	return found
}

// name is this host in alarms.
func (n *Node) name() string {
	if d := n.host.Dnode(); d != 0 {
		return name(d)
	}
	return "this host"
}
