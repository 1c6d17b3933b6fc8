package main

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// operation is one read or write of a register by a client, from the moment it
// was sent to the moment its outcome was known. A write whose outcome nobody
// knows may take effect at any later time, or never; it ends at openEnd.
type operation struct {
	client, key int
	write       bool
	value       int64 // what was written, once in the whole history, or read; 0: no row
	sent, known int64 // nanoseconds since the run began
}

// openEnd is when an operation ends that has not.
const openEnd = math.MaxInt64

func (o operation) open() bool { return o.known == openEnd }

// settle makes a history that a checker can decide quickly of one with writes
// that stay open to the end, without changing whether it is linearizable:
//
//   - an open write whose value nobody has read is left out: it can always stand
//     behind everything else;
//   - an open write whose value somebody has read ends when the first such read
//     did: it must stand before it.
//
// Both rest on every value being written once.
func settle(history []operation) []operation {
	type place struct {
		key   int
		value int64
	}
	firstRead := map[place]int64{}
	for _, o := range history {
		if o.write {
			continue
		}
		at := place{o.key, o.value}
		if end, read := firstRead[at]; !read || o.known < end {
			firstRead[at] = o.known
		}
	}
	settled := make([]operation, 0, len(history))
	for _, o := range history {
		if o.write && o.open() {
			end, read := firstRead[place{o.key, o.value}]
			if !read {
				continue
			}
			// A read that ended before the write began read it from nowhere: the
			// checker says so.
			o.known = max(end, o.sent)
		}
		settled = append(settled, o)
	}
	return settled
}

// register is what one key must behave like: a read sees the last write.
var register = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, _ any) (bool, any) {
		o, _ := input.(operation)
		if o.write {
			return true, o.value
		}
		return state == o.value, state
	},
	DescribeOperation: func(input, _ any) string {
		o, _ := input.(operation)
		if o.write {
			return fmt.Sprintf("write %d", o.value)
		}
		return fmt.Sprintf("read %d", o.value)
	},
}

// notLinearizable says which register no order of the operations explains.
type notLinearizable struct {
	key  int
	info porcupine.LinearizationInfo
}

func (e *notLinearizable) Error() string {
	return fmt.Sprintf("register %d: %s", e.key, historyWrong)
}

// linearizable decides whether every register behaved like one that a single
// host serves. It takes one register after the other: a long history needs much
// memory.
func linearizable(history []operation, within time.Duration) error {
	byKey := map[int][]porcupine.Operation{}
	for _, o := range settle(history) {
		byKey[o.key] = append(byKey[o.key], porcupine.Operation{ClientId: o.client, Input: o, Call: o.sent, Return: o.known})
	}
	for _, key := range sortedKeys(byKey) {
		switch result, info := porcupine.CheckOperationsVerbose(register, byKey[key], within); result {
		case porcupine.Illegal:
			return &notLinearizable{key: key, info: info}
		case porcupine.Unknown:
			return fmt.Errorf("register %d: not decided within %v over %d operations", key, within, len(byKey[key]))
		}
	}
	return nil
}

func sortedKeys[V any](m map[int]V) []int {
	keys := make([]int, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
