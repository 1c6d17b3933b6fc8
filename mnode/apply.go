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
	maxUsers     = 4096
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
	v.Arbitrator = Arbitrator{EndPoint: c.Arbitrator, UUID: c.Witness, Configured: c.Arbitrator}
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
	if len(v.Users) >= maxUsers {
		return refuse(CodeInvalidUser, "too many users: there are %d", len(v.Users))
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
