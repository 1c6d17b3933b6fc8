// Package rest is the REST door: one SQL statement in the body of a request,
// one JSON answer, as existing clients of TDengine expect them.
//
// It runs nothing itself and keeps nothing between two requests.
package rest
