package membership

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/hashicorp/serf/serf"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// The tags that every host carries in gossip. Serf bounds their total at 512
// bytes.
const (
	tagCluster  = "c"
	tagUUID     = "u"
	tagDnode    = "n"
	tagEndPoint = "e"
	tagStart    = "s"
)

// maxEndPoint bounds an end point, as consensus/peer does.
const maxEndPoint = 255

func encodeTags(c Config) map[string]string {
	return map[string]string{
		tagCluster:  strconv.FormatUint(uint64(c.Cluster), 10),
		tagUUID:     c.UUID.String(),
		tagDnode:    strconv.FormatUint(uint64(c.Dnode), 10),
		tagEndPoint: c.EndPoint,
		tagStart:    strconv.FormatUint(c.Start, 10),
	}
}

// parseTags is the gate through which whatever comes by gossip becomes a Host:
// of this cluster, and with an end point that can be dialled.
func parseTags(tags map[string]string, cluster id.Cluster) (Host, error) {
	if tags[tagCluster] != strconv.FormatUint(uint64(cluster), 10) {
		return Host{}, fmt.Errorf("a host of cluster %.20q", tags[tagCluster])
	}
	u, err := id.ParseUUID(tags[tagUUID])
	if err != nil {
		return Host{}, err
	}
	dnode, err := strconv.ParseUint(tags[tagDnode], 10, 32)
	if err != nil {
		return Host{}, fmt.Errorf("number of the dnode: %w", err)
	}
	start, err := strconv.ParseUint(tags[tagStart], 10, 64)
	if err != nil {
		return Host{}, fmt.Errorf("number of the start: %w", err)
	}
	endPoint := tags[tagEndPoint]
	host, port, err := net.SplitHostPort(endPoint)
	if err != nil {
		return Host{}, fmt.Errorf("end point: %w", err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" || len(endPoint) > maxEndPoint {
		return Host{}, errors.New("end point is none")
	}
	if u.IsZero() || dnode == 0 {
		return Host{}, errors.New("it names nobody")
	}
	return Host{UUID: u, Dnode: id.Host(dnode), EndPoint: endPoint, Start: start}, nil
}

// merge lets only hosts of the own cluster in.
type merge struct{ cluster id.Cluster }

// NotifyMerge refuses everybody whom one stranger comes with.
func (m *merge) NotifyMerge(members []*serf.Member) error {
	for _, x := range members {
		if _, err := parseTags(x.Tags, m.cluster); err != nil {
			return fmt.Errorf("refuse %s: %w", x.Name, err)
		}
	}
	return nil
}
