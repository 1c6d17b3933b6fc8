package main

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// operation is what a client did with a register: it read it, or put a value
// into it that nobody else ever does. Who knows no outcome may have been heard.
type operation struct {
	register      uint8
	read          bool
	who           statementID
	value         uint64 // written
	start, finish time.Duration
	done          bool   // answered
	result        uint64 // the value read, or replaced
}

// zone is what is known about when a register held one value: everything that
// saw it, and the write itself.
type zone struct {
	value    uint64
	written  time.Duration // the write was asked then
	first    time.Duration // the earliest end of anything that touched it
	last     time.Duration // the latest start of anything that touched it
	replaced bool
}

const forEver = time.Duration(math.MaxInt64)

// checkRegisters checks that what clients saw of each register can be put in one
// order that respects time. With values that are written once this is easy: each
// value has a zone of time in which it must have been there, and zones must not
// meet (Gibbons and Korach, Testing Shared Memories, 1997). Besides, a value is
// replaced once.
func (g *group) checkRegisters() {
	for register := range uint8(registersOfGroup) {
		zones := map[uint64]*zone{0: {}}
		for _, op := range g.history {
			if op.register != register || op.read {
				continue
			}
			z := &zone{value: op.value, written: op.start, first: forEver, last: op.start}
			if op.done {
				z.first = op.finish
			}
			zones[op.value] = z
		}
		for _, op := range g.history {
			if op.register != register || !op.done {
				continue
			}
			z := zones[op.result]
			if z == nil {
				g.w.fail("register", "group %d, register %d: somebody saw %d, which nobody wrote there", g.id, register, op.result)
			}
			if op.finish < z.written {
				g.w.fail("register", "group %d, register %d: %d was seen at %v, before it was written at %v", g.id, register, op.result, op.finish, z.written)
			}
			z.first, z.last = min(z.first, op.finish), max(z.last, op.start)
			if !op.read {
				if z.replaced {
					g.w.fail("register", "group %d, register %d: %d was replaced twice, once by %d", g.id, register, z.value, op.value)
				}
				z.replaced = true
			}
		}
		g.checkZones(register, zones)
	}
}

// checkZones reports two values that must have been there at the same time.
func (g *group) checkZones(register uint8, zones map[uint64]*zone) {
	var held, brief []*zone // surely there from first to last; there at some moment from last to first
	for _, z := range zones {
		switch {
		case z.first == forEver: // nobody saw it, and it may never have been
		case z.first < z.last:
			held = append(held, z)
		default:
			brief = append(brief, z)
		}
	}
	byFirst := func(a, b *zone) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.value, b.value)) }
	slices.SortFunc(held, byFirst)
	slices.SortFunc(brief, byFirst)
	for i, z := range held {
		if i > 0 && z.first < held[i-1].last {
			g.w.fail("register", "group %d, register %d: %d was there from %v to %v, and %d from %v to %v", g.id, register,
				held[i-1].value, held[i-1].first, held[i-1].last, z.value, z.first, z.last)
		}
	}
	for _, b := range brief {
		i, _ := slices.BinarySearchFunc(held, b.last, func(z *zone, t time.Duration) int { return cmp.Compare(z.first, t) })
		if i > 0 && held[i-1].last > b.first {
			g.w.fail("register", "group %d, register %d: %d was there from %v to %v, and %d in between, from %v to %v", g.id, register,
				held[i-1].value, held[i-1].first, held[i-1].last, b.value, b.last, b.first)
		}
	}
}
