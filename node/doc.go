// Package node is one data host: it puts log, network, groups, replicas and
// doors together, starts them in order and stops them in the reverse order.
//
// It decides nothing: what a part does stands in the part's own package.
package node
