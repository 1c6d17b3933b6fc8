package mnode

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Outside is what a master acts through. Every call is bounded by its ctx and
// may be repeated.
type Outside interface {
	Proposer
	// Read returns once this host has proved that it still leads the group and
	// has applied everything committed before.
	Read(ctx context.Context, group id.Group) error
	// Enroll and Retire make the arbitrator keep or forget a record.
	Enroll(ctx context.Context, group id.Group, replica id.Replica, witness id.UUID) error
	Retire(ctx context.Context, group id.Group, replica id.Replica, witness id.UUID) error
	// ChangeMembers has the host that leads a group change its members.
	ChangeMembers(ctx context.Context, leader id.UUID, group id.Group, c consensus.Change) error
	// Transfer has the host that leads a group hand it to another voter. Reports
	// tell whether that took it.
	Transfer(ctx context.Context, leader id.UUID, group id.Group, to id.Replica) error
	// Push gives a host the newest View.
	Push(ctx context.Context, to id.UUID, v *View) error
	// AskArbitrator returns the directory that answers at an end point.
	AskArbitrator(ctx context.Context, endPoint string) (id.UUID, error)
	// Linked reports whether a directory is connected to this host.
	Linked(u id.UUID) bool
}

// MasterConfig holds what a master goes by. Fixed after NewMaster.
type MasterConfig struct {
	Self        id.UUID
	NumOfMnodes int               // wanted replicas of the metadata; default 3
	Interval    time.Duration     // of status reports; default 1 s
	Settings    map[string]string // must be equal on all hosts (A38)
	// OfflineThreshold is how long a dnode may be away before it is removed, if
	// its replicas have another place; zero: for ever.
	OfflineThreshold time.Duration
}

const (
	actionTimeout = 5 * time.Second        // one try of one action
	retryAfter    = 200 * time.Millisecond // a failed action is tried again
	// repeatAfter is when an action that succeeded may be taken again, if the
	// plan still names it: by then its effect is in a report.
	repeatAfter = 200 * time.Millisecond
	// maxActions bounds what a master does at once; the rest waits for the
	// next look.
	maxActions = 64
	createWait = 20 * time.Second // CREATE DATABASE answers until then
	pushKey    = "push view to "
)

// Master carries out what Plan says while this host leads the mnode's group,
// and keeps what hosts report. It starts anew with every leadership.
//
// Lock order: Master.mu alone; nothing is called with it held.
type Master struct {
	cfg     MasterConfig
	mnode   *Mnode
	outside Outside
	log     *slog.Logger
	wake    chan struct{} // capacity 1: something has changed, look again

	mu struct {
		sync.Mutex
		facts Facts
		tasks []Task
		heard chan struct{} // closed at the next change of facts
	}

	// ---- owned by Run ----
	running map[string]bool      // actions under way
	retry   map[string]time.Time // actions that ended, not before
	again   time.Time            // the first of those that the last look wanted
	failed  map[string]failure   // their last errors
	pushed  map[id.Host]id.Index // newest View that a host has confirmed
	warned  bool                 // that even groups have no arbitrator
	said    map[string]said      // what was logged of unfinished tasks
	done    chan outcome
	wait    sync.WaitGroup
}

// outcome is what became of one action.
type outcome struct {
	key   string
	err   error
	after func() // run by the loop when err is nil
	quiet bool   // a failure is no news
}

// failure is why an action has not succeeded. It is news once it has happened
// twice: the first time the other side may just not be connected yet.
type failure struct {
	err  string
	said bool
}

// NewMaster makes the master of m's host. Call Run.
func NewMaster(cfg MasterConfig, m *Mnode, outside Outside, log *slog.Logger) *Master {
	s := &Master{cfg: cfg, mnode: m, outside: outside, log: log, wake: make(chan struct{}, 1)}
	s.mu.heard = make(chan struct{})
	s.mu.facts = s.blankFacts()
	return s
}

func (s *Master) blankFacts() Facts {
	return Facts{
		NumOfMnodes: s.cfg.NumOfMnodes, Interval: s.cfg.Interval, OfflineThreshold: s.cfg.OfflineThreshold, Began: time.Now(),
		Hosts: map[id.Host]Heard{}, Enrolled: map[Enrolment]bool{}, Retired: map[Enrolment]bool{},
		Knocks: map[id.Host]time.Time{}, Asked: map[string]Answered{}, Linked: map[id.UUID]bool{},
		Changing: map[id.Group]time.Time{},
	}
}

// Run leads whenever this host leads the mnode's group, until ctx ends.
func (s *Master) Run(ctx context.Context) error {
	for {
		changed := s.mnode.Watch()
		if term, leads := s.mnode.Leads(); leads {
			s.lead(ctx, term)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// lead is one leadership: it returns when it is lost, after all its actions.
func (s *Master) lead(ctx context.Context, term id.Term) {
	ctx, cancel := context.WithCancel(ctx)
	s.begin(term)
	defer func() {
		cancel()
		s.wait.Wait()
		s.log.Info("mnode master no more", "term", term)
	}()
	again := time.NewTimer(s.cfg.Interval)
	defer again.Stop()
	for {
		changed := s.mnode.Watch()
		if now, leads := s.mnode.Leads(); !leads || now != term {
			return
		}
		again.Reset(s.look(ctx))
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-s.wake:
		case <-again.C:
		case o := <-s.done:
			s.finish(o)
		}
	}
}

// begin forgets what the last leadership knew: only the log counts.
func (s *Master) begin(term id.Term) {
	s.log.Info("mnode master", "term", term)
	s.running, s.retry, s.failed = map[string]bool{}, map[string]time.Time{}, map[string]failure{}
	s.pushed, s.warned, s.said = map[id.Host]id.Index{}, false, map[string]said{}
	s.done = make(chan outcome, maxActions) // never blocks: at most maxActions are under way
	s.mu.Lock()
	defer s.mu.Unlock()
	hearsay := s.mu.facts.Hosts
	s.mu.facts = s.blankFacts()
	for n, h := range hearsay {
		h.Hearsay = true
		s.mu.facts.Hosts[n] = h
	}
	s.heardLocked()
}

// look plans and starts what is not under way yet. It returns when to look again
// at the latest.
func (s *Master) look(ctx context.Context) time.Duration {
	now := time.Now()
	s.again = now.Add(s.cfg.Interval)
	v := s.mnode.View()
	s.arbitratorAnswers(ctx, now, v)
	s.mu.Lock()
	s.mu.facts.notice(now, v)
	s.mu.Unlock()
	facts := s.Facts()
	for _, a := range v.Former {
		facts.Linked[a.UUID] = s.outside.Linked(a.UUID)
	}
	for _, d := range v.Live() {
		if d.Restoring {
			facts.Linked[d.UUID] = s.outside.Linked(d.UUID)
		}
	}
	actions, tasks := Plan(now, v, &facts)
	for _, a := range actions {
		s.start(ctx, now, a.key(), func(ctx context.Context) (func(), error) { return s.act(ctx, a) })
	}
	for i := range tasks {
		if tasks[i].Waiting == "" {
			tasks[i].Waiting = s.failed[Change{Group: tasks[i].Group}.key()].err
		}
	}
	s.tell(now, tasks)
	s.push(ctx, now, v, &facts)
	s.warnEven(v)
	return s.again.Sub(now)
}

// warnEven says once what an even number of replicas is worth without an
// arbitrator (A31, A34).
func (s *Master) warnEven(v *View) {
	even := slices.ContainsFunc(v.Groups, func(g Group) bool { return len(g.Data())%2 == 0 })
	if even && v.Arbitrator.EndPoint == "" && !s.warned {
		s.warned = true
		s.log.Warn("groups with an even number of replicas have no arbitrator: half of the hosts down stops them; set arbitrator in every host's configuration")
	}
}

// start runs one action in a goroutine of its own unless it is under way, has
// just failed, or too many are.
func (s *Master) start(ctx context.Context, now time.Time, key string, act func(context.Context) (func(), error)) {
	if s.running[key] || len(s.running) >= maxActions {
		return // its end, or another's, makes the loop look again
	}
	if at := s.retry[key]; now.Before(at) {
		if at.Before(s.again) {
			s.again = at
		}
		return
	}
	s.running[key] = true
	done := s.done
	s.wait.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, actionTimeout)
		defer cancel()
		after, err := act(ctx)
		// The network says itself whom it does not reach.
		done <- outcome{key: key, err: err, after: after, quiet: strings.HasPrefix(key, pushKey)}
	})
}

// act carries out one action. What it returns is run by the loop.
func (s *Master) act(ctx context.Context, a Action) (after func(), err error) {
	switch a := a.(type) {
	case Decide:
		result, err := propose(ctx, s.outside, Envelope{At: time.Now().UTC(), Command: a.Command})
		if err == nil {
			err = result.Error()
		}
		return func() { s.sayDecided(a.Command) }, err
	case Enroll:
		if !s.outside.Linked(a.Witness) {
			return nil, errors.New("the arbitrator is not connected")
		}
		if a.Retire {
			err = s.outside.Retire(ctx, a.Group, a.Replica, a.Witness)
		} else {
			err = s.outside.Enroll(ctx, a.Group, a.Replica, a.Witness)
		}
		if errors.Is(err, consensus.ErrRetired) {
			a.Retire, err = true, nil // the answer to another question
		}
		return func() { s.enrolled(a) }, err
	case Change:
		s.mu.Lock()
		s.mu.facts.Changing[a.Group] = time.Now()
		s.mu.Unlock()
		return nil, s.outside.ChangeMembers(ctx, a.Leader, a.Group, a.Change)
	case Transfer:
		return nil, s.outside.Transfer(ctx, a.Leader, a.Group, a.To)
	case Ask:
		u, err := s.outside.AskArbitrator(ctx, a.EndPoint)
		return func() { s.asked(a.EndPoint, u) }, err
	}
	panic(a) // every Action is above
}

// sayDecided logs what a master has decided without being asked.
func (s *Master) sayDecided(c Command) {
	switch c := c.(type) {
	case SetArbitrator:
		s.log.Info("arbitrator in force", "end_point", c.EndPoint, "uuid", c.UUID)
	case NoteFailover:
		s.explain(c.Failover)
	case DropDnode:
		s.log.Error("dnode removed: it was away for longer than offlineThreshold; its replicas are made again elsewhere", "host", c.Dnode)
	}
}

func (s *Master) enrolled(a Enroll) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Facts hands out the maps, so they are replaced, never changed.
	which := &s.mu.facts.Enrolled
	if a.Retire {
		which = &s.mu.facts.Retired
	}
	next := maps.Clone(*which)
	next[a.Enrolment] = true
	*which = next
	s.heardLocked()
}

// asked notes who has answered at an end point that is no arbitrator's yet.
func (s *Master) asked(endPoint string, u id.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.facts.Asked = map[string]Answered{endPoint: {UUID: u, At: time.Now()}} // nobody asks for two
	s.heardLocked()
}

// finish notes the end of an action; a lasting failure is logged once.
func (s *Master) finish(o outcome) {
	defer s.forgetOld()
	delete(s.running, o.key)
	if o.err == nil {
		s.retry[o.key] = time.Now().Add(repeatAfter)
		if s.failed[o.key].said {
			s.log.Info("cluster change goes on", "what", o.key)
		}
		delete(s.failed, o.key)
		if o.after != nil {
			o.after()
		}
		return
	}
	s.retry[o.key] = time.Now().Add(retryAfter)
	if errors.Is(o.err, context.Canceled) || o.quiet {
		return
	}
	was, now := s.failed[o.key], failure{err: o.err.Error(), said: true}
	switch {
	case was.err != now.err:
		now.said = false
	case !was.said:
		s.log.Warn("cluster change waits", "what", o.key, "err", o.err)
	}
	s.failed[o.key] = now
}

// forgetOld keeps the pacing of past actions from growing for ever.
func (s *Master) forgetOld() {
	if len(s.retry) < 4*maxActions {
		return
	}
	now := time.Now()
	maps.DeleteFunc(s.retry, func(_ string, at time.Time) bool { return now.After(at) })
	maps.DeleteFunc(s.failed, func(key string, _ failure) bool { _, recent := s.retry[key]; return !recent })
}

// push gives every other host the newest View; hosts that hold a replica of the
// metadata have it from the log as well.
func (s *Master) push(ctx context.Context, now time.Time, v *View, f *Facts) {
	for _, d := range v.Dnodes {
		if d.Dropped || d.UUID.IsZero() || d.UUID == s.cfg.Self || s.pushed[d.ID] >= v.Index {
			continue
		}
		if h, ok := f.Hosts[d.ID]; ok && !h.Hearsay && h.Report.Seen >= v.Index {
			s.pushed[d.ID] = v.Index
			continue
		}
		s.start(ctx, now, pushKey+d.EndPoint, func(ctx context.Context) (func(), error) {
			err := s.outside.Push(ctx, d.UUID, v)
			return func() { s.pushed[d.ID] = v.Index }, err
		})
	}
}

// arbitratorAnswers keeps Facts.Answers: from this host's own connection while
// there is one, by asking the end point otherwise. While no group is even and
// no second host is there, nobody is asked (A39).
func (s *Master) arbitratorAnswers(ctx context.Context, now time.Time, v *View) {
	arb := v.Arbitrator
	if arb.EndPoint == "" {
		return
	}
	if !arb.UUID.IsZero() && s.outside.Linked(arb.UUID) {
		s.noteAnswer(arb.EndPoint, arb.UUID, now)
		return
	}
	unknown := arb.UUID.IsZero() && len(v.Live()) > 1
	if !v.NeedsArbitrator() && !unknown {
		return
	}
	const key = "ask the arbitrator"
	s.start(ctx, now, key, func(ctx context.Context) (func(), error) {
		u, err := s.outside.AskArbitrator(ctx, arb.EndPoint)
		return func() {
			s.noteAnswer(arb.EndPoint, u, time.Now())
			s.retry[key] = time.Now().Add(s.cfg.Interval)
		}, err
	})
}

func (s *Master) noteAnswer(from string, u id.UUID, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.facts.Answers, s.mu.facts.AnswersAt, s.mu.facts.AnswersFrom = u, at, from
}

// Facts returns what this master knows, for Plan and for the SHOW statements.
// The maps in it are not changed any more.
func (s *Master) Facts() Facts {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.mu.facts
	f.Hosts, f.Knocks, f.Changing = maps.Clone(f.Hosts), maps.Clone(f.Knocks), maps.Clone(f.Changing)
	f.Linked = map[id.UUID]bool{}
	return f
}

// Tasks returns what is unfinished and what it waits for.
func (s *Master) Tasks() []Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.tasks
}

func (s *Master) heardLocked() {
	close(s.mu.heard)
	s.mu.heard = make(chan struct{})
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
