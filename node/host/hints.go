package host

import (
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// Hints is what this host hears of others beside reports and the log. Hints may
// be late, wrong or missing: they make a status newer and a connection earlier,
// and nothing that must be right goes by them.
type Hints interface {
	// EndPoint is where a directory said last that it can be dialled; empty: it
	// was never heard.
	EndPoint(u id.UUID) string
	// Gone says since when a directory seems to be gone, and why; an empty why:
	// it does not seem so.
	Gone(u id.UUID) (since time.Time, why string)
}

// HintsChanged makes this host look at its hints again.
func (h *Host) HintsChanged() { poke(h.wakeReconcile) }

// vanished says why a host that was heard at a given time has gone since; empty: no
// hint says so. What comes later than a hint refutes it.
func (h *Host) vanished(u id.UUID, heard time.Time) string {
	if h.cfg.Hints == nil {
		return ""
	}
	since, why := h.cfg.Hints.Gone(u)
	if !since.After(heard) {
		return ""
	}
	return why
}

// Addrs lists where a member may be dialled: where it was heard, where the
// record of the cluster has it, and what the configuration and the arbitrator
// name that belongs to nobody else. The last is how hosts that have all moved
// find each other; the handshake tells who answers.
func (h *Host) Addrs(d mnode.Dnode) []string {
	var list []string
	add := func(ep string) {
		if ep != "" && ep != h.cfg.EndPoint && !slices.Contains(list, ep) {
			list = append(list, ep)
		}
	}
	if h.cfg.Hints != nil {
		add(h.cfg.Hints.EndPoint(d.UUID))
	}
	add(d.EndPoint)
	elsewhere := []string{h.cfg.FirstEP, h.cfg.SecondEP}
	if others := h.others.Load(); others != nil {
		elsewhere = append(elsewhere, *others...)
	}
	for _, ep := range elsewhere {
		of, taken := h.View().DnodeAt(ep)
		if !taken || of.ID == h.Dnode() { // what was this host's may be anyone's now
			add(ep)
		}
	}
	return list
}

// applyPeers tells the network whom to keep connections to: every other
// member, and the arbitrator while any group has it as a member (A39).
func (h *Host) applyPeers(v *mnode.View) {
	var peers []peer.Peer
	for _, d := range v.Live() {
		if !d.UUID.IsZero() && d.UUID != h.Self() {
			peers = append(peers, peer.Peer{UUID: d.UUID, Addrs: h.Addrs(d)})
		}
	}
	if arb := v.Arbitrator; !arb.UUID.IsZero() && arb.EndPoint != "" && v.NeedsArbitrator() {
		peers = append(peers, peer.Peer{UUID: arb.UUID, Addrs: []string{arb.EndPoint}, Arbitrator: true, Enrolled: enrolled(v)})
	}
	for _, arb := range v.Former { // until every group has the new one
		peers = append(peers, peer.Peer{UUID: arb.UUID, Addrs: []string{arb.EndPoint}, Arbitrator: true, Enrolled: true})
	}
	h.net.SetPeers(peers)
}
