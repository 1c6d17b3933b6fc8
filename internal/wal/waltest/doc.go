// Package waltest holds a disk in memory that forgets what was not synced, for
// tests of the log and for the simulation.
//
// It holds no copy of the log's logic: a test runs the real log on it.
package waltest
