package mnode

import (
	"cmp"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

func (c CreateDatabase) apply(v *View, now time.Time) Result {
	if err := checkDatabaseName(c.Name); err != nil {
		return refuseWith(err)
	}
	options := c.Options.normal()
	if err := options.Check(); err != nil {
		return refuseWith(err)
	}
	at, taken := slices.BinarySearchFunc(v.Databases, c.Name, func(d Database, n string) int { return cmp.Compare(d.Name, n) })
	if taken {
		return refuse(CodeDatabaseExists, "Database already exists: %s", c.Name)
	}
	if len(v.Databases) >= maxDatabases || len(v.Groups)+options.Vgroups > maxGroups {
		return refuse(CodeOptions, "Invalid database options: too many databases or vgroups")
	}
	hosts := v.placeable(c.Candidates)
	if len(hosts) < options.Replica {
		return refuse(CodeOutOfDnodes, "more dnodes are needed: %d for REPLICA %d, there are %d", options.Replica, options.Replica, len(hosts))
	}
	db := Database{Name: c.Name, Options: options, Created: now}
	load := v.load()
	for range options.Vgroups {
		g := v.newGroup(c.Name, deal(hosts, load, options.Replica), now)
		db.Groups = append(db.Groups, g.ID)
		v.Groups = append(v.Groups, g)
	}
	v.Databases = slices.Insert(v.Databases, at, db)
	return Result{Number: uint64(db.Groups[0])}
}

// placeable returns the candidates that are members with a directory, in the
// given order, each once, and behind them the members that were not named.
func (v *View) placeable(candidates []id.Host) []Dnode {
	var out []Dnode
	add := func(d Dnode, ok bool) {
		if ok && !d.Dropped && !d.Dropping && !d.UUID.IsZero() &&
			!slices.ContainsFunc(out, func(x Dnode) bool { return x.ID == d.ID }) {
			out = append(out, d)
		}
	}
	for _, n := range candidates {
		add(v.Dnode(n))
	}
	if len(out) == 0 { // a proposer without an opinion
		for _, d := range v.Dnodes {
			add(d, true)
		}
	}
	return out
}

// load counts the replicas on every dnode.
func (v *View) load() map[id.Host]int {
	load := map[id.Host]int{}
	for _, g := range v.Groups {
		if g.State == Dropping || g.ID == id.Mnode {
			continue
		}
		for _, m := range g.Data() {
			load[m.Dnode]++
		}
	}
	return load
}

// deal picks n different hosts, the emptiest first, and counts them in load
// (A6: never two replicas of a group on one host). Equal ones go in the order
// of hosts.
func deal(hosts []Dnode, load map[id.Host]int, n int) []Dnode {
	order := slices.Clone(hosts)
	slices.SortStableFunc(order, func(a, b Dnode) int { return cmp.Compare(load[a.ID], load[b.ID]) })
	order = order[:n]
	for _, d := range order {
		load[d.ID]++
	}
	return order
}

// newGroup makes the initial record of a shard (R40). An even number of data
// replicas gets the arbitrator as a further voter if there is one (R7).
func (v *View) newGroup(database string, hosts []Dnode, now time.Time) Group {
	g := Group{ID: v.NextGroup, Database: database, State: Creating, Epoch: uint64(v.Index), NextReplica: 1}
	v.NextGroup++
	for _, d := range hosts {
		g.Members = append(g.Members, Member{Replica: g.NextReplica, Dnode: d.ID, UUID: d.UUID, Created: now})
		g.NextReplica++
	}
	if len(hosts)%2 == 0 && v.Arbitrator.EndPoint != "" {
		g.Members = append(g.Members, Member{Replica: g.NextReplica, UUID: v.Arbitrator.UUID, Witness: true, Created: now})
		g.NextReplica++
	}
	g.Founders = slices.Clone(g.Members)
	return g
}

func (c AlterReplica) apply(v *View, _ time.Time) Result {
	i := slices.IndexFunc(v.Databases, func(d Database) bool { return d.Name == c.Name })
	if i < 0 {
		return refuse(CodeNoDatabase, "Database not exist: %s", c.Name)
	}
	options := v.Databases[i].Options
	options.Replica = c.Replica
	if err := options.Check(); err != nil {
		return refuseWith(err)
	}
	if hosts := v.placeable(nil); len(hosts) < c.Replica {
		return refuse(CodeOutOfDnodes, "more dnodes are needed: %d for REPLICA %d, there are %d", c.Replica, c.Replica, len(hosts))
	}
	v.Databases[i].Options = options
	return Result{}
}

func (c DropDatabase) apply(v *View, _ time.Time) Result {
	i := slices.IndexFunc(v.Databases, func(d Database) bool { return d.Name == c.Name })
	if i < 0 {
		return refuse(CodeNoDatabase, "Database not exist: %s", c.Name)
	}
	for _, n := range v.Databases[i].Groups {
		g := v.group(n)
		g.State, g.Doomed = Dropping, uint64(v.Index)
	}
	v.Databases = slices.Delete(v.Databases, i, i+1)
	return Result{}
}

func (c FormGroup) apply(v *View, _ time.Time) Result {
	g := v.group(c.Group)
	switch {
	case g == nil || g.Epoch != c.Epoch || g.State == Dropping:
		return refuse(CodeNoVgroup, "Vgroup does not exist: %d of epoch %d", c.Group, c.Epoch)
	case slices.ContainsFunc(g.Members, func(m Member) bool { return m.UUID.IsZero() }):
		return refuse(CodeConflict, "vgroup %d: the arbitrator has never answered", c.Group)
	}
	g.State = Formed
	for i := range v.Databases {
		if db := &v.Databases[i]; db.Name == g.Database {
			db.Ready = !slices.ContainsFunc(db.Groups, func(n id.Group) bool { return v.group(n).State != Formed })
		}
	}
	return Result{}
}

func (c RemoveGroup) apply(v *View, _ time.Time) Result {
	g := v.group(c.Group)
	if g == nil || g.Epoch != c.Epoch || g.State != Dropping {
		return refuse(CodeNoVgroup, "Vgroup does not exist: %d is not being dropped", c.Group)
	}
	v.Groups = slices.DeleteFunc(v.Groups, func(x Group) bool { return x.ID == c.Group })
	v.forgetArbitrators()
	return Result{}
}

func (c AddMember) apply(v *View, now time.Time) Result {
	g := v.group(c.Group)
	if g == nil || g.State != Formed {
		return refuse(CodeNoVgroup, "Vgroup does not exist: %d", c.Group)
	}
	witness := c.Dnode == 0
	for _, m := range g.Members {
		if m.Witness == witness && m.UUID == c.UUID && !m.Leaving {
			return Result{Number: uint64(m.Replica)} // asked twice
		}
	}
	d, known := v.Dnode(c.Dnode)
	switch {
	case c.As != 0 && c.As != g.NextReplica:
		return refuse(CodeConflict, "group %d: replica %d was given out to another member", c.Group, c.As)
	case c.UUID.IsZero(), witness && c.UUID != v.Arbitrator.UUID:
		return refuse(CodeConflict, "group %d: this is not the arbitrator's directory", c.Group)
	case !witness && (!known || d.Dropped || d.Dropping || d.UUID != c.UUID):
		return refuse(CodeNoDnode, "Dnode does not exist: %d", c.Dnode)
	case !witness && slices.ContainsFunc(g.Members, func(m Member) bool { return m.Dnode == c.Dnode && !v.gone(m) }):
		return refuse(CodeConflict, "dnode %d has a replica of group %d", c.Dnode, c.Group)
	}
	m := Member{Replica: g.NextReplica, Dnode: c.Dnode, UUID: c.UUID, Witness: witness, Joining: true, Created: now}
	g.NextReplica++
	g.Members = append(g.Members, m)
	return Result{Number: uint64(m.Replica)}
}

func (c SetVoters) apply(v *View, _ time.Time) Result {
	g := v.group(c.Group)
	if g == nil || g.State != Formed {
		return refuse(CodeNoVgroup, "Vgroup does not exist: %d", c.Group)
	}
	for _, r := range c.Voters {
		if !slices.ContainsFunc(g.Members, func(m Member) bool { return m.Replica == r && !m.Leaving }) {
			return refuse(CodeConflict, "group %d has no replica %d", c.Group, r)
		}
	}
	if !slices.ContainsFunc(g.Members, func(m Member) bool { return !m.Witness && slices.Contains(c.Voters, m.Replica) }) {
		return refuse(CodeConflict, "group %d needs a data replica", c.Group)
	}
	for i := range g.Members {
		m := &g.Members[i]
		switch votes := slices.Contains(c.Voters, m.Replica); {
		case votes:
			m.Joining = false
		case !m.Joining:
			m.Leaving = true
		}
	}
	return Result{}
}

func (c ForgetMember) apply(v *View, _ time.Time) Result {
	g := v.group(c.Group)
	if g == nil {
		return refuse(CodeNoVgroup, "Vgroup does not exist: %d", c.Group)
	}
	i := slices.IndexFunc(g.Members, func(m Member) bool { return m.Replica == c.Replica })
	if i < 0 {
		return Result{} // asked twice
	}
	if m := g.Members[i]; !m.Leaving && !m.Joining {
		return refuse(CodeConflict, "replica %d of group %d is a voter", c.Replica, c.Group)
	}
	g.Members = slices.Delete(g.Members, i, i+1)
	v.forgetArbitrators()
	return Result{}
}

// group returns the group inside v, nil if there is none.
func (v *View) group(n id.Group) *Group {
	i, ok := slices.BinarySearchFunc(v.Groups, n, func(x Group, n id.Group) int { return cmp.Compare(x.ID, n) })
	if !ok {
		return nil
	}
	return &v.Groups[i]
}
