package vnode

import (
	"errors"
	"fmt"
)

// The reasons why a statement can't be carried out. Nothing of it was stored
// unless the error says otherwise.
var (
	ErrNoTable      = errors.New("table does not exist")
	ErrTableExists  = errors.New("table already exists")
	ErrNoStable     = errors.New("super table does not exist")
	ErrStableExists = errors.New("super table already exists")
	ErrNoColumn     = errors.New("column does not exist")
	ErrColumnExists = errors.New("column already exists")
	ErrNoTag        = errors.New("tag does not exist")
	// ErrSchemaChanged means that the table's columns were altered while the
	// statement was on its way. It is safe to repeat it.
	ErrSchemaChanged = errors.New("table was altered meanwhile")
	ErrOutOfRange    = errors.New("timestamp out of range")
	ErrTooLong       = errors.New("value too long")
	ErrWrongType     = errors.New("value of a wrong type")
	ErrBadStatement  = errors.New("statement can't be carried out")
	// ErrTooLarge means that the statement exceeds MaxStatementBytes.
	ErrTooLarge = errors.New("statement too large")
	// ErrReplaying means that this replica has not yet applied again everything
	// that it had applied before its last stop. It passes by itself.
	ErrReplaying = errors.New("replica is still replaying its log")
	// ErrClosed means that the replica was closed. Nothing was proposed.
	ErrClosed = errors.New("replica closed")
	// ErrReplaced means that the replica's state was replaced by a copy of another
	// one's while it was read. Repeat it; it is an ErrReplaying.
	ErrReplaced = fmt.Errorf("state was replaced while it was read: %w", ErrReplaying)
	// ErrCorrupt means that stored or received bytes are not what this version
	// writes.
	ErrCorrupt = errors.New("corrupt data")
	// ErrNewer means that a newer version wrote what this one can't read. Its
	// replica stops: going on without it would make it differ from the others.
	ErrNewer = errors.New("a newer version of tnode wrote it: upgrade this host")
)

// fault is the outcome of a statement as the log's memory keeps it (R46): zero
// is success. The numbers are part of the format of the store.
type fault uint8

const (
	faultNone fault = iota
	faultNoTable
	faultTableExists
	faultNoStable
	faultStableExists
	faultNoColumn
	faultColumnExists
	faultNoTag
	faultSchemaChanged
	faultBadStatement
)

var faultErrors = [...]error{
	faultNone:          nil,
	faultNoTable:       ErrNoTable,
	faultTableExists:   ErrTableExists,
	faultNoStable:      ErrNoStable,
	faultStableExists:  ErrStableExists,
	faultNoColumn:      ErrNoColumn,
	faultColumnExists:  ErrColumnExists,
	faultNoTag:         ErrNoTag,
	faultSchemaChanged: ErrSchemaChanged,
	faultBadStatement:  ErrBadStatement,
}

// err is the error that a caller sees, nil for faultNone.
func (f fault) err() error {
	if int(f) >= len(faultErrors) {
		return fmt.Errorf("%w (outcome %d)", ErrBadStatement, f)
	}
	return faultErrors[f]
}

// checkVersion is the error of something whose format has a version that this one
// does not know.
func checkVersion(what string, got, known byte) error {
	switch {
	case got == known:
		return nil
	case got > known:
		return fmt.Errorf("%s of version %d: %w", what, got, ErrNewer)
	}
	return corruptf("%s of version %d", what, got)
}

// corruptf is an ErrCorrupt with what is wrong.
func corruptf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}
