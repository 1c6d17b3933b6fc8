package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tarbitrator/tarbitrator/client"
	"github.com/tarbitrator/tarbitrator/test/rig"
)

// registers are clients that read and write a few shared rows through both
// hosts and note everything they learn. A register is the row at one fixed
// timestamp of a table. Every try is one operation: what is repeated is
// repeated by the cluster itself, under one number (R46).
type registers struct {
	hosts   []string // end points
	keys    int
	http    *http.Client
	began   time.Time
	value   atomic.Int64 // the last one written: each is written once
	random  *rand.Rand   // where clients get theirs from
	clients []*registerClient
	load    *load // told what clients are told
}

// registerClient has one operation under way.
type registerClient struct {
	all     *registers
	number  int
	random  *rand.Rand
	host    int // which of the hosts it asks
	history []operation
	counts
}

// counts is how operations ended.
type counts struct {
	completed     int // with an answer that says what happened
	refused       int // certainly without effect
	unknownWrites int
	unknownReads  int
}

func (c *counts) add(o counts) {
	c.completed += o.completed
	c.refused += o.refused
	c.unknownWrites += o.unknownWrites
	c.unknownReads += o.unknownReads
}

// registerDatabase holds the registers, two groups of them.
const registerDatabase = "r"

func registerTable(key int) string { return fmt.Sprintf("%s.k%d", registerDatabase, key) }

func newRegisters(hosts []string, keys, clients int, random *rand.Rand, load *load) *registers {
	r := &registers{hosts: hosts, keys: keys, began: time.Now(), random: random, load: load, http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: clients, DialContext: (&net.Dialer{Timeout: 300 * time.Millisecond}).DialContext},
	}}
	for n := range clients {
		r.clients = append(r.clients, &registerClient{all: r, number: n, random: rand.New(rand.NewPCG(random.Uint64(), 0)), host: n})
	}
	return r
}

// prepare makes the tables of the registers.
func (r *registers) prepare(ctx context.Context, on *rig.Rig) error {
	if err := on.SQL(ctx, rig.A, "CREATE DATABASE "+registerDatabase+" REPLICA 2 VGROUPS 2"); err != nil {
		return err
	}
	for key := range r.keys {
		if err := on.SQL(ctx, rig.A, fmt.Sprintf("CREATE TABLE %s (ts TIMESTAMP, v BIGINT)", registerTable(key))); err != nil {
			return err
		}
	}
	return nil
}

// run keeps all clients busy until ctx ends.
func (r *registers) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, c := range r.clients {
		all.Go(func() { c.run(ctx) })
	}
	all.Wait()
}

// patience is how long a client waits for an answer. The impatient leave while
// their statement is under way; the patient see what the cluster's own
// repetitions come to.
var patience = []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second, 8 * time.Second}

// breath is the longest pause between two operations of a client: a checker has
// to get through all of them.
const breath = 60 * time.Millisecond

func (c *registerClient) run(ctx context.Context) {
	for ctx.Err() == nil {
		before := c.completed
		c.operate(c.all.hosts[c.host%len(c.all.hosts)], c.random.IntN(c.all.keys), c.random.IntN(2) == 0, patience[c.random.IntN(len(patience))])
		if c.completed == before || c.random.IntN(8) == 0 {
			c.host++ // to the other one: for an answer, or just so
		}
		timer := time.NewTimer(time.Duration(c.random.Int64N(int64(breath))))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// readAll reads every register at every host, after everything else.
func (r *registers) readAll(patience time.Duration) error {
	c := r.clients[0]
	for _, host := range r.hosts {
		for key := range r.keys {
			before := c.completed
			if c.operate(host, key, false, patience); c.completed == before {
				return fmt.Errorf("register %d can't be read at %s", key, host)
			}
		}
	}
	return nil
}

func (c *registerClient) operate(host string, key int, write bool, patience time.Duration) {
	o := operation{client: c.number, key: key, write: write}
	statement := fmt.Sprintf("SELECT v FROM %s WHERE ts = %d", registerTable(key), firstRow)
	if write {
		o.value = c.all.value.Add(1)
		statement = fmt.Sprintf("INSERT INTO %s VALUES (%d, %d)", registerTable(key), firstRow, o.value)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	o.sent = int64(time.Since(c.all.began))
	answer, err := rig.Ask(ctx, c.all.http, host, statement)
	o.known = int64(time.Since(c.all.began))
	var value int64
	end := unanswered
	if err == nil {
		value, end = judge(answer)
		if end == uncoded {
			c.all.load.report(fmt.Errorf("%s at %s is answered with a code that no client can act on: %s", statement, host, answer))
		} else if end != done {
			c.all.load.note(answer)
		}
	} else if dialFailed(err) {
		end = nothingDone
	}
	switch {
	case end == nothingDone:
		c.refused++
		return
	case end != done && !write:
		c.unknownReads++
		return
	case end != done:
		c.unknownWrites++
		o.known = openEnd
	default:
		c.completed++
	}
	if !write {
		o.value = value
	}
	c.history = append(c.history, o)
}

// ending is how an operation ended.
type ending int

const (
	unanswered ending = iota // it may have had an effect
	uncoded                  // an answer, and no wiser
	nothingDone
	done
)

// judge reads an answer. The codes that promise that nothing was stored are
// taken at their word: a value that shows up all the same was written by nobody.
func judge(answer string) (value int64, end ending) {
	var a struct {
		Code       int
		ColumnMeta [][]any `json:"column_meta"`
		Data       [][]json.Number
	}
	if err := json.Unmarshal([]byte(answer), &a); err != nil {
		return 0, unanswered
	}
	switch a.Code {
	case 0:
	case client.CodeOutOfService, client.CodeNoConnection, client.CodeNotReady, client.CodeRestoring,
		client.CodeNotLeader, client.CodeWriteStall, client.CodeBufferFull:
		return 0, nothingDone
	case client.CodeUnknownOutcome:
		return 0, unanswered
	default:
		return 0, uncoded
	}
	if len(a.Data) > 0 && len(a.Data[0]) == 1 {
		v, err := a.Data[0][0].Int64()
		if err != nil {
			return 0, unanswered
		}
		return v, done
	}
	return 0, done
}

func dialFailed(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

// history is everything that all clients have learnt, in the order of sending.
// Nobody may run meanwhile.
func (r *registers) history() []operation {
	var all []operation
	for _, c := range r.clients {
		all = append(all, c.history...)
	}
	slices.SortFunc(all, func(a, b operation) int { return cmp.Compare(a.sent, b.sent) })
	return all
}

func (r *registers) counts() (sum counts) {
	for _, c := range r.clients {
		sum.add(c.counts)
	}
	return sum
}
