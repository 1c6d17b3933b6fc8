package main

import (
	"crypto/rand"
	"fmt"
	"io"
	randv2 "math/rand/v2"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// cluster is the one cluster of every run.
const cluster id.Cluster = 7

// world is one run: some boxes, the network between them, the clients, and the
// checker that looks at all of it. Everything in it happens in one goroutine.
type world struct {
	timeline
	seed uint64
	rng  *randv2.Rand
	conf consensus.Config

	net    *network
	hosts  []*host
	arbs   []*witness
	groups []*group
	load   load
	wire   bool            // frames are encoded and decoded
	skewed bool            // clocks on walls differ, and step
	gaps   []time.Duration // that a script looked at

	copiesOffered, copiesBegun, copiesInstalled int           // of states, from host to host
	pieceTakes                                  time.Duration // of a copy, at most

	hash  uint64    // of everything that happened, in order
	trace io.Writer // nil: off
	birth uint64    // directories made so far
}

// violation is the panic that ends a run in which something that must never
// happen did.
type violation struct {
	rule string // "I1", "R10", ...
	text string
}

func newWorld(seed uint64, trace io.Writer) *world {
	w := &world{
		seed: seed, rng: randv2.New(randv2.NewPCG(seed, 0x9E3779B97F4A7C15)),
		conf: consensus.DefaultConfig(), pieceTakes: 15 * time.Millisecond,
		hash: 14695981039346656037, trace: trace,
	}
	w.net = newNetwork(w)
	w.wire = seed%8 == 3
	w.skewed = w.chance(0.5)
	if w.chance(0.4) {
		w.conf.KeepForReplicaBytes = 64 << w.pick(7) // so that copies are frequent
	}
	return w
}

// seedLibraries makes the Raft library's election time-outs depend on seed: it
// draws them from crypto/rand.Reader. It returns what undoes it.
func seedLibraries(seed uint64) (undo func()) {
	was := rand.Reader
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	rand.Reader = randv2.NewChaCha8(key)
	return func() { rand.Reader = was }
}

// ---- chance ----

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

func (w *world) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)+1))
}

func (w *world) pick(n int) int { return w.rng.IntN(n) }

// directory makes the identity of a new data directory.
func (w *world) directory(name string) id.UUID {
	w.birth++
	var u id.UUID
	u[0], u[1], u[15] = byte(w.rng.Uint32()), name[0], byte(w.birth)
	return u
}

// ---- time ----

// run lets d pass; nothing, if d is not positive.
func (w *world) run(d time.Duration) {
	end := w.now + max(d, 0)
	for {
		m, ok := w.next(end)
		if !ok {
			return
		}
		if !m.void() {
			m.do()
		}
	}
}

// until lets time pass until ok holds, at most d, and reports whether it does.
// It looks every 5 ms.
func (w *world) until(d time.Duration, ok func() bool) bool {
	for end := w.now + d; w.now < end; w.run(5 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok()
}

// closely is until, looking every 10 us.
func (w *world) closely(d time.Duration, ok func() bool) bool {
	for end := w.now + d; w.now < end; w.run(10 * time.Microsecond) {
		if ok() {
			return true
		}
	}
	return ok()
}

// ---- what happened ----

// fold adds to the hash of the run, which is equal for equal seeds.
func (w *world) fold(xs ...uint64) {
	h := w.hash
	for _, x := range xs {
		h = (h ^ x) * 1099511628211
		h ^= h >> 29
	}
	w.hash = (h ^ uint64(w.now)) * 1099511628211
}

func (w *world) tracef(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%12.6f %s\n", w.now.Seconds(), fmt.Sprintf(format, args...))
	}
}

// fail ends the run: rule was broken.
func (w *world) fail(rule, format string, args ...any) {
	v := violation{rule, fmt.Sprintf(format, args...)}
	w.tracef("VIOLATION %s: %s", v.rule, v.text)
	panic(v)
}

// box is what a host and an arbitrator have in common: an address, a process
// that lives, freezes and dies, and a directory.
type box struct {
	w       *world
	name    string
	at      int     // its place in the network
	number  id.Host // zero: an arbitrator
	uuid    id.UUID
	former  []id.UUID // of directories that were wiped: who means one reaches this box
	witness bool
	up      bool
	paused  bool
	life    uint64 // counts starts and deaths: what an earlier life has set going is void
	dialing map[int]bool
	linked  func(to *box, state consensus.LinkState)

	// The gate of a handshake (R42).
	offer     func() peer.Offer
	judges    func(other *box, o peer.Offer) error
	refusedBy func(other *box, why error)
	heardOf   func(from peer.Remote, sequence uint64)
	told      uint64 // how far others were told that the log has come
	copied    bool   // the directory is a copy, or has one that runs
}

func (w *world) box(name string, isWitness bool) box {
	b := box{w: w, name: name, witness: isWitness, uuid: w.directory(name), dialing: map[int]bool{}}
	if !isWitness {
		b.number = id.Host(len(w.hosts) + 1)
	}
	return b
}

// later has do called d from now unless the process has died meanwhile.
func (b *box) later(d time.Duration, do func()) {
	b.w.put(d, moment{do: do, of: b, life: b.life})
}

// dialAll connects a box that has just come up.
func (b *box) dialAll() {
	for _, o := range b.w.net.boxes {
		b.w.net.dialSoon(b, o)
	}
}

// remote is what the other side of a connection knows of b.
func (b *box) remote() peer.Remote {
	return peer.Remote{Cluster: cluster, UUID: b.uuid, Host: b.number, Addr: b.name, Start: b.offer().Start}
}

func (b *box) String() string { return b.name }
