package main

import (
	"encoding/binary"
	"slices"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/vnode/repeat"
)

// The state machine of every group: a few registers, and the product's memory of
// what was carried out lately (R46). A statement puts a new value into a register
// and answers with the one before; whether it takes effect once shows in the
// answers.

// statementID names a statement of a gateway; zero: it has no id.
type statementID struct{ boot, seq uint64 }

// command is the content of a log entry, as a vnode's is: the leader's stamp,
// from which entry on ids count, who asks, and what is to be done.
type command struct {
	stamp    hlc.Stamp
	remember id.Index
	who      statementID
	register uint8
	value    uint64
}

const commandBytes = 5*8 + 1

func (s *command) append(b []byte) []byte {
	for _, x := range [...]uint64{uint64(s.stamp), uint64(s.remember), s.who.boot, s.who.seq, s.value} {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return append(b, s.register)
}

func commandOf(b []byte) command {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	return command{
		stamp: hlc.Stamp(word(0)), remember: id.Index(word(1)), who: statementID{word(2), word(3)},
		value: word(4), register: b[40],
	}
}

const registersOfGroup = 2

// outcome is the first result of a statement: the value that it replaced.
type outcome struct {
	at  repeat.Place
	was uint64
}

func (o outcome) Place() repeat.Place { return o.at }

// remembered is one record of the memory, as the store keeps it.
type remembered struct {
	who     statementID
	stamp   hlc.Stamp
	outcome outcome
}

// state is what a state machine holds. It survives a death as far as it was
// checkpointed; what came later may be there or not, entry by entry.
type state struct {
	stamp     hlc.Stamp // the newest
	remember  id.Index  // ids in older entries count no more
	registers [registersOfGroup]register
	known     []remembered
}

func (s *state) clone() state {
	c := *s
	c.known = slices.Clone(s.known)
	for i := range c.registers {
		c.registers[i] = slices.Clone(s.registers[i])
	}
	return c
}

// register is the values of one register by the entries that wrote them, from
// the one at the checkpoint on: a replay may find later ones in the store, and
// must not see them.
type register []written

type written struct {
	index id.Index
	value uint64
}

// before is what the register held when entry i came.
func (v register) before(i id.Index) uint64 {
	for n := len(v) - 1; n >= 0; n-- {
		if v[n].index < i {
			return v[n].value
		}
	}
	return 0
}

func (v *register) write(x written) {
	if len(*v) == 0 {
		*v = append(*v, written{}) // what it held at a checkpoint before the first write
	}
	at := len(*v)
	for at > 0 && (*v)[at-1].index >= x.index {
		at--
	}
	if at < len(*v) && ((*v)[at].index == x.index || at == 0) { // it is there, or later ones are for good
		return
	}
	*v = slices.Insert(*v, at, x)
}

// last is what the register holds.
func (v register) last() uint64 { return v.before(1 << 62) }

// effect is what one entry did to the state.
type effect struct {
	index id.Index
	command
	record *remembered
}

// run carries out one entry and returns its result. What it does is the same
// whatever later effects the state already holds.
func (r *replica) run(x consensus.Entry) outcome {
	st := commandOf(x.Data)
	place := repeat.Place(x.Index) << repeat.PlaceBits
	known := r.memory.Knows(x.Index)
	e := effect{index: x.Index, command: st}
	var out outcome
	seen := false
	if st.who != (statementID{}) {
		out, seen = r.memory.Seen(st.who, place, st.remember)
	}
	if !seen {
		if st.who != (statementID{}) {
			out = outcome{place, r.state.registers[st.register].before(x.Index)}
		}
		if st.who != (statementID{}) && !known {
			e.record = &remembered{st.who, st.stamp, out}
		}
	} else {
		e.who = statementID{} // it has no effect
	}
	r.do(&e)
	r.recent = append(r.recent, e)
	return out
}

// do brings one effect into the state.
func (r *replica) do(e *effect) {
	s := &r.state
	s.stamp, s.remember = max(s.stamp, e.stamp), max(s.remember, e.remember)
	if e.who != (statementID{}) {
		s.registers[e.register].write(written{e.index, e.value})
	}
	if e.record != nil {
		s.known = append(s.known, *e.record)
		r.memory.Add(e.record.stamp, e.record.who, e.record.outcome)
	}
}

// checkpoint makes the state durable up to what is applied.
func (r *replica) checkpoint() {
	for _, gone := range r.memory.Forget(r.durableState.remember, 1<<20) {
		r.state.known = slices.DeleteFunc(r.state.known, func(k remembered) bool { return k.outcome.at.Index() == gone })
	}
	for i, v := range r.state.registers {
		r.state.registers[i] = v[max(0, len(v)-1):]
	}
	r.durable = r.applied
	r.durableState, r.recent = r.state.clone(), nil
}

// reopen is what a restart finds: the checkpoint, and what else had reached the
// disk by itself.
func (r *replica) reopen() {
	r.load()
	all := r.host.w.chance(0.5)
	for i := range r.recent {
		if all || r.host.w.chance(0.5) {
			r.do(&r.recent[i])
		}
	}
	r.recent = nil
}

// load makes the durable state the one in memory.
func (r *replica) load() {
	r.state = r.durableState.clone()
	r.memory = repeat.New[statementID, outcome]()
	for i := range r.state.known {
		k := &r.state.known[i]
		r.memory.Add(k.stamp, k.who, k.outcome)
	}
}

// stamped makes the statement of an entry on the host that leads.
func (r *replica) stamped(who statementID, register uint8, value uint64) []byte {
	h := r.host
	st := command{who: who, register: register, value: value}
	st.stamp = r.clock.Next(h.wall(), r.state.stamp)
	st.remember = max(r.state.remember, r.memory.From(st.stamp))
	return st.append(make([]byte, 0, max(h.w.load.bytes, commandBytes)))[:max(h.w.load.bytes, commandBytes)]
}

// wall is what the clock on the wall of this host shows, in nanoseconds. Nothing
// may depend on it but the stamps.
func (h *host) wall() int64 {
	return 1_800_000_000_000_000_000 + int64(h.w.now+h.skew)
}
