package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// busyInterval is the interval of reports while something is being made or
// changed: how far a learner is shows only in reports.
const busyInterval = 200 * time.Millisecond

// gather is how long a report waits for further changes once one has happened:
// a birth of many groups makes one report, not one for each.
const gather = 5 * time.Millisecond

// reportLoop tells the mnode master about this host every interval, and at once
// when something about its replicas changes.
func (h *Host) reportLoop(ctx context.Context) error {
	tick := time.NewTimer(h.cfg.Interval)
	defer tick.Stop()
	said := ""
	for {
		changed := h.groups.Changed()
		err := h.report(ctx)
		h.noteRemoval(err)
		if text := fmt.Sprint(err); ctx.Err() == nil && (err != nil) != (said != "") {
			said = ""
			if err != nil {
				said = text
				h.log.Warn("mnode master does not take this host's report", "err", err)
			} else {
				h.log.Info("mnode master takes this host's report again")
			}
		}
		if every := h.cfg.Interval; unfinished(h.View()) {
			tick.Reset(min(every, busyInterval))
		} else {
			tick.Reset(every)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-changed:
			_ = pause(ctx, gather) // ctx is looked at above
		case <-h.wakeReport:
			_ = pause(ctx, gather)
		}
	}
}

// noteRemoval keeps what the mnode master's answer to a report says of this
// host's place in the cluster. A host that has none hears nothing new of users
// and tables, so it may serve nobody.
func (h *Host) noteRemoval(err error) {
	var coded interface{ SQLCode() uint16 }
	switch {
	case err == nil:
		h.removed.Store(nil)
	case errors.As(err, &coded) && coded.SQLCode() == mnode.CodeRefused:
		text := err.Error()
		h.removed.Store(&text)
	}
}

// unfinished reports whether the mnode master waits for something to happen.
func unfinished(v *mnode.View) bool {
	return slices.ContainsFunc(v.Groups, func(g mnode.Group) bool {
		return g.State != mnode.Formed || slices.ContainsFunc(g.Members, func(m mnode.Member) bool { return m.Joining || m.Leaving })
	})
}

// report sends one report and takes the answer.
func (h *Host) report(ctx context.Context) error {
	if h.View().Cluster.ID == 0 {
		return nil // being born: there is nobody yet who could know this host
	}
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Interval)
	defer cancel()
	r := h.Report()
	asked := time.Now()
	var answer mnode.Answer
	if m, err := h.master(); err == nil {
		if answer, err = m.Report(r); err == nil {
			h.hear(answer, asked)
			return nil
		}
	}
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	reply, err := h.Forward(ctx, id.Mnode, methodReport, body)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := json.Unmarshal(reply, &answer); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	h.hear(answer, asked)
	return nil
}

// hear takes the master's answer.
func (h *Host) hear(a mnode.Answer, at time.Time) {
	if len(a.View) > 0 {
		v, err := mnode.DecodeView(a.View)
		if err != nil {
			h.log.Error("mnode master sent a view that can't be read", "err", err)
		} else {
			h.adopt(v)
		}
		a.View = nil
	}
	if was := h.told.Load(); a.Reason != "" && (was == nil || was.answer.Reason != a.Reason) {
		h.log.Error("this host does not fit the cluster", "reason", a.Reason)
	}
	h.told.Store(&told{answer: a, at: at})
	if m := h.meta.Load(); m != nil && a.Master != h.Self() {
		m.master.Remember(a.Others, at)
	}
}

// Report returns what this host says of itself.
func (h *Host) Report() mnode.Report {
	self := h.record.Identity()
	r := mnode.Report{
		Dnode: self.Dnode, UUID: self.UUID, EndPoint: h.cfg.EndPoint, Boot: h.record.Offer().Boot,
		Version: h.cfg.Version, Cores: h.cfg.Cores, Settings: h.cfg.Settings,
		History: h.View().News(self.Dnode, h.groups.History()), Done: id.Index(h.done.Load()), Seen: h.View().Index, Clock: time.Now(),
	}
	if h.cfg.Found != nil {
		r.Found = h.cfg.Found()
	}
	if arb := h.View().Arbitrator.UUID; h.linked()[arb] {
		r.Arbitrator = arb
	}
	statuses := map[id.Group]consensus.Status{}
	for _, s := range h.groups.Statuses() {
		statuses[s.Group] = s
	}
	faults, shards := h.faults(), h.Shards()
	for _, x := range h.record.replicas() {
		if x.Phase == phaseCreating {
			continue // nobody is told before it is sure to be found again
		}
		line := mnode.GroupReport{Group: x.Group, Replica: x.Replica, Epoch: x.Epoch, Fault: faults[x.Group]}
		if s, ok := statuses[x.Group]; ok {
			fill(&line, s)
		}
		if shard, ok := shards[x.Group]; ok {
			tables, _ := shard.Counts()
			line.Tables = int64(tables)
		}
		r.Groups = append(r.Groups, line)
	}
	return r
}

func fill(line *mnode.GroupReport, s consensus.Status) {
	line.Formed, line.Role, line.Leader, line.Term = s.Formed, s.Role, s.Leader, s.Term
	line.Last, line.Applied, line.Mode, line.Feed, line.Members = s.Last, s.Applied, s.Mode, s.Feed, s.Members
	line.Refusal, line.Unanswered = s.Refusal, s.Unanswered
	if s.Faulty != nil {
		line.Fault = s.Faulty.Error()
	}
}

// master returns this host's mnode master, or refuses if it has no replica of
// the metadata. Whether that leads, it says itself.
func (h *Host) master() (*mnode.Master, error) {
	if m := h.meta.Load(); m != nil {
		return m.master, nil
	}
	return nil, &consensus.NotLeaderError{Group: id.Mnode}
}

func (h *Host) serveReport(_ context.Context, from id.UUID, _ id.Group, body []byte) ([]byte, error) {
	var r mnode.Report
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	if r.UUID != from {
		return nil, errors.New("read report: it is another host's")
	}
	m, err := h.master()
	if err != nil {
		return nil, err
	}
	answer, err := m.Report(r)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}
