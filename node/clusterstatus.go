package node

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tarbitrator/tarbitrator/client"
	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/version"
	"github.com/tarbitrator/tarbitrator/mnode"
	"github.com/tarbitrator/tarbitrator/node/host"
)

// overall is the cluster on one screen, for api.Status.
type overall struct{ *Node }

// Cluster implements api.Overall.
func (n overall) Cluster() client.Status {
	s := describe(n.host.Overview(), n.alarms.outlook(), client.Status{
		EndPoint: n.config.EndPoint(), Version: version.Build(), At: time.Now(), Started: n.began,
	})
	s.Failovers = failovers(n.host.Failovers())
	return s
}

// lastFailovers is how many changes of master fit on the screen.
const lastFailovers = 5

func failovers(all []mnode.Failover) []client.Failover {
	list := []client.Failover{}
	for _, f := range all[:min(len(all), lastFailovers)] {
		c := client.Failover{
			At: f.At, To: name(f.To), Cause: f.Cause.String(), Info: f.Info(), Milliseconds: (f.Detection + f.Vote).Milliseconds(),
		}
		if f.From != 0 {
			c.From = name(f.From)
		}
		list = append(list, c)
	}
	return list
}

// name is a data host as people know it.
func name(d id.Host) string { return fmt.Sprintf("dnode %d", d) }

// describe completes what a host says of itself by what it knows of the cluster.
func describe(o host.Overview, now outlook, s client.Status) client.Status {
	s.Dnode, s.Cluster = uint32(o.Self), strconv.FormatUint(uint64(o.View.Cluster.ID), 10)
	s.Service = [...]string{"none", "full", "partly"}[o.Alive]
	// The last look may be a second old; what it does not know yet has just begun.
	mode := o.Mode()
	s.Mode, s.ModeSince = mode.String(), s.At
	if now.mode == mode && !now.since.IsZero() {
		s.ModeSince = now.since
	}
	s.Machines, s.Databases = machines(o), databases(o)
	s.Tasks = tasks(o.Tasks)
	s.Alarms = []client.Alarm{} // not null in JSON
	for _, a := range now.alarms {
		s.Alarms = append(s.Alarms, client.Alarm{
			Code: string(a.Code), Level: a.Level.String(), Object: a.Object, Since: a.Since, What: a.What, Next: a.Next,
		})
	}
	return s
}

// machines lists the data hosts and the arbitrator.
func machines(o host.Overview) []client.Machine {
	stops := map[id.Host][]string{}
	for _, l := range o.Losses() {
		stops[l.Dnode] = l.Stops
	}
	list := []client.Machine{}
	for _, d := range o.Dnodes {
		m := client.Machine{
			Name: name(d.ID), EndPoint: d.EndPoint, State: d.Status, Reason: d.Reason, Version: d.Version,
			Stops: stops[d.ID], SeenSeconds: d.Seen.Seconds(),
		}
		for _, g := range o.Groups {
			for _, member := range g.Members {
				if member.Dnode == d.ID {
					m.Groups++
					if member.Role == consensus.RoleMaster {
						m.Leads++
					}
				}
			}
		}
		list = append(list, m)
	}
	if a := o.Arbitrator; a != nil {
		m := client.Machine{Name: "arbitrator", EndPoint: a.EndPoint, State: a.Status, Stops: stops[0], SeenSeconds: a.Seen.Seconds()}
		if a.Reason != "-" {
			m.Reason = a.Reason
		}
		list = append(list, m)
	}
	return list
}

func tasks(all []mnode.Task) []client.Task {
	list := []client.Task{}
	for _, t := range all {
		object := "cluster"
		switch {
		case t.Group == id.Mnode:
			object = "metadata"
		case t.Group != 0:
			object = fmt.Sprintf("vgroup %d", t.Group)
		case t.Dnode != 0:
			object = name(t.Dnode)
		}
		list = append(list, client.Task{Object: object, What: t.What, Waiting: t.Waiting, Since: t.Since})
	}
	return list
}

// databases adds up the groups of each database, and begins with the metadata.
func databases(o host.Overview) []client.Database {
	list, modes := []client.Database{}, map[string]consensus.Mode{}
	for _, g := range append([]host.GroupRow{o.Metadata}, o.Groups...) {
		i := slices.IndexFunc(list, func(d client.Database) bool { return d.Name == g.Database })
		if i < 0 {
			i = len(list)
			list = append(list, client.Database{Name: g.Database, Masters: []string{}})
			modes[g.Database] = g.Safety()
		}
		d := &list[i]
		d.Vgroups++
		if told(g.Feed) > told(d.Feed) {
			d.Feed = g.Feed
		}
		d.Replicas = max(d.Replicas, len(g.Members))
		modes[g.Database] = min(modes[g.Database], g.Safety()) // of the least safe group
		d.Mode = modes[g.Database].String()
		for _, m := range g.Members {
			if m.Role != consensus.RoleMaster {
				continue
			}
			d.Led++
			if name := name(m.Dnode); !slices.Contains(d.Masters, name) {
				d.Masters = append(d.Masters, name)
			}
		}
	}
	return list
}

// told orders the states of a feed by how much the arbitrator is told.
func told(feed string) int { return slices.Index([]string{"shut", "closing", "open"}, feed) }
