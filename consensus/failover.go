package consensus

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Two hosts see a change of leader. The new leader knows when it last heard
// of the old one, how it learned that it had to act, and how long that took; of
// a leader that just went silent it can't know why. The old one, if it lives,
// knows better: whether it stood still, its disk hung, or it was well and could
// not be heard. Both say what they saw; the mnode puts it together.

// Cause says why a group has another leader.
type Cause uint8

// The causes. Their numbers are in the metadata: never reused.
const (
	CauseUnknown  Cause = 0
	CauseSilent   Cause = 1  // nothing came from it any more; it has not said why
	CauseKilled   Cause = 2  // its process ended without a word
	CauseStopped  Cause = 3  // it was told to stop, and said goodbye
	CauseFrozen   Cause = 4  // its process stood still
	CauseCut      Cause = 5  // it was well, and did not reach the others
	CauseDiskHung Cause = 6  // its disk hung (R43)
	CauseDiskFull Cause = 7  // its disk was full
	CauseMoved    Cause = 8  // back to the host that leads the mnode (R44)
	CauseAsked    Cause = 9  // somebody asked for it
	CauseMembers  Cause = 10 // it was to leave the group (R21)
	CauseStart    Cause = 11 // the new leader has just started and knew of none
	CauseNoQuorum Cause = 12 // it led before, too: nobody answered it for a while
	causes              = 13
)

func (c Cause) String() string {
	if c >= causes {
		return "unknown"
	}
	return [causes]string{
		"unknown", "silent", "killed", "stopped", "frozen", "cut off", "disk hung", "disk full", "moved back", "asked for",
		"members changed", "start", "no quorum",
	}[c]
}

// Leadership is one term of one group: at most one host leads it (I1), so it
// names a change of leader.
type Leadership struct {
	Group id.Group
	Term  id.Term
}

// Failover is a change of leader as the new leader sees it. Groups that leave
// the same host within a second are one change.
type Failover struct {
	Leadership              // of the first group; names the change
	Groups     int          // how many
	Ended      []Leadership // the leaderships that ended, the first maxEnded of them
	From       id.UUID      // who led before, zero if this host knew of nobody
	At         time.Time    // when the first group had its new leader, by this host's clock
	Heard      time.Time    // last word of the old leader, by the same clock
	Cause      Cause
	Mode       Mode // then
	// Detection is from the last word of the old leader to the first campaign,
	// Vote from there until all the groups had their leader. FirstWrite is from
	// the last word of the old leader to the first committed write of a client,
	// zero while there was none.
	Detection, Vote, FirstWrite time.Duration
}

// Deposition is a change of leader as the one that led before sees it.
type Deposition struct {
	Ended []Leadership
	Cause Cause
	// Stood is how long this host's process had stood still, or its disk had
	// hung, when it lost the groups. Zero for the other causes.
	Stood time.Duration
}

const (
	// gatherFor is how long groups that change together are gathered: longer
	// than their elections differ, shorter than an operator waits for news.
	gatherFor = time.Second
	// awaitWrite is how long the first write is waited for.
	awaitWrite = 30 * time.Second
	// maxEnded bounds what a change lists. Both sides list the lowest
	// groups of those that they saw, so that they meet.
	maxEnded = 16
)

// The effects of this file.
type (
	// FailedOver says what this host knows of a change that made it leader. The
	// same change may come again, with more: its Leadership tells.
	FailedOver struct {
		Failover
		// At and Heard by the machine's clock; the shell knows the hour.
		ElectedAt, HeardAt time.Duration
	}

	// Deposed says what this host knows of a change that ended its leadership.
	Deposed struct{ Deposition }
)

func (FailedOver) effect() {}
func (Deposed) effect()    {}

// past is what a replica remembers of the leadership before.
type past struct {
	leader     id.UUID // zero: none since this host has started
	term       id.Term
	cause      Cause
	heardAt    time.Duration // the leader's last word
	campaignAt time.Duration // first campaign since; zero: none yet
	told       Cause         // by a leader that hands over in term toldTerm
	toldTerm   id.Term
}

// giving is why a leader hands its group over.
type giving struct {
	why Cause
	at  time.Duration
}

// change is a Failover that is being gathered.
type change struct {
	Failover
	heardAt, campaignAt, electedAt time.Duration
	data                           bool // a group of a database is among them
	said                           bool // as an effect, with what was known
	news                           bool // something since
}

// seen is what a machine remembers to tell why leaders changed.
type seen struct {
	changes   []*change // young, or without a write yet
	lost      *Deposition
	lostAt    time.Duration
	tickedAt  time.Duration
	stood     time.Duration // the last time that this process stood still
	stoodTill time.Duration
}

// ---- what a follower sees ----

// succeed notes the end of a leadership and the beginning of campaigns, before
// the replica's own state follows.
func (m *Machine) succeed(g *group, lead id.Replica, role raft.StateType) {
	if g.leader != 0 && lead != g.leader {
		u := g.members[g.leader].UUID
		p := past{leader: u, term: g.term, heardAt: m.peer(u).heardAt, cause: m.blame(g, u)}
		if u == m.self {
			p.heardAt = m.now
		}
		g.past = p
	}
	if role != raft.StateFollower && g.past.campaignAt == 0 {
		g.past.campaignAt = m.now
	}
}

// blame says why the leader u of g is given up, from what is known now.
func (m *Machine) blame(g *group, u id.UUID) Cause {
	l := m.peer(u)
	switch {
	case u == m.self:
		if cause, _ := m.confess(g); cause == CauseFrozen {
			return CauseFrozen
		}
		return CauseNoQuorum
	case g.past.told != CauseUnknown && g.past.toldTerm == g.term:
		return g.past.told
	case l.refused && l.goodbye:
		return CauseStopped
	case l.refused:
		return CauseKilled
	case l.hung:
		return CauseDiskHung
	}
	return CauseSilent
}

// handedOver notes what a leader says with the message that hands over.
func (g *group) handedOver(r *raftpb.Message) {
	g.past.told, g.past.toldTerm = CauseAsked, id.Term(r.GetTerm())
	if c := r.GetContext(); len(c) == 1 && Cause(c[0]) < causes {
		g.past.told = Cause(c[0])
	}
}

// proven names the cause of young changes that looked like silence only.
func (m *Machine) proven(u id.UUID, cause Cause) {
	for _, c := range m.seen.changes {
		if c.From == u && c.Cause == CauseSilent {
			c.Cause, c.news = cause, true
		}
	}
}

// ---- what a new leader sees ----

// succeeded adds the group, which this host leads now, to a change. The first
// leader of a new group succeeds nobody.
func (m *Machine) succeeded(g *group) {
	p := g.past
	if p.leader.IsZero() {
		if g.log.last.Index <= 1 {
			return
		}
		p.cause = CauseStart
	}
	if p.campaignAt == 0 {
		p.campaignAt = m.now
	}
	c := m.gathering(p.leader)
	if c == nil {
		c = &change{
			Failover:  Failover{Leadership: Leadership{g.id, g.term}, From: p.leader, Cause: p.cause},
			heardAt:   p.heardAt,
			electedAt: m.now, campaignAt: p.campaignAt,
		}
		m.seen.changes = append(m.seen.changes, c)
	}
	if c.Cause == CauseSilent {
		c.Cause = p.cause
	}
	c.Groups++
	c.Ended = with(c.Ended, Leadership{g.id, p.term})
	c.campaignAt = min(c.campaignAt, p.campaignAt)
	c.Detection, c.Vote = max(c.campaignAt-c.heardAt, 0), m.now-c.campaignAt
	c.data = c.data || g.id != id.Mnode
	c.news = true
	g.change = c
}

// gathering is the young change from this host.
func (m *Machine) gathering(from id.UUID) *change {
	for _, c := range m.seen.changes {
		if c.From == from && m.now-c.electedAt < gatherFor {
			return c
		}
	}
	return nil
}

// with adds l to a list of the maxEnded lowest groups.
func with(list []Leadership, l Leadership) []Leadership {
	at, _ := slices.BinarySearchFunc(list, l, func(a, b Leadership) int { return int(a.Group) - int(b.Group) })
	list = slices.Insert(list, at, l)
	return list[:min(len(list), maxEnded)]
}

// wrote notes a write that g, which has changed its leader, has committed.
func (m *Machine) wrote(g *group) {
	if c := g.change; c.FirstWrite == 0 && g.id != id.Mnode {
		c.FirstWrite, c.Mode, c.news = max(m.now-c.heardAt, 1), m.mode(g), true
	}
	if g.change.FirstWrite > 0 {
		g.change = nil
	}
}

// ---- what the old leader sees ----

// saying puts into the message that hands g over why it does.
func (g *group) saying(msg *raftpb.Message) *raftpb.Message {
	return &raftpb.Message{
		Type: msg.Type, To: msg.To, From: msg.From, Term: msg.Term, Context: []byte{byte(g.giving.why)},
	}
}

// lost adds the group, which this host leads no more, to what it has to tell.
func (m *Machine) lost(g *group) {
	w := &m.seen
	if w.lost == nil {
		w.lost, w.lostAt = &Deposition{}, m.now
		w.lost.Cause, w.lost.Stood = m.confess(g)
	}
	w.lost.Ended = with(w.lost.Ended, Leadership{g.id, g.past.term})
}

// confess says why this host loses a group that it led.
func (m *Machine) confess(g *group) (why Cause, stood time.Duration) {
	election := m.conf.Tick * time.Duration(m.conf.ElectionTick)
	if g.giving.why != CauseUnknown && m.now-g.giving.at <= 2*election {
		return g.giving.why, 0
	}
	if m.disk.hung {
		return CauseDiskHung, m.now - m.disk.writes[0].since
	}
	// Others elect after an election timeout of silence, of which the last beat
	// and the way take a part.
	w := &m.seen
	enough := election * 4 / 5
	if still := m.now - w.tickedAt; still >= enough { // just thawed, and no tick yet
		return CauseFrozen, still
	}
	if w.stood >= enough && m.now-w.stoodTill <= 2*election {
		return CauseFrozen, w.stood
	}
	return CauseCut, 0
}

// ---- both ----

// watchChanges measures how regular the ticks are, and says what has been
// gathered.
func (m *Machine) watchChanges() {
	w := &m.seen
	if gap := m.now - w.tickedAt; gap > 2*m.conf.Tick && w.tickedAt > 0 {
		w.stood, w.stoodTill = gap, m.now
	}
	w.tickedAt = m.now
	if w.lost != nil && m.now-w.lostAt >= gatherFor {
		m.out.reports = append(m.out.reports, Deposed{*w.lost})
		w.lost = nil
	}
	w.changes = slices.DeleteFunc(w.changes, func(c *change) bool {
		age := m.now - c.electedAt
		if age < gatherFor {
			return false
		}
		if c.FirstWrite == 0 {
			m.lookAtMode(c)
		}
		if c.news {
			said := c.Failover
			said.Ended = slices.Clone(c.Ended)
			m.out.reports = append(m.out.reports, FailedOver{Failover: said, ElectedAt: c.electedAt, HeardAt: c.heardAt})
			c.said, c.news = true, false
		}
		over := c.FirstWrite > 0 || !c.data || age >= awaitWrite
		if over {
			m.sayChange(c)
		}
		return over
	})
}

// lookAtMode takes the worst mode of the groups of a change.
func (m *Machine) lookAtMode(c *change) {
	worst := ModeUnknown
	for _, g := range m.sorted() {
		if g.change == c && g.leading() {
			if mode := m.mode(g); worst == ModeUnknown || mode < worst {
				worst = mode
			}
		}
	}
	if worst != ModeUnknown && !c.said {
		c.Mode = worst
	}
}

// sayChange is the one line for an operator.
func (m *Machine) sayChange(c *change) {
	from, write := c.From.Short(), "none"
	if c.From.IsZero() {
		from = "nobody known"
	}
	if c.FirstWrite > 0 {
		write = c.FirstWrite.Round(time.Millisecond).String()
	}
	m.out.report(0, false, "master changed", "groups", c.Groups, "from", from, "cause", c.Cause.String(),
		"detection", c.Detection.Round(time.Millisecond), "vote", c.Vote.Round(time.Millisecond),
		"first_write", write, "mode", c.Mode.String())
}
