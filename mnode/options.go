package mnode

import (
	"fmt"
	"slices"
	"strings"
)

const minutesPerDay = 24 * 60

// The bounds of database options (SQL reference of the manual).
const (
	// MaxReplica is the most data replicas that a group may have.
	MaxReplica = 4
	// MaxVgroups is the most shards of one database.
	MaxVgroups  = 1024
	minKeep     = minutesPerDay
	maxKeep     = 365000 * minutesPerDay
	maxOthers   = 64
	maxOption   = 1 << 10
	maxDatabase = 64
)

// Options are the properties of a database. Replica, Vgroups, Keep and
// Precision have effect; Others are accepted and shown.
type Options struct {
	Replica   int      // data replicas, 1 to 4; default 1
	Vgroups   int      // shards, 1 to 1024; default 2
	Precision string   // "ms", "us" or "ns"; default "ms"
	Strict    bool     // shown only; default true
	Others    []Option // by name

	// KeepMinutes is the age from which rows are refused and dropped; default
	// 3650 days. 365000 days, which are allowed, do not fit a time.Duration.
	KeepMinutes int64
	// DurationMinutes is shown only; default 10 days.
	DurationMinutes int64
}

// Option is an option that is stored and shown but has no effect.
type Option struct {
	Name  string
	Value string
}

// DefaultOptions returns what a database gets when nothing is said.
func DefaultOptions() Options {
	return Options{
		Replica: 1, Vgroups: 2, Precision: "ms", Strict: true,
		KeepMinutes: 3650 * minutesPerDay, DurationMinutes: 10 * minutesPerDay,
	}
}

// Other returns the value of an option without effect.
func (o Options) Other(name string) (string, bool) {
	for _, x := range o.Others {
		if x.Name == name {
			return x.Value, true
		}
	}
	return "", false
}

// Check reports the first option that is out of range.
func (o Options) Check() error {
	switch {
	case o.Replica < 1 || o.Replica > MaxReplica:
		return fail(CodeReplica, "Invalid replica: REPLICA %d, want 1 to %d", o.Replica, MaxReplica)
	case o.Vgroups < 1 || o.Vgroups > MaxVgroups:
		return fail(CodeOptions, "Invalid database options: VGROUPS %d, want 1 to %d", o.Vgroups, MaxVgroups)
	case o.KeepMinutes < minKeep || o.KeepMinutes > maxKeep:
		return fail(CodeOptions, "Invalid database options: KEEP %s, want 1 to 365000 days", Span(o.KeepMinutes))
	case o.Precision != "ms" && o.Precision != "us" && o.Precision != "ns":
		return fail(CodeOptions, "Invalid database options: PRECISION %q, want 'ms', 'us' or 'ns'", o.Precision)
	case len(o.Others) > maxOthers:
		return fail(CodeOptions, "Invalid database options: %d options, at most %d", len(o.Others), maxOthers)
	}
	for _, x := range o.Others {
		if len(x.Name) > maxOption || len(x.Value) > maxOption {
			return fail(CodeOptions, "Invalid database options: an option is longer than %d bytes", maxOption)
		}
	}
	return nil
}

// normal returns o in the one form in which equal options are equal bytes.
func (o Options) normal() Options {
	o.Others = slices.SortedFunc(slices.Values(o.Others), func(a, b Option) int { return strings.Compare(a.Name, b.Name) })
	return o
}

// reserved names belong to the dialect itself: clients expect its own tables
// there.
var reserved = []string{"information_schema", "performance_schema"}

func checkDatabaseName(name string) error {
	if slices.ContainsFunc(reserved, func(r string) bool { return strings.EqualFold(r, name) }) {
		return fail(CodeOptions, "Invalid database options: name %s is reserved", name)
	}
	if name == "" || len(name) > maxDatabase || strings.ContainsAny(name, "./`\x00") {
		return fail(CodeOptions, "Invalid database options: name %q, want 1 to %d bytes without . / and back quote", name, maxDatabase)
	}
	return nil
}

// String prints the options as CREATE DATABASE takes them.
func (o Options) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "REPLICA %d VGROUPS %d KEEP %s DURATION %s PRECISION '%s'",
		o.Replica, o.Vgroups, Span(o.KeepMinutes), Span(o.DurationMinutes), o.Precision)
	for _, x := range o.Others {
		fmt.Fprintf(&b, " %s %s", strings.ToUpper(x.Name), x.Value)
	}
	return b.String()
}

// Span prints minutes as options show them: 10d, 90m.
func Span(minutes int64) string {
	switch {
	case minutes%minutesPerDay == 0:
		return fmt.Sprintf("%dd", minutes/minutesPerDay)
	case minutes%60 == 0:
		return fmt.Sprintf("%dh", minutes/60)
	}
	return fmt.Sprintf("%dm", minutes)
}
