package node

import (
	"fmt"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
)

// A host whose data directory turns out to be an old copy of itself has
// forgotten what it acknowledged and voted. It must not take part in anything
// any more, as a whole and for ever: its vote or its log could undo what others
// rely on (R42). The process stays, so that an operator can read why.
//
//	           refused by a host or the arbitrator
//	serving ──────────────────────────────────────▶ old copy
//	                                                   ▲
//	   start with a directory that is marked as one ───┘

// noteRefusal takes the news that somebody refuses this directory. It never
// waits; the first news is enough.
func (n *Node) noteRefusal(by peer.Remote, why string) {
	who := fmt.Sprintf("dnode %d (%s)", by.Host, by.Addr)
	if by.Host == 0 {
		who = "the arbitrator"
	}
	select {
	case n.refused <- fmt.Sprintf("found by %s: %s", who, why):
	default:
	}
}

// becomeOldCopy stops everything that serves or votes, and makes sure that no
// later start does.
func (n *Node) becomeOldCopy(why string) {
	if n.oldCopy.Load() != nil {
		return
	}
	n.oldCopy.Store(&why) // from here on the doors answer with it
	close(n.copied)
	n.net.MarkOldCopy()
	n.net.SetPeers(nil)
	if err := n.record.MarkOldCopy(why); err != nil {
		n.log.Error("the next start will not know that this directory is an old copy", "err", err)
	}
	n.log.Error("this host has stopped: its data directory is an old copy", "text", n.refusal().Error())
	n.parts.stopOnly("gossip", "host", "groups")
}

// refusal is what clients of an old copy are told; nil: this host serves.
func (n *Node) refusal() error {
	why := n.oldCopy.Load()
	if why == nil {
		return nil
	}
	d := n.record.Identity().Dnode
	return fmt.Errorf("this directory is an old copy of dnode %d (%s): it serves and votes nothing; put the true directory back, or empty this one and type RESTORE DNODE %d on another host", d, *why, d)
}

// receive takes a frame from the network.
func (n *Node) receive(from peer.Remote, class peer.Class, msgs []peer.Message) {
	if n.oldCopy.Load() != nil {
		return
	}
	if from.Host == 0 {
		n.sightings.HeardAnswers(from, msgs)
	}
	n.groups.Receive(from.UUID, class, msgs)
}

// linked takes news of a connection.
func (n *Node) linked(r peer.Remote, s peer.LinkState) {
	if s != peer.LinkUp {
		n.sightings.LinkLost()
	}
	n.gossip.linked(r, s)
	if n.oldCopy.Load() == nil {
		n.groups.Linked(r.UUID, consensus.LinkState(s))
	}
}

// startMarked starts what an old copy still runs: the doors, which say what it
// is, and the network, where it says so to whoever asks.
func (n *Node) startMarked(why string) {
	n.oldCopy.Store(&why)
	close(n.copied)
	n.net.MarkOldCopy()
	n.log.Error("this host does not start: its data directory is an old copy", "text", n.refusal().Error())
	n.parts.start("network", n.runNet)
	n.parts.start("alarms", n.alarms.run)
	n.parts.start("doors", n.runDoors)
	if n.config.Ready != nil {
		n.config.Ready() // there is nothing to wait for, and nothing that a restart would mend
	}
}
