package host

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/alarm"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// clocksApart is how far the clocks of two hosts may differ. Order and
// elections need none (hybrid time); rows that are stored with NOW do.
const clocksApart = 5 * time.Second

// Findings says what is wrong with the cluster as this host knows it (R36), and
// what to do about each. It is a pure function of the Overview.
func (o Overview) Findings() []alarm.Finding {
	var out []alarm.Finding
	add := func(code alarm.Code, object, what, next string) {
		out = append(out, alarm.Finding{Code: code, Object: object, What: what, Next: next})
	}
	o.findHosts(add)
	o.findArbitrator(add)
	o.findMasters(add)
	o.findReplicas(add)
	for _, u := range o.View.Users {
		if u.Default {
			add(alarm.DefaultPassword, "user "+u.Name, "it has the password that every new cluster has",
				fmt.Sprintf("type ALTER USER %s PASS '...'", u.Name))
		}
	}
	for _, d := range o.Dnodes {
		out = append(out, d.Found...)
	}
	return out
}

// finder takes one finding.
type finder func(code alarm.Code, object, what, next string)

// findHosts looks at each data host.
func (o Overview) findHosts(add finder) {
	for _, d := range o.Dnodes {
		object, here := fmt.Sprintf("dnode %d", d.ID), d.ID == o.Self
		switch {
		case d.Copy:
			add(alarm.OldCopy, object, "the directory at "+d.EndPoint+" is an old copy of itself: it serves and votes nothing",
				fmt.Sprintf("stop it and put its true directory back; if there is none, empty it, start it and type RESTORE DNODE %d", d.ID))
		case strings.HasPrefix(d.Reason, mnode.Misfit):
			key := strings.TrimPrefix(d.Reason, mnode.Misfit)
			add(alarm.SettingsDiffer, object, fmt.Sprintf("its %s is another than the master's, so it does not count as ready", key),
				fmt.Sprintf("set %s to the same value in both configuration files and restart that host", key))
		case d.RemovalBlocked != "":
			add(alarm.RemovalBlocked, object, "longer away than offlineThreshold, and still a member: "+d.RemovalBlocked,
				fmt.Sprintf("bring it back; if its directory is lost, start it with an empty one and type RESTORE DNODE %d", d.ID))
		case d.Status == "offline" && !here:
			next := "start tnode there; if it runs, look at its log and at the network between the hosts"
			if restore := fmt.Sprintf("RESTORE DNODE %d", d.ID); strings.Contains(d.Reason, restore) {
				next = "if its directory is lost for good, type " + restore + "; else put it back and restart the host"
			}
			add(alarm.HostOffline, object, fmt.Sprintf("%s is offline: %s", d.EndPoint, d.Reason), next)
		case max(d.Ahead, -d.Ahead) > clocksApart:
			way := "behind"
			if d.Ahead > 0 {
				way = "ahead of"
			}
			add(alarm.ClockApart, object, fmt.Sprintf("its clock is more than %v %s that of dnode %d", clocksApart, way, o.Self),
				"look at the time service (NTP) on both hosts: NOW means another time on each")
		}
	}
}

// findArbitrator looks at the third vote.
func (o Overview) findArbitrator(add finder) {
	const object = "arbitrator"
	if o.View.Arbitrator.EndPoint == "" {
		if even := o.even(); even != "" {
			add(alarm.NoArbitrator, "cluster", "no arbitrator is configured and "+even+" has an even number of replicas: one lost host stops it",
				"run tarbitrator on a third machine, type ALTER CLUSTER ARBITRATOR 'HOST:6042', and set arbitrator in the configuration of all hosts")
		}
		return
	}
	at := o.View.Arbitrator.EndPoint
	switch arb := o.Arbitrator; {
	case arb == nil:
	case arb.Copy:
		add(alarm.OldCopy, object, "its directory at "+at+" is an old copy of itself: it is not listened to",
			"stop it, empty its directory, start it: it is enrolled again by itself while both data hosts are up")
	case arb.Status != "ready" && o.View.NeedsArbitrator():
		what := at + " does not answer: no effect now, but the next failure stops service"
		if slices.ContainsFunc(o.Dnodes, func(d DnodeRow) bool { return d.Status == "offline" }) {
			what = at + " does not answer, and a data host is away"
		}
		add(alarm.ArbitratorUnreachable, object, what, "start tarbitrator there; if it runs, look at the network to its port")
	case o.mute():
		add(alarm.ArbitratorUnreachable, object, at+" is connected and gives no answers: no effect now, but the next failure stops service",
			"look at tarbitrator status there: its disk is full or hangs, or its machine stands still")
	}
	const next = "keep both data hosts up: it is enrolled anew by itself; if this stays, look at its log"
	if groups := o.refused(peer.Tainted); groups != "" {
		add(alarm.Tainted, object, "it has forgotten what it acknowledged for "+groups+" and votes no more there", next)
	}
	if groups := o.refused(peer.WrongWitness, peer.UnknownGroup, peer.Retired); groups != "" {
		add(alarm.WrongWitness, object, "its directory is not the one that was enrolled for "+groups, next)
	}
}

// muteAfter is when a connected arbitrator that gives no answers counts as not
// there: longer than a disk that is merely slow takes, and than it takes to ask
// again.
const muteAfter = 2 * time.Second

// mute reports whether the arbitrator leaves a master without answers.
func (o Overview) mute() bool {
	return slices.ContainsFunc(o.all(), func(g GroupRow) bool { return g.Unanswered >= muteAfter })
}

// even names something with an even number of replicas, empty if nothing has.
func (o Overview) even() string {
	for _, g := range o.all() {
		if n := len(g.Members); n > 0 && n%2 == 0 {
			return objectOf(g)
		}
	}
	return ""
}

// refused names the groups for which the arbitrator gives one of these refusals.
func (o Overview) refused(why ...peer.Refusal) string {
	var groups []string
	for _, g := range o.all() {
		if slices.Contains(why, g.Refusal) {
			groups = append(groups, fmt.Sprintf("vgroup %d", g.Group))
		}
	}
	return strings.Join(groups, ", ")
}

// findMasters looks for groups that nobody leads.
func (o Overview) findMasters(add finder) {
	lost := map[string]bool{}
	var objects []string // in the order of groups
	groups := o.all()
	n := 0
	for _, g := range groups {
		if g.Status != mnode.Formed.String() || g.led() {
			continue
		}
		n++
		if object := objectOf(g); !lost[object] {
			lost[object] = true
			objects = append(objects, object)
		}
	}
	if n == 0 {
		return
	}
	away := o.away()
	next := "two of three are enough: bring back " + strings.Join(away, " or ")
	if len(away) == 1 {
		next = "bring back " + away[0]
	}
	switch {
	case o.alone():
		add(alarm.CutOff, fmt.Sprintf("dnode %d", o.Self), "this host reaches neither another host nor the arbitrator: they are down, or it is cut off",
			"look at the network of this machine, then at "+strings.Join(away, " and "))
		return
	case len(away) == 0:
		next = "wait for an election; if there is none, look at the network between the hosts and to the arbitrator"
	}
	if n == len(groups) {
		objects = []string{"cluster"}
	}
	for _, object := range objects {
		add(alarm.NoMaster, object, "no master: statements wait and then fail, nothing of them is stored", next)
	}
}

// alone reports whether this host reaches nobody of the others that there are.
func (o Overview) alone() bool {
	others := false
	for _, d := range o.Dnodes {
		if d.ID == o.Self {
			continue
		}
		if d.Status == "ready" {
			return false
		}
		others = true
	}
	if o.Arbitrator != nil {
		return o.Arbitrator.Status != "ready" && others
	}
	return others
}

// away names everyone who is not there.
func (o Overview) away() []string {
	var names []string
	for _, d := range o.Dnodes {
		if d.Status == "offline" {
			names = append(names, fmt.Sprintf("dnode %d (%s)", d.ID, d.EndPoint))
		}
	}
	if a := o.Arbitrator; a != nil && a.Status != "ready" {
		names = append(names, fmt.Sprintf("the arbitrator (%s)", a.EndPoint))
	}
	return names
}

// findReplicas looks at how safe the data is: at each database, and at each
// replica that someone must see to.
func (o Overview) findReplicas(add finder) {
	modes, lacks := map[string]consensus.Mode{}, map[string]bool{}
	var objects []string
	for _, g := range o.all() {
		for _, m := range g.Members {
			if m.Fault != "" {
				add(alarm.Faulty, fmt.Sprintf("vgroup %d on dnode %d", g.Group, m.Dnode), "this replica is stopped: "+m.Fault,
					"read the log of that host; if the data there is lost, replace the host")
			}
		}
		object := objectOf(g)
		mode := g.Safety()
		if mode == consensus.ModeUnknown {
			continue // without a master
		}
		if was, ok := modes[object]; !ok {
			objects = append(objects, object)
			modes[object] = mode
		} else {
			modes[object] = min(was, mode) // the less safe one
		}
		lacks[object] = lacks[object] || g.Missing > g.Joining
	}
	for _, object := range objects {
		switch mode := modes[object]; {
		case mode == consensus.ModeAsync && lacks[object]:
			add(alarm.Async, object, "it has fewer replicas than it is to have: what is acknowledged is not on as many disks",
				"look at SHOW TRANSACTIONS for what it waits for: RESTORE DNODE a host that was lost, or CREATE DNODE another one")
		case mode == consensus.ModeAsync:
			add(alarm.Async, object, "what is acknowledged now is not on every replica: some are away",
				"bring back "+strings.Join(o.awayData(), " and ")+"; what it missed is copied by itself")
		case mode == consensus.ModeSyncRecover:
			add(alarm.SyncRecover, object, "a replica was away or silent and is back: what is acknowledged may not be on every replica yet",
				"nothing: wait, and keep the other host up until then")
		}
	}
}

// awayData names the data hosts that are not there.
func (o Overview) awayData() []string {
	o.Arbitrator = nil
	if names := o.away(); len(names) > 0 {
		return names
	}
	return []string{"the data host that does not answer the master"}
}

// all lists the groups, the metadata's first.
func (o Overview) all() []GroupRow {
	if o.Metadata.Group == 0 {
		return o.Groups
	}
	return append([]GroupRow{o.Metadata}, o.Groups...)
}

// objectOf names what a group belongs to.
func objectOf(g GroupRow) string {
	if g.Database == "" {
		return "metadata"
	}
	return "database " + g.Database
}

func (g GroupRow) led() bool {
	return slices.ContainsFunc(g.Members, func(m MemberRow) bool { return m.Role == consensus.RoleMaster })
}
