package main

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

func TestLinearizable(t *testing.T) {
	write := func(value, sent, known int64) operation {
		return operation{write: true, value: value, sent: sent, known: known}
	}
	read := func(value, sent, known int64) operation {
		return operation{value: value, sent: sent, known: known}
	}
	for _, c := range []struct {
		name    string
		history []operation
		want    bool
	}{
		{"nothing", nil, true},
		{"an empty register", []operation{read(0, 1, 2)}, true},
		{"one after the other", []operation{write(1, 1, 2), read(1, 3, 4), write(2, 5, 6), read(2, 7, 8)}, true},
		{"a read beside a write sees either", []operation{write(1, 1, 2), write(2, 3, 6), read(1, 4, 5), read(2, 4, 5)}, true},
		{"a stale read", []operation{write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)}, false},
		{"back in time", []operation{write(1, 1, 2), write(2, 3, 9), read(2, 4, 5), read(1, 6, 7)}, false},
		{"a lost write", []operation{write(1, 1, 2), read(0, 3, 4)}, false},
		{"a value that nobody wrote", []operation{read(7, 1, 2)}, false},
		{"an unknown write takes effect late", []operation{write(1, 1, openEnd), write(2, 2, 3), read(2, 4, 5), read(1, 6, 7)}, true},
		{"and stays", []operation{write(1, 1, openEnd), write(2, 2, 3), read(1, 4, 5), read(2, 6, 7)}, false},
		{"or not at all", []operation{write(1, 1, openEnd), write(2, 2, 3), read(2, 4, 5)}, true},
		{"but not before it was sent", []operation{read(1, 1, 2), write(1, 3, openEnd)}, false},
		{"a repeated old value over a newer one", []operation{write(1, 1, openEnd), write(2, 5, 6), read(1, 7, 8), read(2, 9, 10)}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := linearizable(c.history, time.Minute)
			var violation *notLinearizable
			if c.want && err != nil || !c.want && !errors.As(err, &violation) {
				t.Errorf("got %v, want linearizable: %v", err, c.want)
			}
		})
	}
}

// TestSettledHistoriesDecideTheSame compares the settled form with the one in
// which every unknown write stays open to the end.
func TestSettledHistoriesDecideTheSame(t *testing.T) {
	verdicts := map[bool]int{}
	for seed := range uint64(3000) {
		history := randomHistory(rand.New(rand.NewPCG(seed, 1)))
		var open []porcupine.Operation
		for _, o := range history {
			open = append(open, porcupine.Operation{ClientId: o.client, Input: o, Call: o.sent, Return: o.known})
		}
		want := porcupine.CheckOperations(register, open)
		got := linearizable(history, time.Minute) == nil
		if got != want {
			t.Fatalf("seed %d: settled %v, open %v: %+v", seed, got, want, history)
		}
		verdicts[want]++
	}
	if verdicts[true] < 300 || verdicts[false] < 300 {
		t.Errorf("the histories say little: %v", verdicts)
	}
}

// randomHistory runs a few operations on a real register whose writes sometimes
// take effect late or never, and reads sometimes see the past.
func randomHistory(r *rand.Rand) []operation {
	var history []operation
	var late []int64 // values that may still come
	var past []int64
	now, state := int64(0), int64(0)
	for n := range 4 + r.IntN(10) {
		now += 1 + int64(r.IntN(3))
		o := operation{client: n % 3, sent: now - int64(r.IntN(4)), known: now + int64(r.IntN(4))}
		if len(late) > 0 && r.IntN(3) == 0 {
			state, late = late[0], late[1:]
		}
		if o.write = r.IntN(2) == 0; o.write {
			o.value = int64(n + 1)
			if r.IntN(3) == 0 {
				o.known = openEnd
				late = append(late, o.value)
			} else {
				state = o.value
			}
			past = append(past, o.value)
		} else {
			o.value = state
			if len(past) > 0 && r.IntN(4) == 0 {
				o.value = past[r.IntN(len(past))]
			}
		}
		history = append(history, o)
	}
	return history
}
