package node

import (
	"math"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/mnode"
	"github.com/tarbitrator/tarbitrator/node/host"
	"github.com/tarbitrator/tarbitrator/vnode"
)

// openShard opens a replica for node/host.
func (n *Node) openShard(s host.Spec) (host.Shard, error) {
	v, err := vnode.Open(vnode.Config{
		Dir: s.Dir, Group: s.Group, Cluster: s.Cluster, Precision: precision(s.Options), Keep: keep(s.Options),
		Room: n.space.roomForCopy,
	}, s.Mark, n.groups, time.Now, n.log)
	if err != nil {
		return nil, err // not a nil *Vnode in an interface
	}
	return v, nil
}

func precision(o mnode.Options) sql.Precision {
	switch o.Precision {
	case "us":
		return sql.Microsecond
	case "ns":
		return sql.Nanosecond
	}
	return sql.Millisecond
}

// keep is how long rows are kept; what is longer than a Duration is for ever.
func keep(o mnode.Options) time.Duration {
	return time.Duration(min(o.KeepMinutes, math.MaxInt64/int64(time.Minute))) * time.Minute
}

// cluster is a host as node/query wants it.
type cluster struct {
	*host.Host
	*alarms
}

// Vnode is this host's replica of a group, if it has one.
func (c cluster) Vnode(g id.Group) (*vnode.Vnode, bool) {
	s, ok := c.Shard(g)
	if !ok {
		return nil, false
	}
	return s.(*vnode.Vnode), true // openShard makes no other kind
}
