// Package host keeps one data host equal to the cluster's record: it founds or
// joins a cluster, opens, creates and removes this host's replicas as the mnode
// has written down, reports to the mnode master, and carries requests to the
// host that leads a group.
//
// It decides nothing about the cluster (that is package mnode) and nothing
// about elections (that is package consensus); it runs no SQL.
//
// What a host must remember stands in its record, one small file that is
// replaced whole: who it is, and which replicas it ever held. A replica that
// the record calls held and the log does not know is lost: it is never made
// anew under its old id (R40), the host says so and serves the rest.
package host
