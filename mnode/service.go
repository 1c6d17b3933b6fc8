package mnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Answer is what a host gets for its report.
type Answer struct {
	Master id.UUID
	View   []byte // EncodeView, if newer than what the host has
	Reason string // why the host does not count as ready, empty if it does
	Others []Told // what the other hosts have reported
	// AnswersAgo is how long ago the arbitrator answered the master; negative:
	// never.
	AnswersAgo time.Duration
	Remarks    []Remark // by dnode
	Tasks      []Task   // what is unfinished, the first maxToldTasks
}

// maxToldTasks bounds what an answer lists of what is unfinished: it goes to
// every host with every report.
const maxToldTasks = 100

// Told is a report passed on, with its age.
type Told struct {
	Report Report
	Reason string
	Ago    time.Duration
}

// leading refuses with NotLeaderError unless this host leads.
func (s *Master) leading() error {
	if _, leads := s.mnode.Leads(); leads {
		return nil
	}
	s.mnode.mu.Lock()
	defer s.mnode.mu.Unlock()
	return &consensus.NotLeaderError{Group: id.Mnode, Leader: s.mnode.mu.leader}
}

// Report takes a host's report. It is refused by a host that does not lead, and
// to a directory that is no member.
func (s *Master) Report(r Report) (Answer, error) {
	if err := s.leading(); err != nil {
		return Answer{}, err
	}
	now, v := time.Now(), s.mnode.View()
	d, ok := v.DnodeOf(r.UUID)
	if !ok || d.Dropped || d.ID != r.Dnode {
		return Answer{}, fail(CodeRefused, "dnode %d with directory %s is no member: it was %s", r.Dnode, r.UUID.Short(), v.fate(r))
	}
	h := Heard{Report: r, At: now, Reason: s.mismatch(v, r)}
	if s.hear(d, h) {
		s.log.Warn("a host's settings have changed their fit", "host", d.ID, "reason", h.Reason)
	}
	answer := Answer{Master: s.cfg.Self, Reason: h.Reason, AnswersAgo: -1, Remarks: s.Remarks(), Tasks: s.Tasks()}
	answer.Tasks = answer.Tasks[:min(len(answer.Tasks), maxToldTasks)]
	if r.Seen < v.Index {
		b, err := EncodeView(v)
		if err != nil {
			return Answer{}, err
		}
		answer.View = b
	}
	f := s.Facts()
	for n, other := range f.Hosts {
		if n != d.ID {
			answer.Others = append(answer.Others, Told{Report: other.Report, Reason: other.Reason, Ago: now.Sub(other.At)})
		}
	}
	slices.SortFunc(answer.Others, func(a, b Told) int { return cmp.Compare(a.Report.Dnode, b.Report.Dnode) })
	if !f.AnswersAt.IsZero() {
		answer.AnswersAgo = now.Sub(f.AnswersAt)
	}
	return answer, nil
}

// hear stores a report; the loop looks again only if it says something new. It
// returns whether the reason for not being ready is another than before.
func (s *Master) hear(d Dnode, h Heard) (refit bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, known := s.mu.facts.Hosts[d.ID]
	s.mu.facts.Hosts[d.ID] = h
	if !known || was.Hearsay || !sameGroups(was.Report, h.Report) || !h.Report.History.Empty() {
		s.heardLocked()
	}
	return was.Reason != h.Reason
}

// sameGroups reports whether two reports say the same but for positions.
func sameGroups(a, b Report) bool {
	if a.Done != b.Done || a.EndPoint != b.EndPoint || len(a.Groups) != len(b.Groups) {
		return false
	}
	for i, x := range a.Groups {
		y := b.Groups[i]
		if x.Group != y.Group || x.Role != y.Role || x.Leader != y.Leader || x.Formed != y.Formed ||
			x.Fault != y.Fault || !slices.Equal(x.Members, y.Members) {
			return false
		}
	}
	return true
}

// Misfit begins the reason why a host with another setting does not count as
// ready; the name of the key follows.
const Misfit = "cfg parameters inconsistent: "

// fate says what became of a reporting directory that is no member any more, and
// what to do with it.
func (v *View) fate(r Report) string {
	if d, ok := v.Dnode(r.Dnode); ok && !d.Dropped {
		return fmt.Sprintf("restored with another directory, this one is not needed any more: stop tnode here and empty its dataDir (dnode %d is at %s)", d.ID, d.EndPoint)
	}
	return fmt.Sprintf("dropped: empty its dataDir and type CREATE DNODE '%s' to let it in as another one", r.EndPoint)
}

// mismatch names the first setting of a host that differs from this one's
// (A38). An arbitrator may also be named that is in force, or that all hosts
// were configured with when the cluster last followed them: so it can be
// changed on one host after the other. No two hosts may say that they are at one
// end point.
func (s *Master) mismatch(v *View, r Report) string {
	var keys []string
	for k, want := range s.cfg.Settings {
		got, ok := r.Settings[k]
		if k == settingArbitrator && (got == v.Arbitrator.EndPoint || got == v.Arbitrator.Configured) {
			continue
		}
		if ok && got != want {
			keys = append(keys, k)
		}
	}
	if f := s.Facts(); len(keys) == 0 {
		if other, there := f.stillAt(time.Now(), v, r.EndPoint); there && other.ID != r.Dnode {
			return fmt.Sprintf("fqdn and serverPort make it %s, which is dnode %d", r.EndPoint, other.ID)
		}
		return ""
	}
	slices.Sort(keys)
	return "cfg parameters inconsistent: " + keys[0]
}

// Remember seeds the facts with what the last master told this host, so that a
// new master does not show everyone as offline for a second.
func (s *Master) Remember(told []Told, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range told {
		if was, ok := s.mu.facts.Hosts[t.Report.Dnode]; ok && !was.Hearsay && was.At.After(at) {
			continue
		}
		s.mu.facts.Hosts[t.Report.Dnode] = Heard{Report: t.Report, At: at.Add(-t.Ago), Hearsay: true, Reason: t.Reason}
	}
}

// Exec runs one statement on the master. CREATE DATABASE waits until the
// database can be used. An error that is no *Error may be a NotLeaderError or
// consensus.ErrLost (certainly not done) or consensus.ErrUnknownOutcome (repeat
// it with the same Request).
func (s *Master) Exec(ctx context.Context, request Request, c Command) (Result, error) {
	if err := s.leading(); err != nil {
		return Result{}, err
	}
	switch x := c.(type) {
	case CreateDatabase:
		return s.createDatabase(ctx, request, x)
	case DropDnode:
		if d, ok := s.mnode.View().Dnode(x.Dnode); ok && d.UUID == s.cfg.Self {
			return refuse(CodeMnodeMaster, "Cannot drop mnode which is leader: dnode %d", d.ID), nil
		}
	case RestoreDnode:
		if err := s.stillThere(x.Dnode); err != nil {
			return Result{Err: err}, nil
		}
	case SetArbitrator:
		return s.setArbitrator(ctx, request, x.EndPoint)
	case Found, AddMember, SetVoters, ForgetMember, FormGroup, RemoveGroup, RemoveDnode, KeepDnode, MarkOffline, NoteFailover, Recover:
		return refuse(CodeParameter, "Invalid parameters: %T is the master's own", c), nil
	}
	return propose(ctx, s.outside, Envelope{Request: request, At: time.Now().UTC(), Command: c})
}

// stillThere refuses to give a dnode's place away while its directory reports.
func (s *Master) stillThere(n id.Host) *Error {
	f, v := s.Facts(), s.mnode.View()
	d, _ := v.Dnode(n)
	there := d.UUID == s.cfg.Self || s.outside.Linked(d.UUID)
	if r, ok := f.Fresh(time.Now(), n); ok && there && r.UUID == d.UUID {
		return fail(CodeConflict, "dnode %d is there, with its directory: stop tnode at %s and empty its dataDir first", n, d.EndPoint)
	}
	return nil
}

// setArbitrator puts another arbitrator into force once it has answered; an
// empty end point: none.
func (s *Master) setArbitrator(ctx context.Context, request Request, endPoint string) (Result, error) {
	set := SetArbitrator{EndPoint: endPoint, Configured: s.mnode.View().Arbitrator.Configured}
	if endPoint != "" {
		if err := checkEndPoint(endPoint); err != nil {
			return refuseWith(err), nil
		}
		ctx, cancel := context.WithTimeout(ctx, actionTimeout)
		defer cancel()
		u, err := s.outside.AskArbitrator(ctx, endPoint)
		if err != nil {
			return refuse(CodeConflict, "no arbitrator answers at %s, the old one stays: is tarbitrator running there? (%v)", endPoint, err), nil
		}
		set.UUID = u
	}
	result, err := propose(ctx, s.outside, Envelope{Request: request, At: time.Now().UTC(), Command: set})
	if err == nil && result.Err == nil {
		s.sayDecided(set)
	}
	return result, err
}

// createDatabase answers when the database can be used.
func (s *Master) createDatabase(ctx context.Context, request Request, c CreateDatabase) (Result, error) {
	waiting, cancel := context.WithTimeout(ctx, createWait)
	defer cancel()
	if err := s.awaitDnodes(waiting, c); err != nil {
		return Result{}, err
	}
	c.Candidates = s.candidates()
	result, err := propose(ctx, s.outside, Envelope{Request: request, At: time.Now().UTC(), Command: c})
	if err != nil || result.Err != nil {
		return result, err
	}
	return result, s.settle(waiting, c.Name)
}

// candidates returns the hosts that may get replicas: those that answer first.
// Which of them gets how much is decided when the command is applied.
func (s *Master) candidates() []id.Host {
	now, v, f := time.Now(), s.mnode.View(), s.Facts()
	var ready, away []id.Host
	for _, d := range v.Live() {
		switch {
		case d.Dropping || d.UUID.IsZero():
		case f.usable(now, d):
			ready = append(ready, d.ID)
		default:
			away = append(away, d.ID)
		}
	}
	return append(ready, away...)
}

// awaitDnodes waits while a database needs a dnode that was created and has not
// come in yet: its host takes up to a second, and a script does not wait between
// CREATE DNODE and CREATE DATABASE. Whatever else is wrong with the command is
// said at once, by the command itself.
func (s *Master) awaitDnodes(ctx context.Context, c CreateDatabase) error {
	for {
		changed := s.mnode.Watch()
		if err := s.leading(); err != nil {
			return err
		}
		v := s.mnode.View()
		refused := c.apply(v.clone(), time.Time{})
		absent := v.absent()
		missing := c.Options.Replica - len(v.placeable(nil))
		if !errors.Is(refused.Error(), &Error{Code: CodeOutOfDnodes}) || len(absent) < missing {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fail(CodeOutOfDnodes, "more dnodes are needed: %d for REPLICA %d; not reported yet: %s; is tnode running there?",
					c.Options.Replica, c.Options.Replica, strings.Join(absent, ", "))
			}
			return fmt.Errorf("create database %s: %w", c.Name, ctx.Err())
		}
	}
}

// absent names the dnodes that were created and whose hosts have never come.
func (v *View) absent() []string {
	var names []string
	for _, d := range v.Live() {
		if d.UUID.IsZero() && !d.Dropping {
			names = append(names, fmt.Sprintf("dnode %d (%s)", d.ID, d.EndPoint))
		}
	}
	return names
}

// settle waits until every shard of a database has a master and its members
// answer. A master that leads no more hears nothing of that: the same request
// waits with the next one.
func (s *Master) settle(ctx context.Context, database string) error {
	for {
		s.mu.Lock()
		heard := s.mu.heard
		s.mu.Unlock()
		changed := s.mnode.Watch()
		if err := s.leading(); err != nil {
			return err
		}
		f, v := s.Facts(), s.mnode.View()
		if _, ok := v.Database(database); !ok || Settled(time.Now(), v, &f, database) {
			return nil // dropped again while it was being made: that is its end, too
		}
		select {
		case <-heard:
		case <-changed:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fail(CodeCreating, "Database in creating status: %s is creating, see SHOW DATABASES%s", database, s.obstacle(v, database))
			}
			return fmt.Errorf("create database %s: %w", database, ctx.Err())
		}
	}
}

// obstacle says what the creation of a database waits for, if it is known.
func (s *Master) obstacle(v *View, database string) string {
	for _, t := range s.Tasks() {
		if g, ok := v.Group(t.Group); ok && g.Database == database && t.Waiting != "" {
			return "; it waits: " + t.Waiting
		}
	}
	return ""
}

// Settled reports whether every shard of a database has a master and all its
// data members answer.
func Settled(now time.Time, v *View, f *Facts, database string) bool {
	for _, g := range v.Vgroups(database) {
		if g.State != Formed {
			return false
		}
		if _, _, led := f.leader(now, v, g); !led {
			return false
		}
		for _, m := range g.Data() {
			r, ok := f.Fresh(now, m.Dnode)
			if !ok {
				return false
			}
			if line, has := r.Group(g.ID); !has || !line.Formed || line.Leader.IsZero() {
				return false
			}
		}
	}
	return true
}

// Newest returns the View as of now: everything that any host was told before
// the call is in it.
func (s *Master) Newest(ctx context.Context) (*View, error) {
	if err := s.leading(); err != nil {
		return nil, err
	}
	if err := s.outside.Read(ctx, id.Mnode); err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	return s.mnode.View(), nil
}

// Join lets a host in whose end point was created: it binds the host's
// directory to the dnode. The same host may knock again, if it did not hear the
// answer: the token proves it.
func (s *Master) Join(ctx context.Context, endPoint string, u id.UUID, token Secret) (Dnode, *View, error) {
	if _, err := s.Newest(ctx); err != nil {
		return Dnode{}, nil, err
	}
	admit := AdmitDnode{EndPoint: endPoint, UUID: u, Proof: ProofOf(token)}
	// Tried on a copy first: a host that knocks twice a second must not fill
	// the log with refusals.
	v := s.mnode.View()
	d, taken := v.DnodeAt(endPoint)
	taken = taken && !d.UUID.IsZero() && d.UUID != u
	if result := admit.apply(v.clone(), time.Time{}); result.Err != nil {
		if taken {
			s.knocked(d.ID)
		}
		return Dnode{}, nil, result.Err
	}
	if taken {
		if err := s.stillThere(d.ID); err != nil {
			return Dnode{}, nil, err
		}
	}
	result, err := propose(ctx, s.outside, Envelope{At: time.Now().UTC(), Command: admit})
	if err == nil {
		err = result.Error()
	}
	if err != nil {
		return Dnode{}, nil, err
	}
	v = s.mnode.View()
	d, _ = v.DnodeOf(u)
	return d, v, nil
}
