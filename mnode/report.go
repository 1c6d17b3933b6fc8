package mnode

import (
	"maps"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/alarm"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Report is what a host says of itself to the mnode master, every status
// interval and at once when something about its replicas changes. Reports are
// kept in the master's memory only.
type Report struct {
	Dnode    id.Host
	UUID     id.UUID
	EndPoint string
	Boot     uint64 // counts the starts of this host
	Version  string
	Cores    int
	Started  time.Time
	// Settings are the configuration keys that must be equal on all hosts (A38).
	Settings map[string]string
	// Done is the View that the host's replicas are equal to.
	Done id.Index
	// Seen is the newest View that the host has.
	Seen   id.Index
	Groups []GroupReport // by Group
	// Arbitrator is the directory at the other end of this host's connection
	// to the arbitrator, zero while there is none.
	Arbitrator id.UUID
	// History is what the host has seen of changes of master and is not in the
	// View that it has.
	History consensus.History `json:",omitzero"`
	// Clock is what this host's clock showed when it made the report.
	Clock time.Time
	// Found is what the host finds wrong with itself and no other can see.
	Found []alarm.Finding `json:",omitempty"`
}

// GroupReport is one replica as its host sees it.
type GroupReport struct {
	Group   id.Group
	Replica id.Replica
	Epoch   uint64
	Formed  bool
	Role    consensus.Role
	Leader  id.UUID // zero: none known
	Term    id.Term
	Last    id.Index
	Applied id.Index
	Mode    consensus.Mode
	Feed    string
	Tables  int64
	Fault   string // not empty: the replica is stopped, with the reason
	Members []consensus.MemberStatus
	// Refusal says why the arbitrator votes no more for the group, on its leader.
	Refusal peer.Refusal `json:",omitzero"`
	// Unanswered is how long the arbitrator has owed the leader an answer.
	Unanswered time.Duration `json:",omitzero"`
}

// Group returns the report's line about a group.
func (r *Report) Group(g id.Group) (GroupReport, bool) {
	for _, x := range r.Groups {
		if x.Group == g {
			return x, true
		}
	}
	return GroupReport{}, false
}

// voters returns the replicas that vote in the configuration that the replica
// has applied.
func (g GroupReport) voters() []id.Replica {
	var out []id.Replica
	for _, m := range g.Members {
		if !m.Learner {
			out = append(out, m.Replica)
		}
	}
	return out
}

func (g GroupReport) member(r id.Replica) (consensus.MemberStatus, bool) {
	for _, m := range g.Members {
		if m.Replica == r {
			return m, true
		}
	}
	return consensus.MemberStatus{}, false
}

// Heard is a report and when it came.
type Heard struct {
	Report Report
	At     time.Time
	// Hearsay came from the former master with its age: good enough to show,
	// not to act on.
	Hearsay bool
	// Reason says why the host does not count as ready although it reports.
	Reason string
}

// Facts is what a master knows that is not replicated.
type Facts struct {
	NumOfMnodes int
	Interval    time.Duration // of status reports
	// OfflineThreshold is how long a dnode may be away before it is removed;
	// zero: for ever.
	OfflineThreshold time.Duration
	Began            time.Time // of this leadership
	Hosts            map[id.Host]Heard
	// Knocks are hosts with an empty directory at the end point of a dnode that
	// has another one, and when they last asked to be let in.
	Knocks map[id.Host]time.Time
	// Asked holds who answers at end points that are no arbitrator's yet.
	Asked map[string]Answered
	// Known is since when this master has known of a dnode's directory.
	Known map[id.UUID]time.Time
	// Changing is when this master last asked for a change of a group's members.
	Changing map[id.Group]time.Time
	// Linked holds former arbitrators, and directories of dnodes that are to be
	// restored, that are connected all the same.
	Linked map[id.UUID]bool
	// Answers is the directory that answers at the arbitrator's end point,
	// with the time of its last answer.
	Answers     id.UUID
	AnswersAt   time.Time
	AnswersFrom string // the end point: it says nothing about another
	// Enrolled and Retired hold what the arbitrator has confirmed to this
	// master. Another master asks again: asking twice is harmless.
	Enrolled map[Enrolment]bool
	Retired  map[Enrolment]bool
}

// notice keeps Known, and forgets what is about groups and dnodes that are no
// more. Maps are made anew, as the old ones may be looked at.
func (f *Facts) notice(now time.Time, v *View) {
	f.Enrolled, f.Retired = v.ofGroups(f.Enrolled), v.ofGroups(f.Retired)
	maps.DeleteFunc(f.Changing, func(n id.Group, _ time.Time) bool { return v.group(n) == nil })
	gone := func(n id.Host) bool { d, ok := v.Dnode(n); return !ok || d.Dropped }
	maps.DeleteFunc(f.Hosts, func(n id.Host, _ Heard) bool { return gone(n) })
	maps.DeleteFunc(f.Knocks, func(n id.Host, _ time.Time) bool { return gone(n) })
	known := make(map[id.UUID]time.Time, len(v.Dnodes))
	for _, d := range v.Live() {
		if at, ok := f.Known[d.UUID]; ok {
			known[d.UUID] = at
		} else if !d.UUID.IsZero() {
			known[d.UUID] = now
		}
	}
	f.Known = known
}

// ofGroups is what is about groups that exist.
func (v *View) ofGroups(known map[Enrolment]bool) map[Enrolment]bool {
	lost := func(e Enrolment, _ bool) bool { return v.group(e.Group) == nil }
	for e := range known {
		if lost(e, true) {
			known = maps.Clone(known)
			maps.DeleteFunc(known, lost)
			break
		}
	}
	return known
}

// silent is for how long this master has waited for a word of a dnode.
func (f *Facts) silent(now time.Time, d Dnode) time.Duration {
	last := now
	if at, ok := f.Known[d.UUID]; ok {
		last = at
	}
	if h, ok := f.Hosts[d.ID]; ok && !h.Hearsay && h.Report.UUID == d.UUID && h.At.After(last) {
		last = h.At
	}
	return now.Sub(last)
}

// Answered is a directory that has answered somewhere, and when.
type Answered struct {
	UUID id.UUID
	At   time.Time
}

// settingArbitrator is the key of Report.Settings that names the arbitrator.
const settingArbitrator = "arbitrator"

// configured returns the arbitrator that the configuration of every host names,
// if all of them say so and say the same.
func (f *Facts) configured(now time.Time, v *View) (endPoint string, agreed bool) {
	for _, d := range v.Live() {
		if d.UUID.IsZero() {
			continue
		}
		r, ok := f.Fresh(now, d.ID)
		if !ok || agreed && r.Settings[settingArbitrator] != endPoint {
			return "", false
		}
		endPoint, agreed = r.Settings[settingArbitrator], true
	}
	return endPoint, agreed
}

// Enrolment names a record that the arbitrator keeps, or must forget.
type Enrolment struct {
	Group   id.Group
	Replica id.Replica
	Witness id.UUID
}

// quietIntervals is how many status intervals a host may miss and still count
// as ready.
const quietIntervals = 3

// Fresh returns the report of a host that has told this master lately.
func (f *Facts) Fresh(now time.Time, n id.Host) (*Report, bool) {
	h, ok := f.Hosts[n]
	if !ok || h.Hearsay || now.Sub(h.At) > quietIntervals*f.Interval {
		return nil, false
	}
	return &h.Report, true
}

// stillAt returns the member that an end point is recorded for, if it has said
// lately that it is there.
func (f *Facts) stillAt(now time.Time, v *View, endPoint string) (Dnode, bool) {
	d, taken := v.DnodeAt(endPoint)
	if !taken {
		return Dnode{}, false
	}
	r, ok := f.Fresh(now, d.ID)
	return d, ok && r.UUID == d.UUID && r.EndPoint == endPoint
}

// usable reports whether a host may be given something new.
func (f *Facts) usable(now time.Time, d Dnode) bool {
	r, ok := f.Fresh(now, d.ID)
	return ok && !d.Dropped && !d.Dropping && r.UUID == d.UUID && f.Hosts[d.ID].Reason == ""
}

// leader returns the freshest claim to lead a group, with the host that makes it.
func (f *Facts) leader(now time.Time, v *View, g Group) (GroupReport, Dnode, bool) {
	var best GroupReport
	var host Dnode
	for _, m := range g.Members {
		r, ok := f.Fresh(now, m.Dnode)
		if m.Witness || !ok || r.UUID != m.UUID {
			continue
		}
		if line, has := r.Group(g.ID); has && line.Role == consensus.RoleMaster && line.Term > best.Term {
			best = line
			host, _ = v.Dnode(m.Dnode)
		}
	}
	return best, host, best.Term > 0
}
