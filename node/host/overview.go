package host

import (
	"fmt"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/alarm"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// Overview is the cluster as this host knows it now. It never waits: roles of
// groups with a replica here come from that replica, the rest from what the
// mnode master last told, with its age.
type Overview struct {
	View       *mnode.View
	Self       id.Host // this host, zero until it is a member
	Master     id.Host // mnode master, zero if none is known
	Dnodes     []DnodeRow
	Arbitrator *DnodeRow // nil if none is configured
	Mnodes     []MnodeRow
	Metadata   GroupRow   // the mnode's own group
	Groups     []GroupRow // those of databases, by group
	Tasks      []mnode.Task
	Alive      int // SHOW CLUSTER ALIVE: 0 no, 1 fully, 2 partly
}

// DnodeRow is one line of SHOW DNODES.
type DnodeRow struct {
	ID       id.Host
	EndPoint string
	Vnodes   int
	Cores    int
	Status   string // ready, offline, dropping
	Role     string // any, arb
	Created  time.Time
	Reason   string // why it is offline
	// RemovalBlocked says why a host that has been away for longer than
	// offlineThreshold is still a member; empty: it is not that long.
	RemovalBlocked string
	Version        string
	Copy           bool            // its directory is refused as an old copy
	Ahead          time.Duration   // of its clock before this host's, as far as a report tells; zero for this host
	Found          []alarm.Finding // what it finds wrong with itself
	Seen           time.Duration   // age of what is shown; negative: never heard of
}

// MnodeRow is one line of SHOW MNODES.
type MnodeRow struct {
	ID       id.Host
	EndPoint string
	Role     string // master, slave, unsynced, offline
	Created  time.Time
	Seen     time.Duration
}

// GroupRow is one line of SHOW VGROUPS.
type GroupRow struct {
	Group    id.Group
	Database string
	Status   string // creating, ready, dropping
	Tables   int64
	Onlines  int // members that are master or slave
	Members  []MemberRow
	Mode     consensus.Mode // over the replicas that vote; see Safety
	Missing  int            // data replicas that are wanted and do not vote
	Joining  int            // of those, being made
	Feed     string
	Refusal  peer.Refusal // why the arbitrator votes no more for it
	// Unanswered is how long the arbitrator has owed the master an answer.
	Unanswered time.Duration
	Waits      string // whom it waits for, while it has no master
	Seen       time.Duration
}

// MemberRow is one data replica of a group.
type MemberRow struct {
	Dnode id.Host
	Role  consensus.Role
	Fault string
	Copy  Copy
}

// Copy is how much of another replica's state has arrived, in bytes; zero while
// none is on its way. Bytes is about right.
type Copy struct{ Done, Bytes uint64 }

// known is what there is to know about one host.
type known struct {
	report mnode.Report
	has    bool
	ready  bool
	copy   bool
	ahead  time.Duration
	reason string
	remark mnode.Remark // the master's
	seen   time.Duration
}

// Overview collects what this host knows.
func (h *Host) Overview() Overview {
	now, v := time.Now(), h.View()
	o := Overview{View: v, Self: h.Dnode()}
	hosts := h.known(now, v)
	if s, ok := h.groups.Status(id.Mnode); ok && !s.Leader.IsZero() {
		d, _ := v.DnodeOf(s.Leader)
		o.Master = d.ID
	} else if t := h.told.Load(); !ok && t != nil && now.Sub(t.at) < 3*h.cfg.Interval {
		d, _ := v.DnodeOf(t.answer.Master)
		o.Master = d.ID
	}
	for _, d := range v.Live() {
		o.Dnodes = append(o.Dnodes, dnodeRow(d, hosts[d.ID]))
	}
	o.Arbitrator = h.arbitratorRow(now, v)
	for _, g := range v.Groups {
		row := h.groupRow(g, hosts)
		if g.ID != id.Mnode {
			if g.State != mnode.Dropping {
				o.Groups = append(o.Groups, row)
			}
			continue
		}
		o.Metadata = row
		for i, m := range shown(g) {
			d, _ := v.Dnode(m.Dnode)
			o.Mnodes = append(o.Mnodes, MnodeRow{ID: d.ID, EndPoint: d.EndPoint, Role: row.Members[i].Role.String(), Created: m.Created, Seen: row.Seen})
		}
	}
	o.Alive = alive(o)
	_, o.Tasks = h.remarks()
	return o
}

// known gathers the reports of all hosts: this one's own as of now, the others'
// from the master's memory, which is this host's or was passed on.
func (h *Host) known(now time.Time, v *mnode.View) map[id.Host]known {
	out := map[id.Host]known{}
	self := h.Dnode()
	reason := ""
	if t := h.told.Load(); t != nil {
		reason = t.answer.Reason
		for _, x := range t.answer.Others {
			out[x.Report.Dnode] = known{report: x.Report, has: true, reason: x.Reason, seen: now.Sub(t.at) + x.Ago}
		}
	}
	if m := h.meta.Load(); m != nil {
		if _, leads := m.mnode.Leads(); leads {
			for n, x := range m.master.Facts().Hosts {
				out[n] = known{report: x.Report, has: true, reason: x.Reason, seen: now.Sub(x.At)}
			}
		}
	}
	remarks, _ := h.remarks()
	links := h.linked()
	for _, d := range v.Live() {
		k := out[d.ID]
		k.remark = remarks[d.ID]
		// A report that is a little late is no news, unless the connection is
		// gone, too.
		k.ready = k.has && (k.seen <= h.cfg.Interval || links[d.UUID] && k.seen <= 3*h.cfg.Interval)
		if !k.ready && links[d.UUID] { // no master tells, but the host is there
			k.ready = k.has || h.noMaster(now)
		}
		gone := ""
		if k.has && (!links[d.UUID] || !h.noMaster(now)) { // else no report could refute it
			gone = h.vanished(d.UUID, now.Add(-k.seen))
			k.ready = k.ready && gone == ""
		}
		switch {
		case h.isCopy(d.UUID):
			k.ready, k.copy, k.reason = false, true, fmt.Sprintf("old copy: RESTORE DNODE %d", d.ID)
		case k.reason != "":
			k.ready = false
		case !k.ready && k.remark.Reason != "": // it names the next step
			k.reason = k.remark.Reason
		case gone != "":
			k.reason = gone
		case !k.ready && !k.has:
			k.reason = "status not received"
		case !k.ready:
			k.reason = "status msg timeout"
		}
		if clock := k.report.Clock; k.ready && !clock.IsZero() {
			k.ahead = clock.Add(k.seen).Sub(now)
		}
		if d.ID == self {
			k = known{report: h.Report(), has: true, ready: reason == "", reason: reason}
		}
		out[d.ID] = k
	}
	return out
}

// remarks returns what the mnode master has to add, and what it has not finished:
// this host's own, or what it was told.
func (h *Host) remarks() (map[id.Host]mnode.Remark, []mnode.Task) {
	var list []mnode.Remark
	var tasks []mnode.Task
	m := h.meta.Load()
	leads := false
	if m != nil {
		_, leads = m.mnode.Leads()
	}
	if leads {
		list, tasks = m.master.Remarks(), m.master.Tasks()
	} else if t := h.told.Load(); t != nil && !h.noMaster(time.Now()) {
		list, tasks = t.answer.Remarks, t.answer.Tasks
	}
	out := map[id.Host]mnode.Remark{}
	for _, r := range list {
		out[r.Dnode] = r
	}
	return out, tasks
}

// isCopy reports whether this host refuses a directory as an old copy.
func (h *Host) isCopy(u id.UUID) bool { return h.cfg.Copy != nil && h.cfg.Copy(u) != nil }

// noMaster reports whether nobody has answered this host's reports lately.
func (h *Host) noMaster(now time.Time) bool {
	t := h.told.Load()
	return t == nil || now.Sub(t.at) > 3*h.cfg.Interval
}

func dnodeRow(d mnode.Dnode, k known) DnodeRow {
	row := DnodeRow{
		ID: d.ID, EndPoint: d.EndPoint, Cores: k.report.Cores, Status: "offline", Role: "any",
		Created: d.Created, Reason: k.reason, Version: k.report.Version, Copy: k.copy, Ahead: k.ahead, Seen: k.seen,
	}
	for _, g := range k.report.Groups {
		if g.Group != id.Mnode {
			row.Vnodes++
		}
	}
	row.RemovalBlocked = k.remark.RemovalBlocked
	if !k.has {
		row.Seen = -1
	}
	switch {
	case d.Dropping:
		row.Status = "dropping"
	case k.ready:
		row.Status, row.Reason = "ready", ""
	}
	if k.ready {
		row.Found = k.report.Found
	}
	return row
}

// arbitratorRow shows the arbitrator. One that nobody needs is not connected to
// (A39), and says so instead of looking lost.
func (h *Host) arbitratorRow(now time.Time, v *mnode.View) *DnodeRow {
	arb := v.Arbitrator
	if arb.EndPoint == "" {
		return nil
	}
	row := &DnodeRow{EndPoint: arb.EndPoint, Status: "offline", Role: "arb", Created: arb.Since, Reason: "-", Seen: -1}
	if t := h.told.Load(); t != nil && t.answer.AnswersAgo >= 0 {
		row.Seen = now.Sub(t.at) + t.answer.AnswersAgo
	}
	if m := h.meta.Load(); m != nil {
		if _, leads := m.mnode.Leads(); leads {
			if at := m.master.Facts().AnswersAt; !at.IsZero() {
				row.Seen = now.Sub(at)
			}
		}
	}
	if !arb.UUID.IsZero() && h.linked()[arb.UUID] {
		row.Seen = 0
	}
	switch {
	case h.isCopy(arb.UUID):
		row.Copy, row.Reason = true, "old copy: stop it, empty its directory, start it"
	case row.Seen >= 0 && row.Seen <= 3*h.cfg.Interval:
		row.Status = "ready"
	case !v.NeedsArbitrator():
		row.Reason = "not asked: no group has an even number of replicas"
	}
	return row
}

// shown returns the data members of a group, one for each dnode: while a lost
// replica is being replaced, the new one.
func shown(g mnode.Group) []mnode.Member {
	data := g.Data()
	var out []mnode.Member
	for i, m := range data {
		if !slices.ContainsFunc(data[i+1:], func(x mnode.Member) bool { return x.Dnode == m.Dnode }) {
			out = append(out, m)
		}
	}
	return out
}

// groupRow shows a group. What this host's own replica sees comes first: a
// change of master shows at once.
func (h *Host) groupRow(g mnode.Group, hosts map[id.Host]known) GroupRow {
	row := GroupRow{Group: g.ID, Database: g.Database, Status: g.State.String(), Seen: -1}
	own, here := h.groups.Status(g.ID)
	leader := own.Leader
	for _, m := range shown(g) {
		k := hosts[m.Dnode]
		line, has := k.report.Group(g.ID)
		has = has && line.Replica == m.Replica
		member := MemberRow{Dnode: m.Dnode, Fault: line.Fault, Copy: copyOf(m.Replica, own.Members)}
		for _, x := range hosts {
			if other, has := x.report.Group(g.ID); has && x.ready && member.Copy.Bytes == 0 {
				member.Copy = copyOf(m.Replica, other.Members)
			}
		}
		switch {
		case !k.ready, !has, line.Fault != "", !line.Formed:
		case here && m.UUID == h.Self():
			member.Role = own.Role
		case here && !leader.IsZero():
			member.Role = seenRole(own, m, line)
		default:
			member.Role = line.Role
		}
		if member.Role == consensus.RoleMaster || member.Role == consensus.RoleSlave {
			row.Onlines++
		}
		if has {
			row.Tables = max(row.Tables, line.Tables)
			if row.Seen < 0 || k.seen < row.Seen {
				row.Seen = k.seen
			}
		}
		if member.Role == consensus.RoleMaster {
			row.Mode, row.Feed, row.Refusal, row.Unanswered = line.Mode, line.Feed, line.Refusal, line.Unanswered
		}
		row.Members = append(row.Members, member)
	}
	if here && own.Role == consensus.RoleMaster {
		row.Mode, row.Feed, row.Refusal, row.Unanswered = own.Mode, own.Feed, own.Refusal, own.Unanswered
	}
	row.Missing, row.Joining = missing(g, h.View())
	if leader.IsZero() && !row.led() {
		row.Waits = h.waitsFor(g)
	}
	return row
}

// copyOf finds the copy on its way to a replica among what one host knows of a
// group's members: who receives it knows, and who sends it.
func copyOf(r id.Replica, members []consensus.MemberStatus) Copy {
	for _, m := range members {
		if m.Replica == r {
			return Copy{m.CopyDone, m.CopyBytes}
		}
	}
	return Copy{}
}

// seenRole is another member's role as this host's replica sees it, which is
// newer than the report when the leader has just changed.
func seenRole(own consensus.Status, m mnode.Member, line mnode.GroupReport) consensus.Role {
	if m.UUID == own.Leader {
		return consensus.RoleMaster
	}
	i := slices.IndexFunc(own.Members, func(x consensus.MemberStatus) bool { return x.Replica == m.Replica })
	if i >= 0 && own.Role == consensus.RoleMaster {
		return own.Members[i].Role
	}
	if line.Role == consensus.RoleMaster {
		return consensus.RoleUnsynced // it was, until a moment ago
	}
	return line.Role
}

// alive is what SHOW CLUSTER ALIVE answers.
func alive(o Overview) int {
	masters, full := 0, true
	for _, g := range o.Groups {
		led := slices.ContainsFunc(g.Members, func(m MemberRow) bool { return m.Role == consensus.RoleMaster })
		if led {
			masters++
		}
		if !led || g.Onlines < len(g.Members) {
			full = false
		}
	}
	for _, d := range o.Dnodes {
		if d.Status == "offline" {
			full = false
		}
	}
	switch {
	case o.Master == 0 && masters == 0, len(o.Groups) > 0 && masters == 0:
		return 0
	case full && o.Master != 0:
		return 1
	}
	return 2
}
