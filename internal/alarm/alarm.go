// Package alarm says what an alarm is, and which there are.
//
// It finds nothing: whoever looks at a cluster hands it findings, and a Board
// makes alarms of those that last. It reads no clock and logs nothing.
package alarm

import (
	"fmt"
	"slices"
	"time"
)

// Code is the word that an alarm is known by, in SQL, metrics, logs and the
// manual alike. docs/operate/alerts.md has a paragraph on each.
type Code string

// The codes. Names are part of the face: scripts and alert rules match them.
const (
	NoMaster              Code = "NO_MASTER"
	CutOff                Code = "CUT_OFF"
	OldCopy               Code = "OLD_COPY"
	Faulty                Code = "FAULTY"
	DiskFull              Code = "DISK_FULL"
	DiskHung              Code = "DISK_HUNG"
	HostOffline           Code = "HOST_OFFLINE"
	Async                 Code = "ASYNC"
	ArbitratorUnreachable Code = "ARBITRATOR_UNREACHABLE"
	Tainted               Code = "TAINTED"
	WrongWitness          Code = "WRONG_WITNESS"
	RemovalBlocked        Code = "REMOVAL_BLOCKED"
	SettingsDiffer        Code = "SETTINGS_DIFFER"
	ClockApart            Code = "CLOCK_APART"
	DiskNearlyFull        Code = "DISK_NEARLY_FULL"
	NoArbitrator          Code = "NO_ARBITRATOR"
	DefaultPassword       Code = "DEFAULT_PASSWORD"
	SyncRecover           Code = "SYNC_RECOVER"
)

// Level says how soon someone must come.
type Level uint8

// The levels, the mildest first. The zero value is none of them, so that a code
// that is missing in the table shows.
const (
	Notice   Level = iota + 1 // it heals by itself
	Warning                   // service is whole, the next failure may end it
	Critical                  // service or safety suffers now
)

func (l Level) String() string {
	switch l {
	case Notice:
		return "notice"
	case Warning:
		return "warning"
	case Critical:
		return "critical"
	}
	return fmt.Sprintf("level %d", uint8(l))
}

// kind is what all alarms of one code share.
type kind struct {
	code  Code
	level Level
	// after is how long it must be so before it is an alarm: what an election
	// or a restart of a program heals in passing is none.
	after time.Duration
}

const (
	passing    = 3 * time.Second  // longer than any election, and than a restarted host takes to come back
	selfHealed = 5 * time.Second  // longer than the cluster takes to enrol an arbitrator anew
	lasting    = 10 * time.Second // R36; two pulses of the feed
)

// kinds lists all there are. Of one level, those that explain others come first.
var kinds = []kind{
	{NoMaster, Critical, passing},
	{CutOff, Critical, passing},
	{OldCopy, Critical, 0},
	{Faulty, Critical, 0},
	{DiskFull, Critical, 0},
	{DiskHung, Critical, 0},
	{HostOffline, Warning, passing},
	{Async, Warning, passing},
	{ArbitratorUnreachable, Warning, lasting},
	{Tainted, Warning, selfHealed},
	{WrongWitness, Warning, selfHealed},
	{RemovalBlocked, Warning, 0},
	{SettingsDiffer, Warning, 0},
	{ClockApart, Warning, lasting},
	{DiskNearlyFull, Warning, 0},
	{NoArbitrator, Warning, 0},
	{DefaultPassword, Warning, 0},
	{SyncRecover, Notice, lasting},
}

// rank is the place of a code in kinds.
func (c Code) rank() int { return slices.IndexFunc(kinds, func(k kind) bool { return k.code == c }) }

// kind is what the alarms of a code share; nothing for a code that is none.
func (c Code) kind() kind {
	if i := c.rank(); i >= 0 {
		return kinds[i]
	}
	return kind{}
}

// Finding is something wrong, seen at one look. Texts carry no number that
// changes by itself: an alarm that lasts reads the same all the time.
type Finding struct {
	Code   Code   `json:"code"`
	Object string `json:"object"` // what it is about: "dnode 2", "arbitrator", "database plant", ...
	What   string `json:"what"`   // one sentence without a full stop
	Next   string `json:"next"`   // what to do, likewise
}

// Alarm is a finding that has lasted.
type Alarm struct {
	Finding
	Level Level
	Since time.Time // when it was first seen
}
