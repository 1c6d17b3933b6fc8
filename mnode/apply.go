package mnode

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

const (
	// keptAnswers is how many answers are remembered for repeated requests.
	// Metadata changes come by the second at most, and a gateway gives up after
	// 20 s, so this is far more than R46 asks for.
	keptAnswers  = 256
	maxEndPoint  = 255 + 6
	maxUser      = 23
	maxDnodes    = 4096
	maxDatabases = 4096
	maxGroups    = 65536
	firstVgroup  = id.Group(2)
)

// apply carries out one command on v, which nobody else sees.
func (e Envelope) apply(v *View, index id.Index, term id.Term) Result {
	v.Index, v.Term = index, term
	if e.Request != (Request{}) {
		for _, r := range v.Recent {
			if r.Request == e.Request {
				return r.Result
			}
		}
	}
	var result Result
	if _, birth := e.Command.(Found); v.Cluster.ID == 0 && !birth {
		result = refuse(CodeConflict, "the cluster is not born yet")
	} else {
		result = e.Command.apply(v, e.At)
	}
	if e.Request != (Request{}) {
		v.Recent = append(v.Recent, Recent{Request: e.Request, Result: result})
		if over := len(v.Recent) - keptAnswers; over > 0 {
			v.Recent = slices.Delete(v.Recent, 0, over)
		}
	}
	return result
}

func refuse(code uint16, format string, args ...any) Result {
	return Result{Err: fail(code, format, args...)}
}

func refuseWith(err error) Result {
	if e, ok := err.(*Error); ok { //nolint:errorlint // made two lines above by fail, never wrapped
		return Result{Err: e}
	}
	return refuse(CodeParameter, "%v", err)
}

func (c Found) apply(v *View, now time.Time) Result {
	if v.Cluster.ID != 0 {
		if v.Cluster.ID == c.Cluster { // repeated after a crash
			return Result{Number: uint64(c.Cluster)}
		}
		return refuse(CodeConflict, "this is cluster %d already", v.Cluster.ID)
	}
	v.Cluster = Cluster{ID: c.Cluster, Name: c.Name, Secret: c.Secret, Created: now}
	v.Arbitrator = Arbitrator{EndPoint: c.Arbitrator, UUID: c.Witness}
	if !c.Witness.IsZero() {
		v.Arbitrator.Since = now
	}
	v.Dnodes = []Dnode{{ID: 1, EndPoint: c.EndPoint, UUID: c.UUID, Created: now}}
	v.NextDnode = 2
	v.Users = []User{{Name: "root", Hash: c.RootHash, Super: true, Default: true, Created: now}}
	founder := []Member{{Replica: 1, Dnode: 1, UUID: c.UUID, Created: now}}
	v.Groups = []Group{{
		ID: id.Mnode, State: Formed, Epoch: uint64(v.Index),
		Members: founder, Founders: slices.Clone(founder), NextReplica: 2,
	}}
	v.NextGroup = firstVgroup
	return Result{Number: uint64(c.Cluster)}
}

// ---- dnodes ----

// checkEndPoint wants host:port; what the name means is the resolver's business.
func checkEndPoint(endPoint string) error {
	i := strings.LastIndexByte(endPoint, ':')
	if i < 1 || i == len(endPoint)-1 || len(endPoint) > maxEndPoint || strings.ContainsAny(endPoint, " \t\n\x00'\"") {
		return fail(CodeParameter, "Invalid parameters: end point %q, want host:port", endPoint)
	}
	return nil
}

func (c CreateDnode) apply(v *View, now time.Time) Result {
	if err := checkEndPoint(c.EndPoint); err != nil {
		return refuseWith(err)
	}
	if d, ok := v.DnodeAt(c.EndPoint); ok {
		return refuse(CodeDnodeExists, "Dnode already exists: %s is dnode %d", c.EndPoint, d.ID)
	}
	if len(v.Dnodes) >= maxDnodes {
		return refuse(CodeOutOfDnodes, "too many dnodes: %d were created", len(v.Dnodes))
	}
	d := Dnode{ID: v.NextDnode, EndPoint: c.EndPoint, Created: now}
	v.NextDnode++
	v.Dnodes = append(v.Dnodes, d)
	return Result{Number: uint64(d.ID)}
}

func (c AdmitDnode) apply(v *View, _ time.Time) Result {
	if c.UUID.IsZero() {
		return refuse(CodeParameter, "Invalid parameters: a host without a directory")
	}
	if d, ok := v.DnodeOf(c.UUID); ok {
		switch {
		case d.Dropped:
			return refuse(CodeRefused, "dnode %d was dropped: empty its dataDir and type CREATE DNODE '%s'", d.ID, c.EndPoint)
		case d.EndPoint == c.EndPoint:
			return Result{Number: uint64(d.ID)}
		}
		return refuse(CodeRefused, "this directory is dnode %d at %s", d.ID, d.EndPoint)
	}
	d, ok := v.DnodeAt(c.EndPoint)
	if !ok {
		return refuse(CodeNoDnode, "Dnode does not exist: type CREATE DNODE '%s'", c.EndPoint)
	}
	if !d.UUID.IsZero() {
		return refuse(CodeRefused, "%s", v.GoneText(d))
	}
	v.dnode(d.ID).UUID = c.UUID
	return Result{Number: uint64(d.ID)}
}

func (c MoveDnode) apply(v *View, _ time.Time) Result {
	if err := checkEndPoint(c.EndPoint); err != nil {
		return refuseWith(err)
	}
	d, ok := v.DnodeOf(c.UUID)
	if !ok || d.Dropped {
		return refuse(CodeNoDnode, "Dnode does not exist: no member has directory %s", c.UUID.Short())
	}
	if other, taken := v.DnodeAt(c.EndPoint); taken && other.ID != d.ID {
		return refuse(CodeDnodeExists, "Dnode already exists: %s is dnode %d", c.EndPoint, other.ID)
	}
	v.dnode(d.ID).EndPoint = c.EndPoint
	return Result{Number: uint64(d.ID)}
}

func (c DropDnode) apply(v *View, _ time.Time) Result {
	d, ok := v.Dnode(c.Dnode)
	if !ok || d.Dropped {
		return refuse(CodeNoDnode, "Dnode does not exist: %d", c.Dnode)
	}
	for _, g := range v.Groups {
		data := g.Data()
		if !slices.ContainsFunc(data, func(m Member) bool { return m.Dnode == d.ID }) {
			continue
		}
		if g.ID != id.Mnode {
			return refuse(CodeOutOfDnodes, "more dnodes are needed: a replica of vgroup %d on dnode %d has no place to go", g.ID, d.ID)
		}
		if len(data) == 1 {
			return refuse(CodeMnodeMaster, "Cannot drop mnode which is leader: dnode %d is the only one", d.ID)
		}
	}
	v.dnode(d.ID).Dropping = true
	return Result{Number: uint64(d.ID)}
}

func (c RemoveDnode) apply(v *View, _ time.Time) Result {
	d, ok := v.Dnode(c.Dnode)
	if !ok || d.Dropped || !d.Dropping {
		return refuse(CodeNoDnode, "Dnode does not exist: %d is not being dropped", c.Dnode)
	}
	if g, busy := v.groupOn(d.ID); busy {
		return refuse(CodeConflict, "dnode %d still holds a replica of group %d", d.ID, g)
	}
	p := v.dnode(d.ID)
	p.Dropped, p.Dropping = true, false
	return Result{Number: uint64(d.ID)}
}

// groupOn names a group that has any membership on a dnode.
func (v *View) groupOn(n id.Host) (id.Group, bool) {
	for _, g := range v.Groups {
		if slices.ContainsFunc(g.Members, func(m Member) bool { return !m.Witness && m.Dnode == n }) {
			return g.ID, true
		}
	}
	return 0, false
}

func (v *View) dnode(n id.Host) *Dnode {
	i := slices.IndexFunc(v.Dnodes, func(d Dnode) bool { return d.ID == n })
	return &v.Dnodes[i]
}

// ---- users ----

func (c CreateUser) apply(v *View, now time.Time) Result {
	if c.Name == "" || len(c.Name) > maxUser || strings.ContainsAny(c.Name, ":\x00") {
		return refuse(CodeInvalidUser, "Invalid user: %q, want 1 to %d bytes without a colon", c.Name, maxUser)
	}
	if err := checkHash(c.Hash); err != nil {
		return refuse(CodeInvalidPass, "%v", err)
	}
	i, taken := slices.BinarySearchFunc(v.Users, c.Name, func(u User, n string) int { return cmp.Compare(u.Name, n) })
	if taken {
		return refuse(CodeUserExists, "User already exists: %s", c.Name)
	}
	v.Users = slices.Insert(v.Users, i, User{Name: c.Name, Hash: c.Hash, Created: now})
	return Result{}
}

func (c AlterUser) apply(v *View, _ time.Time) Result {
	if err := checkHash(c.Hash); err != nil {
		return refuse(CodeInvalidPass, "%v", err)
	}
	i := slices.IndexFunc(v.Users, func(u User) bool { return u.Name == c.Name })
	if i < 0 {
		return refuse(CodeInvalidUser, "Invalid user: %s", c.Name)
	}
	v.Users[i].Hash, v.Users[i].Default = c.Hash, false
	return Result{}
}

func (c DropUser) apply(v *View, _ time.Time) Result {
	i := slices.IndexFunc(v.Users, func(u User) bool { return u.Name == c.Name })
	switch {
	case i < 0:
		return refuse(CodeInvalidUser, "Invalid user: %s", c.Name)
	case v.Users[i].Super:
		return refuse(CodeInvalidUser, "Invalid user: %s can't be dropped", c.Name)
	}
	v.Users = slices.Delete(v.Users, i, i+1)
	return Result{}
}

// ---- the arbitrator ----

func (c SetArbitrator) apply(v *View, now time.Time) Result {
	if c.EndPoint != "" {
		if err := checkEndPoint(c.EndPoint); err != nil {
			return refuseWith(err)
		}
	}
	switch {
	case c.EndPoint != v.Arbitrator.EndPoint && c.UUID.IsZero():
		// Another address says nothing about the directory behind it.
		v.Arbitrator.EndPoint = c.EndPoint
	case !c.UUID.IsZero() && c.UUID != v.Arbitrator.UUID:
		v.Arbitrator = Arbitrator{EndPoint: c.EndPoint, UUID: c.UUID, Since: now}
	default:
		v.Arbitrator.EndPoint = c.EndPoint
	}
	v.bindWitnesses()
	return Result{}
}

// bindWitnesses gives the arbitrator's directory to the groups that were
// placed before it had ever answered. No replica of them exists yet.
func (v *View) bindWitnesses() {
	for i := range v.Groups {
		g := &v.Groups[i]
		if g.State != Creating {
			continue
		}
		for k := range g.Members {
			if m := &g.Members[k]; m.Witness && m.UUID.IsZero() {
				m.UUID = v.Arbitrator.UUID
				g.Founders = slices.Clone(g.Members)
			}
		}
	}
}
