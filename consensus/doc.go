// Package consensus runs all Raft groups of one host: data replicas with an
// arbitrator that is told nothing while the data replicas agree.
//
// It has two halves. Machine is pure: events in, effects out, no clock, no
// goroutine, no file, no socket; every rule of docs/quorum.md that concerns a
// data host lives in it. Host is its shell: it writes the log, talks to the
// carrier, calls the state machines, and holds no rule. The simulation in
// test/sim is a second shell around the same Machine.
//
// It is not the arbitrator: the two share only the wire types of
// consensus/peer.
package consensus
