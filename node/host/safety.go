package host

import (
	"fmt"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// missing counts the data replicas that a group of a database lacks, and how
// many of them are being made.
func missing(g mnode.Group, v *mnode.View) (lacks, joining int) {
	db, known := v.Database(g.Database)
	if !known {
		return 0, 0
	}
	lacks = db.Options.Replica
	for _, m := range g.Data() {
		switch {
		case m.Joining:
			joining++
		case !m.Leaving:
			lacks--
		}
	}
	return max(lacks, 0), joining
}

// Safety is how safe the data of a group is over all replicas that it is to have:
// Raft counts those that it has.
func (g GroupRow) Safety() consensus.Mode {
	switch {
	case g.Missing == 0:
		return g.Mode
	case g.Joining >= g.Missing:
		return min(g.Mode, consensus.ModeSyncRecover)
	}
	return min(g.Mode, consensus.ModeAsync)
}

// Mode is how safe the least safe group is now. Without any database it is that
// of the metadata.
func (o Overview) Mode() consensus.Mode {
	if len(o.Groups) == 0 {
		return o.Metadata.Mode
	}
	mode := consensus.ModeSync
	for _, g := range o.Groups {
		if g.Status == mnode.Formed.String() {
			mode = min(mode, g.Safety())
		}
	}
	return mode
}

// Loss is what would happen if one machine that is there now failed next.
type Loss struct {
	Dnode id.Host  // zero: the arbitrator
	Stops []string // what would have no master then; empty: service goes on
}

// Name is the machine's name, as alarms use it.
func (l Loss) Name() string {
	if l.Dnode == 0 {
		return "arbitrator"
	}
	return fmt.Sprintf("dnode %d", l.Dnode)
}

// Losses goes through all machines that are there: the data hosts in order, then
// the arbitrator.
func (o Overview) Losses() []Loss {
	var out []Loss
	for _, d := range o.Dnodes {
		if d.Status == "ready" {
			out = append(out, o.loss(d.ID))
		}
	}
	if o.votes() {
		out = append(out, o.loss(0))
	}
	return out
}

// votes reports whether an arbitrator is there, and answers.
func (o Overview) votes() bool {
	return o.Arbitrator != nil && o.Arbitrator.Status == "ready" && !o.mute()
}

func (o Overview) loss(lost id.Host) Loss {
	l := Loss{Dnode: lost}
	said := map[string]bool{}
	for _, g := range o.all() {
		if object := objectOf(g); g.led() && !o.survives(g, lost) && !said[object] {
			said[object] = true
			l.Stops = append(l.Stops, object)
		}
	}
	return l
}

// survives reports whether a group that is led now will have a master after the
// loss of one machine: a majority of its voters, and among them a replica that
// holds everything acknowledged. While the arbitrator is told of new entries a
// follower may lack some, so only the master certainly holds them.
func (o Overview) survives(g GroupRow, lost id.Host) bool {
	record, _ := o.View.Group(g.Group)
	voters, alive, whole := 0, 0, false
	w, has := record.Witness()
	has = has && !w.Joining
	if has {
		voters++
		if lost != 0 && o.votes() && g.Refusal == 0 {
			alive++
		}
	}
	learners := learners(record)
	for _, m := range g.Members {
		if learners[m.Dnode] {
			continue
		}
		voters++
		if m.Dnode == lost || m.Role == consensus.RoleOffline {
			continue
		}
		alive++
		whole = whole || m.Role == consensus.RoleMaster ||
			m.Role == consensus.RoleSlave && (g.Mode == consensus.ModeSync || !has)
	}
	return whole && alive > voters/2
}

// learners are the hosts whose replica of a group does not vote yet.
func learners(g mnode.Group) map[id.Host]bool {
	out := map[id.Host]bool{}
	for _, m := range g.Data() {
		out[m.Dnode] = m.Joining
	}
	return out
}
