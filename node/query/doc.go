// Package query runs parsed statements: it finds the groups that hold the
// tables, sends each its part, waits for masters and puts the answers together.
//
// It keeps no state of a statement beyond its life and stores nothing: what is
// replicated lives in mnode and vnode, and node/host knows the way to both.
package query
