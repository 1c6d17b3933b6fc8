package main

import (
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// network carries frames between boxes as a cheap switch would: 0.1 to 0.4 ms
// with spikes to 5 ms, which reorder, and 0.5 % twice. What a script or the
// chaos adds is loss, and cuts in one direction.
//
// It also keeps what TCP tells a process about its peers. A killed process
// resets its connections, and a redial is refused; a machine without power, or
// behind a cut, leaves its peers' connections half open until a time-out. A
// frame belongs to the connection it was sent on and dies with it. On a
// connection that outlives a cut, some of what was sent meanwhile comes late.
type network struct {
	w      *world
	boxes  []*box
	loss   float64       // of every frame
	slow   time.Duration // added to every frame's delay
	paths  [][]*path     // by the places of sender and receiver
	epochs uint64        // connections made so far
}

// path is one direction between two boxes.
type path struct {
	cut  bool
	held []func()
	last func() // brings the newest frame once more
	conn uint64 // what the sender thinks: its connection's number, or 0
	cuts uint64 // cuts so far, to know an old time-out
}

const (
	heldFrames  = 64
	spikeChance = 0.004
	twiceChance = 0.005
)

func newNetwork(w *world) *network {
	return &network{w: w}
}

func (n *network) add(b *box) {
	b.at = len(n.boxes)
	n.boxes = append(n.boxes, b)
	for at := range n.paths {
		n.paths[at] = append(n.paths[at], &path{})
	}
	n.paths = append(n.paths, nil)
	for range n.boxes {
		n.paths[b.at] = append(n.paths[b.at], &path{})
	}
}

func (n *network) path(from, to *box) *path { return n.paths[from.at][to.at] }

func (n *network) delay() time.Duration {
	if n.w.chance(spikeChance) {
		return n.slow + n.w.between(time.Millisecond, 5*time.Millisecond)
	}
	return n.slow + n.w.between(100*time.Microsecond, 400*time.Microsecond)
}

// send carries a frame. The frame is the receiver's from now on, unless it
// arrives twice: no receiver may change it.
func (n *network) send(from, to *box, class peer.Class, deliver func()) {
	p := n.path(from, to)
	conn := p.conn
	if conn == 0 {
		return
	}
	p.last = deliver
	arrive := func() {
		if n.path(to, from).conn == conn && to.up {
			deliver()
		}
	}
	if p.cut {
		if len(p.held) < heldFrames && n.w.chance(0.5) {
			p.held = append(p.held, arrive)
		}
		return
	}
	if n.loss > 0 && n.w.chance(n.loss) {
		return
	}
	n.w.after(n.delay(), arrive)
	if n.w.chance(twiceChance) {
		n.w.after(n.delay(), arrive)
	}
}

// cut stops everything from one box to another, in this direction only.
func (n *network) cut(from, to *box) {
	p := n.path(from, to)
	if p.cut {
		return
	}
	p.cut = true
	p.cuts++
	cuts := p.cuts
	n.w.tracef("cut %s>%s", from.name, to.name)
	n.w.after(n.w.between(time.Second, 3*time.Second), func() {
		if p.cut && p.cuts == cuts {
			n.drop(from, to)
			n.drop(to, from)
		}
	})
}

func (n *network) cutBoth(a, b *box) { n.cut(a, b); n.cut(b, a) }

// heal undoes cut. What a living connection held comes late.
func (n *network) heal(from, to *box) {
	p := n.path(from, to)
	if !p.cut {
		return
	}
	p.cut = false
	n.w.tracef("heal %s>%s", from.name, to.name)
	for _, arrive := range p.held {
		n.w.after(n.w.between(0, 250*time.Millisecond), arrive)
	}
	p.held = nil
	n.dialSoon(from, to)
}

func (n *network) healBoth(a, b *box) { n.heal(a, b); n.heal(b, a) }

func (n *network) healAll() {
	n.loss, n.slow = 0, 0
	for _, a := range n.boxes {
		for _, b := range n.boxes {
			n.heal(a, b)
		}
	}
}

// drop ends what from thinks is a connection to to.
func (n *network) drop(from, to *box) {
	if p := n.path(from, to); p.conn != 0 {
		p.conn = 0
		from.linked(to, consensus.LinkDown)
		n.dialSoon(from, to)
	}
}

// gone tells the peers of b that its process (reset) or its machine is gone.
func (n *network) gone(b *box, reset bool) {
	for _, o := range n.boxes {
		if o == b {
			continue
		}
		n.path(b, o).conn = 0
		p := n.path(o, b)
		conn := p.conn
		if conn == 0 {
			continue
		}
		if !reset || n.path(b, o).cut {
			n.w.after(n.w.between(time.Second, 3*time.Second), func() {
				if p.conn == conn {
					n.drop(o, b)
				}
			})
			continue
		}
		life := b.life
		n.w.after(n.delay()+n.delay(), func() {
			if p.conn != conn {
				return
			}
			p.conn = 0
			state := consensus.LinkRefused
			if b.life != life || b.up || p.cut || n.path(b, o).cut {
				state = consensus.LinkDown
			}
			o.linked(b, state)
			n.dialSoon(o, b)
		})
	}
}

// dialSoon keeps trying until a and b are connected.
func (n *network) dialSoon(a, b *box) {
	n.dialLater(a, b, n.w.between(5*time.Millisecond, 80*time.Millisecond))
}

func (n *network) dialLater(a, b *box, d time.Duration) {
	if a == b || a.witness && b.witness || a.uuid == b.uuid {
		return
	}
	if a.at > b.at {
		a, b = b, a
	}
	if a.dialing[b.at] {
		return
	}
	a.dialing[b.at] = true
	n.w.after(d, func() { n.dial(a, b) })
}

func (n *network) dial(a, b *box) {
	a.dialing[b.at] = false
	there, back := n.path(a, b), n.path(b, a)
	if !a.up || !b.up || there.conn == back.conn && there.conn != 0 {
		return // start dials again
	}
	if there.cut || back.cut || a.paused || b.paused {
		n.dialSoon(a, b)
		return
	}
	n.drop(a, b)
	n.drop(b, a)
	if !n.shake(a, b) {
		n.dialLater(a, b, time.Second)
		return
	}
	n.replace(a, b)
	n.replace(b, a)
	n.epochs++
	there.conn, back.conn = n.epochs, n.epochs
	a.linked(b, consensus.LinkUp)
	b.linked(a, consensus.LinkUp)
	n.tell(a, b, a.told)
	n.tell(b, a, b.told)
}

// shake is the end of a handshake: both judge what the other offers, and say so
// (R42).
func (n *network) shake(a, b *box) bool {
	x, y := a.offer(), b.offer()
	ofB, ofA := a.judges(b, y), b.judges(a, x)
	if ofA != nil {
		a.refusedBy(b, ofA)
	}
	if ofB != nil {
		b.refusedBy(a, ofB)
	}
	return ofA == nil && ofB == nil
}

// replace ends the connection of a to another process that runs over the
// directory of b: there is one to each.
func (n *network) replace(a, b *box) {
	for _, o := range n.boxes {
		if o != b && o.uuid == b.uuid && n.path(a, o).conn != 0 {
			n.drop(a, o)
			n.drop(o, a)
		}
	}
}

// tell brings to one box how far the log of another has come.
func (n *network) tell(from, to *box, sequence uint64) {
	if sequence == 0 || from == to {
		return
	}
	about := from.remote()
	n.send(from, to, peer.Beats, func() {
		if !to.paused {
			to.heardOf(about, sequence)
		}
	})
}

// home is where from reaches a directory: where it is connected to, else where
// it was last.
func (n *network) home(from *box, u id.UUID) *box {
	var last *box
	for _, b := range n.boxes {
		if b.uuid != u && !slices.Contains(b.former, u) {
			continue
		}
		if last = b; n.path(from, b).conn != 0 {
			break
		}
	}
	return last
}

// closed tells the peers of b that it has closed its connections.
func (n *network) closed(b *box) {
	for _, o := range n.boxes {
		if o == b {
			continue
		}
		n.path(b, o).conn = 0
		if p := n.path(o, b); p.conn != 0 {
			conn := p.conn
			n.w.after(n.delay(), func() {
				if p.conn == conn {
					n.drop(o, b)
				}
			})
		}
	}
}
