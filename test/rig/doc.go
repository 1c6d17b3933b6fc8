// Package rig runs whole clusters as processes on this machine: an arbitrator
// and two data hosts, each in a network namespace and, if wanted, on a disk of
// its own, so that each of them can be killed, frozen, cut off in one direction
// or both, and have its disk hang, fill up and break.
//
// It needs root. It names everything it makes after its own prefix and touches
// nothing else. Any number of rigs run side by side.
package rig
