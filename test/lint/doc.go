// Package lint holds the checks on the tree itself: which package may import
// which, and that every package says what it is for. It has no code of its own
// beside its tests.
package lint
