package mnode

import (
	"fmt"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Failover is one change of master: of all groups that left one host for another
// within a second. It is put together from what both hosts have seen; the word
// of the former master comes when it is back.
type Failover struct {
	Name   consensus.Leadership // the new leadership of the first group: no other change has it
	Groups int
	Ended  []consensus.Leadership // what the former master led, the lowest groups only
	From   id.Host                // zero: nobody whom the new master knew of
	To     id.Host
	At     time.Time // when the first group had its new master, by that one's clock
	Heard  time.Time // last word of the former master, by the same clock
	Cause  consensus.Cause
	Mode   consensus.Mode // then
	// As in consensus.Failover and consensus.Deposition.
	Detection, Vote, FirstWrite, Stood time.Duration
	// Boot is the start of the former master's process, zero if it is not known.
	Boot uint64
	// Told: the former master has said what it saw.
	Told bool
}

// keptFailovers bounds the list: years of a healthy cluster, and a bad night.
const keptFailovers = 100

// NoteFailover records a change of master, or what has become known of it since.
type NoteFailover struct{ Failover Failover }

func (NoteFailover) kind() kind { return kindNoteFailover }

func (c NoteFailover) apply(v *View, _ time.Time) Result {
	if err := c.Failover.check(); err != nil {
		return refuseWith(err)
	}
	if i := failoverNamed(v.Failovers, c.Failover.Name); i >= 0 {
		v.Failovers[i] = c.Failover
		return Result{}
	}
	v.Failovers = append(v.Failovers, c.Failover)
	if over := len(v.Failovers) - keptFailovers; over > 0 {
		v.Failovers = slices.Delete(v.Failovers, 0, over)
	}
	return Result{}
}

// maxEnded bounds what one Failover lists; a new master lists less.
const maxEnded = 64

func (f Failover) check() error {
	if f.Name.Group == 0 || f.Name.Term == 0 || f.To == 0 || len(f.Ended) > maxEnded {
		return fmt.Errorf("change of master %d of group %d to dnode %d with %d ends: not one", f.Name.Term, f.Name.Group, f.To, len(f.Ended))
	}
	return nil
}

func failoverNamed(list []Failover, name consensus.Leadership) int {
	return slices.IndexFunc(list, func(f Failover) bool { return f.Name == name })
}

// heard returns f with the new master's word for it. What the former one has
// said of the cause, or has shown by starting anew, stays.
func (f Failover) heard(c consensus.Failover) Failover {
	f.Groups, f.Ended, f.Mode = c.Groups, c.Ended, c.Mode
	f.Detection, f.Vote, f.FirstWrite = c.Detection, c.Vote, c.FirstWrite
	if !f.Told && c.Cause != consensus.CauseSilent || f.Cause == consensus.CauseUnknown {
		f.Cause = c.Cause
	}
	return f
}

// told returns f with the former master's word for it. It knows why it fell
// silent, and that it did not die; what it had said before, its successor knows.
func (f Failover) told(d consensus.Deposition) Failover {
	f.Told = true
	if f.From == f.To {
		return f
	}
	f.Stood = d.Stood
	switch f.Cause {
	case consensus.CauseSilent, consensus.CauseKilled, consensus.CauseUnknown:
		f.Cause = d.Cause
	}
	return f
}

// ends reports whether a host tells of this change.
func (f Failover) ends(from id.Host, d consensus.Deposition) bool {
	return f.From == from && slices.ContainsFunc(d.Ended, func(l consensus.Leadership) bool { return slices.Contains(f.Ended, l) })
}

func (f Failover) same(o Failover) bool {
	ended := slices.Equal(f.Ended, o.Ended)
	return ended && f.At.Equal(o.At) && f.Heard.Equal(o.Heard) && f.Name == o.Name && f.Groups == o.Groups && f.From == o.From && f.To == o.To && f.Cause == o.Cause &&
		f.Mode == o.Mode && f.Detection == o.Detection && f.Vote == o.Vote && f.FirstWrite == o.FirstWrite && f.Stood == o.Stood &&
		f.Boot == o.Boot && f.Told == o.Told
}

// Times returns when the former master was last well, as far as the new one
// could tell, and how long after that the campaign and the first write were. A
// host whose disk hangs is heard all the time: there the disk's last word counts.
func (f Failover) Times() (well time.Time, detection, firstWrite time.Duration) {
	well, detection, firstWrite = f.Heard, f.Detection, f.FirstWrite
	if f.Cause == consensus.CauseDiskHung && !well.IsZero() {
		well, detection = well.Add(-f.Stood), detection+f.Stood
		if firstWrite > 0 {
			firstWrite += f.Stood
		}
	}
	if f.From == 0 {
		well = time.Time{}
	}
	return well, detection, firstWrite
}

// Info says of a change what the cause alone does not.
func (f Failover) Info() string {
	switch f.Cause {
	case consensus.CauseSilent:
		return fmt.Sprintf("nothing came from dnode %d any more; it has not said why yet", f.From)
	case consensus.CauseKilled:
		return fmt.Sprintf("the process of dnode %d ended without a word", f.From)
	case consensus.CauseStopped:
		return fmt.Sprintf("dnode %d was told to stop", f.From)
	case consensus.CauseFrozen:
		if f.From == f.To {
			return fmt.Sprintf("dnode %d stood still, and leads again", f.From)
		}
		return fmt.Sprintf("dnode %d stood still for %.1f s", f.From, f.Stood.Seconds())
	case consensus.CauseCut:
		return fmt.Sprintf("dnode %d was well and did not reach the others", f.From)
	case consensus.CauseDiskHung:
		if f.Stood == 0 {
			return fmt.Sprintf("the disk of dnode %d hung", f.From)
		}
		return fmt.Sprintf("the disk of dnode %d had hung for %.1f s", f.From, f.Stood.Seconds())
	case consensus.CauseDiskFull:
		return fmt.Sprintf("the disk of dnode %d was full", f.From)
	case consensus.CauseMoved:
		return "back to the host that leads the mnode"
	case consensus.CauseAsked:
		return "it was asked for"
	case consensus.CauseMembers:
		return fmt.Sprintf("dnode %d leaves the groups", f.From)
	case consensus.CauseStart:
		return fmt.Sprintf("dnode %d had just started and found no master", f.To)
	case consensus.CauseNoQuorum:
		return fmt.Sprintf("nobody answered dnode %d for a while; it leads again", f.From)
	}
	return ""
}

// News returns the part of a host's history that is not in v yet.
func (v *View) News(host id.Host, h consensus.History) consensus.History {
	var news consensus.History
	for _, f := range h.Failovers {
		if i := failoverNamed(v.Failovers, f.Leadership); i < 0 || !v.Failovers[i].same(v.Failovers[i].heard(f)) {
			news.Failovers = append(news.Failovers, f)
		}
	}
	for _, d := range h.Depositions {
		if !slices.ContainsFunc(v.Failovers, func(f Failover) bool { return f.Told && f.ends(host, d) }) {
			news.Depositions = append(news.Depositions, d)
		}
	}
	return news
}

// explain tells an operator what has become known of a change of master.
func (s *Master) explain(f Failover) {
	_, detection, write := f.Times()
	s.log.Info("change of master explained", "from", f.From, "to", f.To, "cause", f.Cause.String(), "info", f.Info(), "groups", f.Groups,
		"detection", detection.Round(time.Millisecond), "vote", f.Vote.Round(time.Millisecond), "first_write", write.Round(time.Millisecond), "mode", f.Mode.String())
}

// failovers notes what hosts have seen of changes of master.
func (p *planner) failovers() {
	list := slices.Clone(p.v.Failovers)
	for _, d := range p.v.Dnodes {
		r, ok := p.f.Fresh(p.now, d.ID)
		if !ok {
			continue
		}
		for _, f := range r.History.Failovers {
			list = p.hear(list, d, f)
		}
	}
	for i, f := range list {
		r, ok := p.f.Fresh(p.now, f.From)
		if !ok {
			continue
		}
		for _, d := range r.History.Depositions {
			if !f.Told && f.ends(f.From, d) {
				list[i] = f.told(d)
			}
		}
		if list[i].Cause == consensus.CauseSilent && f.Boot > 0 && r.Boot > f.Boot {
			list[i].Cause = consensus.CauseKilled // it has started anew since
		}
	}
	for _, f := range list {
		if i := failoverNamed(p.v.Failovers, f.Name); i < 0 || !p.v.Failovers[i].same(f) {
			p.do(Decide{NoteFailover{f}})
		}
	}
}

// hear adds what a new master has seen to the list.
func (p *planner) hear(list []Failover, to Dnode, c consensus.Failover) []Failover {
	if i := failoverNamed(list, c.Leadership); i >= 0 {
		list[i] = list[i].heard(c)
		return list
	}
	if len(list) >= keptFailovers && c.At.Before(list[0].At) {
		return list // it has been in the list, and has left it
	}
	from, _ := p.v.DnodeOf(c.From)
	f := Failover{Name: c.Leadership, From: from.ID, To: to.ID, At: c.At, Heard: c.Heard}
	if h, ok := p.f.Hosts[from.ID]; ok {
		f.Boot = h.Report.Boot
	}
	return append(list, f.heard(c))
}
