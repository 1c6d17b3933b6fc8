// Package faults has a test for the faults that two servers and a small third
// box meet: real programs, each in a network namespace of its own, some on a
// disk of its own. docs/operate/faults.md is the table of them.
//
// It needs root, and runs only when asked: go test ./test/faults -rig.
package faults
