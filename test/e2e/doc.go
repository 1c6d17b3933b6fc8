// Package e2e runs the real programs as processes on loopback addresses and
// looks at what a client sees. It needs no root.
package e2e
