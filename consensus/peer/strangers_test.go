package peer

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Whoever invents clusters can't take all the connections of an arbitrator: the
// clusters that it knows find room.
func TestInventedClustersLeaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room = 16
		n := newFakeNet()
		w := n.join(t, 1, Identity{}, func(c *Config) {
			c.Keys, c.MaxConns = keyring{testCluster: testSecret}, room
		})
		let := 0
		for i := range 2 * room {
			nc, err := n.dial(t.Context(), w.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			made := hello{class: Beats, cluster: id.Cluster(1000 + i), uuid: uuidOf(byte(100 + i)), host: 1}
			if _, err := dialHandshake(nc, made, Secret{5}, true, gate{own: Offer{Start: Start{Boot: 1, Nonce: 1}}}); err == nil {
				let++
				synctest.Wait()
			}
		}
		if let != room/strangersPart {
			t.Errorf("%d invented clusters of %d connections were let in, want %d", let, room, room/strangersPart)
		}
		a := n.join(t, 2, Identity{Cluster: testCluster, Host: 1, Secret: testSecret}, nil)
		a.SetPeers([]Peer{{UUID: uuidOf(1), Addrs: []string{w.addr}, Arbitrator: true, Enrolled: true}})
		time.Sleep(2 * time.Second)
		wantTold(t, a, "1 up")
		a.stop()
		w.stop()
	})
}
