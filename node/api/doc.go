// Package api is what all doors of a host share: the HTTP server with its
// limits, who may come in, and the one table from errors to codes.
//
// It speaks no client protocol itself: each door registers the paths that it
// serves.
package api
