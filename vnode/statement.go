package vnode

import (
	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// The limits of a statement.
const (
	// MaxStatementBytes bounds one encoded statement: the longest SQL text is
	// 1 MiB and a block is never larger than the text that it came from, except
	// for a few bytes a table.
	MaxStatementBytes = 2 << 20
	// MaxColumns bounds the columns of a table, the timestamp among them.
	MaxColumns = 4096
	// MaxTags bounds the tags of a super table.
	MaxTags = 128
	// MaxNameBytes bounds every name.
	MaxNameBytes = 192
	// maxTagBytes bounds the values of all tags of one table.
	maxTagBytes = 16 << 10
)

// StatementID names one statement of one gateway: a host's boot and a count
// since then. A statement that is proposed twice under the same id within
// RememberFor takes effect once (R46). Zero is no id.
type StatementID struct {
	Boot uint64
	Seq  uint64
}

// IsZero reports whether the statement has no id.
func (i StatementID) IsZero() bool { return i == StatementID{} }

// Statement is one thing to do, whole or not at all.
type Statement struct {
	ID StatementID
	Op Op
}

// Op is what a statement does: one of the types below.
type Op interface{ kind() opKind }

type (
	// CreateStable creates a super table. Columns starts with the timestamp.
	CreateStable struct {
		Name        string
		Columns     []sql.Column
		Tags        []sql.Column
		IfNotExists bool
	}

	// CreateTable creates a plain table. Columns starts with the timestamp.
	CreateTable struct {
		Name        string
		Columns     []sql.Column
		IfNotExists bool
	}

	// CreateChild creates a table that takes its columns from a super table.
	CreateChild struct {
		Name        string
		Using       Using
		IfNotExists bool
	}

	// DropTable removes a plain or child table and its rows.
	DropTable struct {
		Name     string
		IfExists bool
	}

	// DropStable removes a super table, its child tables and their rows.
	DropStable struct {
		Name     string
		IfExists bool
	}

	// AddColumn adds a column to a super table or a plain table; rows written
	// before have NULL in it.
	AddColumn struct {
		Name   string
		Column sql.Column
	}

	// DropColumn removes a column of a super table or a plain table.
	DropColumn struct {
		Name   string
		Column string
	}

	// SetTags changes tags of a child table.
	SetTags struct {
		Table string
		Names []string
		Tags  []sql.Value
	}

	// Insert stores rows, replacing those of equal timestamps.
	Insert struct{ Tables []TableRows }

	// Note keeps a small value under a key, in the same commit as whatever else
	// stands in the statement's entry: where a pipe has got to.
	Note struct {
		Key   string
		Value []byte
	}
)

// Using names a super table and the tags of a child table. Without TagNames the
// tags stand in the order of the super table; tags that are not named are NULL.
type Using struct {
	Stable   string
	TagNames []string
	Tags     []sql.Value
}

// TableRows is the rows for one table. Rows may come in any order and in any
// subset of the table's columns, which are found by name; of rows with equal
// timestamps the last one counts. With Using a table that does not exist is
// created.
type TableRows struct {
	Table string
	Using *Using
	Rows  *sql.Rows
	// Stamp and Origin are set by pipes only: rows of another cluster keep the
	// stamp that they were given there. Zero means this cluster, now.
	Stamp  hlc.Stamp
	Origin id.Cluster
}

// Result is what a statement that was carried out has done.
type Result struct {
	Rows    int64 // rows stored
	Existed bool  // IF NOT EXISTS or IF EXISTS left things as they were
}

// opKind is the number of an Op in the log.
type opKind uint8

const (
	opInsert       opKind = 1
	opCreateStable opKind = 2
	opCreateTable  opKind = 3
	opCreateChild  opKind = 4
	opDropTable    opKind = 5
	opDropStable   opKind = 6
	opAddColumn    opKind = 7
	opDropColumn   opKind = 8
	opSetTags      opKind = 9
	opNote         opKind = 10
)

func (CreateStable) kind() opKind { return opCreateStable }
func (CreateTable) kind() opKind  { return opCreateTable }
func (CreateChild) kind() opKind  { return opCreateChild }
func (DropTable) kind() opKind    { return opDropTable }
func (DropStable) kind() opKind   { return opDropStable }
func (AddColumn) kind() opKind    { return opAddColumn }
func (DropColumn) kind() opKind   { return opDropColumn }
func (SetTags) kind() opKind      { return opSetTags }
func (Insert) kind() opKind       { return opInsert }
func (Note) kind() opKind         { return opNote }
