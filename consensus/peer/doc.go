// Package peer carries messages between the hosts of a cluster and its
// arbitrator: the types of what is said, their bytes, and the connections.
//
// It decides nothing about Raft: it may lose, delay and repeat what it is
// given, and says so, but never alters it.
package peer
