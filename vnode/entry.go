package vnode

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// A log entry is a batch of statements that the leader has stamped:
// docs/format/log-entry.md describes the bytes.
//
//	byte     version
//	uint64   stamp of the first statement; statement i has this plus i
//	uint64   origin: the cluster that the statements were first written in
//	uvarint  remember: ids in entries from this index on are known (R46)
//	uvarint  statements, and for each of them:
//	         byte kind | hasID, [uint64 boot, uvarint sequence], bytes body
const (
	entryVersion = 1
	hasID        = 0x80
)

// entryHead is what an entry says about all its statements.
type entryHead struct {
	first    hlc.Stamp
	origin   id.Cluster
	remember id.Index
	count    int
}

// The bounds of one entry.
const (
	maxEntryBytes      = 512 << 10 // an entry takes no further statement above it
	maxEntryStatements = 1<<16 - 1
	entryHeadBytes     = 1 + 8 + 8 + 2*binary.MaxVarintLen64
)

func appendEntryHead(dst []byte, h entryHead) []byte {
	dst = append(dst, entryVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.first))
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.origin))
	dst = binary.AppendUvarint(dst, uint64(h.remember))
	return binary.AppendUvarint(dst, uint64(h.count))
}

// entryHead reads the head of an entry; d then stands before its statements.
func (d *decoder) entryHead() entryHead {
	if v := d.byte(); d.err == nil {
		d.stop(checkVersion("entry", v, entryVersion))
	}
	h := entryHead{first: hlc.Stamp(d.uint64()), origin: id.Cluster(d.uint64()), remember: id.Index(d.uvarint())}
	h.count = d.count(2)
	if d.err == nil && (h.count == 0 || h.count > maxEntryStatements || h.first > math.MaxUint64-maxEntryStatements) {
		d.fail("entry without statements, or with too many")
	}
	return h
}

// statement reads one statement of an entry, its body not yet taken apart.
func (d *decoder) statement() (kind opKind, who StatementID, body []byte) {
	mark := d.byte()
	if mark&hasID != 0 {
		who = StatementID{Boot: d.uint64(), Seq: d.uvarint()}
	}
	return opKind(mark &^ hasID), who, d.bytes()
}

// appendStatement appends a statement around its body.
func appendStatement(dst []byte, kind opKind, who StatementID, body []byte) []byte {
	if who.IsZero() {
		dst = append(dst, byte(kind))
	} else {
		dst = append(dst, byte(kind)|hasID)
		dst = binary.BigEndian.AppendUint64(dst, who.Boot)
		dst = binary.AppendUvarint(dst, who.Seq)
	}
	return appendBytes(dst, body)
}

// The two ways in which an insert names a table, and whether its rows carry a
// stamp of their own.
const (
	refID      = 0x00
	refUsing   = 0x01
	refForeign = 0x10
)

// insertTable is the part of an insert that is about one table.
type insertTable struct {
	id      objectID // zero: by name, to be created if it does not exist
	name    string
	stable  string
	under   objectID // the id of stable, whose columns the blocks have
	tags    []sql.Value
	own     version // zero: that of the statement
	foreign bool
	blocks  int // how many follow
}

func appendInsertTable(dst []byte, t *insertTable) []byte {
	ref := byte(refID)
	if t.id == 0 {
		ref = refUsing
	}
	if t.foreign {
		ref |= refForeign
	}
	dst = append(dst, ref)
	if t.id != 0 {
		dst = binary.AppendUvarint(dst, uint64(t.id))
	} else {
		dst = appendBytes(dst, t.name)
		dst = appendBytes(dst, t.stable)
		dst = binary.AppendUvarint(dst, uint64(t.under))
		dst = appendValues(dst, t.tags)
	}
	if t.foreign {
		dst = binary.BigEndian.AppendUint64(dst, uint64(t.own.stamp))
		dst = binary.BigEndian.AppendUint64(dst, uint64(t.own.origin))
	}
	return binary.AppendUvarint(dst, uint64(t.blocks))
}

func (d *decoder) insertTable() insertTable {
	var t insertTable
	ref := d.byte()
	switch ref &^ refForeign {
	case refID:
		if t.id = objectID(d.uvarint()); t.id == 0 {
			d.fail("table 0")
		}
	case refUsing:
		t.name, t.stable, t.under, t.tags = d.name(), d.name(), objectID(d.uvarint()), d.values(MaxTags)
	default:
		d.fail("bad reference to a table")
	}
	if ref&refForeign != 0 {
		t.foreign = true
		t.own = version{stamp: hlc.Stamp(d.uint64()), origin: id.Cluster(d.uint64())}
	}
	t.blocks = d.count(2)
	return t
}

// name is a text that may be a name.
func (d *decoder) name() string {
	s := d.text()
	if d.err == nil && (len(s) == 0 || len(s) > MaxNameBytes) {
		d.fail("bad name")
	}
	return s
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// appendOp appends the body of everything but an insert, which write.go makes.
func appendOp(dst []byte, op Op) []byte {
	switch op := op.(type) {
	case CreateStable:
		dst = appendBool(appendBytes(dst, op.Name), op.IfNotExists)
		return appendColumns(appendColumns(dst, op.Columns), op.Tags)
	case CreateTable:
		return appendColumns(appendBool(appendBytes(dst, op.Name), op.IfNotExists), op.Columns)
	case CreateChild:
		dst = appendBool(appendBytes(dst, op.Name), op.IfNotExists)
		return appendValues(appendBytes(dst, op.Using.Stable), op.Using.Tags)
	case DropTable:
		return appendBool(appendBytes(dst, op.Name), op.IfExists)
	case DropStable:
		return appendBool(appendBytes(dst, op.Name), op.IfExists)
	case AddColumn:
		return appendColumn(appendBytes(dst, op.Name), op.Column)
	case DropColumn:
		return appendBytes(appendBytes(dst, op.Name), op.Column)
	case SetTags:
		dst = binary.AppendUvarint(appendBytes(dst, op.Table), uint64(len(op.Names)))
		for _, name := range op.Names {
			dst = appendBytes(dst, name)
		}
		return appendValues(dst, op.Tags)
	case Note:
		return appendBytes(appendBytes(dst, op.Key), op.Value)
	}
	panic("vnode: statement of an unknown kind")
}

// op reads what appendOp wrote, and proves what Apply relies on.
func (d *decoder) op(kind opKind) Op {
	switch kind {
	case opCreateStable:
		op := CreateStable{Name: d.name(), IfNotExists: d.byte() != 0}
		op.Columns, op.Tags = d.tableColumns(), d.columns(MaxTags)
		return op
	case opCreateTable:
		return CreateTable{Name: d.name(), IfNotExists: d.byte() != 0, Columns: d.tableColumns()}
	case opCreateChild:
		op := CreateChild{Name: d.name(), IfNotExists: d.byte() != 0}
		op.Using = Using{Stable: d.name(), Tags: d.values(MaxTags)}
		return op
	case opDropTable:
		return DropTable{Name: d.name(), IfExists: d.byte() != 0}
	case opDropStable:
		return DropStable{Name: d.name(), IfExists: d.byte() != 0}
	case opAddColumn:
		return AddColumn{Name: d.name(), Column: d.column()}
	case opDropColumn:
		return DropColumn{Name: d.name(), Column: d.name()}
	case opSetTags:
		op := SetTags{Table: d.name()}
		for n := d.count(2); n > 0 && d.err == nil; n-- {
			op.Names = append(op.Names, d.name())
		}
		if op.Tags = d.values(MaxTags); len(op.Tags) != len(op.Names) {
			d.fail("as many tags as names are not there")
		}
		return op
	case opNote:
		return Note{Key: d.name(), Value: d.bytes()}
	}
	d.stop(fmt.Errorf("statement of kind %d: %w", kind, ErrNewer))
	return nil
}

// tableColumns is the columns of a table, the first of them its timestamp.
func (d *decoder) tableColumns() []sql.Column {
	columns := d.columns(MaxColumns)
	if d.err == nil && (len(columns) == 0 || columns[0].Type != sql.TypeTimestamp) {
		d.fail("table without a timestamp")
	}
	return columns
}
