// Package failovers has a test that hurts the master of a real pair in every way
// that there is, and asks SHOW FAILOVERS what had happened. It is no test of
// outages; those are measured by test/bench/faults.
//
// It needs root, and runs only when asked: go test ./test/failovers -rig. With
// -rounds every fault happens more often.
package failovers
