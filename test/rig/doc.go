// Package rig runs a whole cluster as processes on this machine: an arbitrator
// and data hosts, each in a network namespace and on a disk of its own, so that
// each of them can be killed, frozen, cut off, and have its disk hang.
//
// It needs root. It names everything it makes after its own prefix and touches
// nothing else.
package rig
