package sql

import (
	"fmt"
	"time"
)

// Type is the type of a column, a tag or a value. The numbers are those of the
// TDengine wire formats and are part of ours.
type Type uint8

// The types. TypeNull is the type of a NULL that no column has given one yet.
const (
	TypeNull      Type = 0
	TypeBool      Type = 1
	TypeTinyInt   Type = 2
	TypeSmallInt  Type = 3
	TypeInt       Type = 4
	TypeBigInt    Type = 5
	TypeFloat     Type = 6
	TypeDouble    Type = 7
	TypeVarchar   Type = 8 // also written BINARY
	TypeTimestamp Type = 9
	TypeNChar     Type = 10
	TypeUTinyInt  Type = 11
	TypeUSmallInt Type = 12
	TypeUInt      Type = 13
	TypeUBigInt   Type = 14
	TypeJSON      Type = 15
	TypeVarBinary Type = 16
	TypeDecimal   Type = 17
	TypeBlob      Type = 18
	TypeGeometry  Type = 20
)

// Storage says which slice of a Values holds the values of a type.
type Storage uint8

// The storages.
const (
	StoreNone   Storage = iota // TypeNull, and what this version does not store
	StoreInts                  // booleans (0 and 1), integers, timestamps; BIGINT UNSIGNED by its bits
	StoreFloats                // FLOAT (rounded to 32 bits) and DOUBLE
	StoreBytes                 // everything of varying length
)

// typeInfo is what every type needs to say of itself.
type typeInfo struct {
	name     string // as clients expect it in column_meta
	width    int    // in bytes; 0: varying
	storage  Storage
	min, max int64 // of the integers up to 32 bits unsigned and 64 bits signed
}

var types = [...]typeInfo{
	TypeNull:      {name: "NULL", width: 1},
	TypeBool:      {name: "BOOL", width: 1, storage: StoreInts, max: 1},
	TypeTinyInt:   {name: "TINYINT", width: 1, storage: StoreInts, min: -1 << 7, max: 1<<7 - 1},
	TypeSmallInt:  {name: "SMALLINT", width: 2, storage: StoreInts, min: -1 << 15, max: 1<<15 - 1},
	TypeInt:       {name: "INT", width: 4, storage: StoreInts, min: -1 << 31, max: 1<<31 - 1},
	TypeBigInt:    {name: "BIGINT", width: 8, storage: StoreInts, min: -1 << 63, max: 1<<63 - 1},
	TypeFloat:     {name: "FLOAT", width: 4, storage: StoreFloats},
	TypeDouble:    {name: "DOUBLE", width: 8, storage: StoreFloats},
	TypeVarchar:   {name: "VARCHAR", storage: StoreBytes},
	TypeTimestamp: {name: "TIMESTAMP", width: 8, storage: StoreInts, min: -1 << 63, max: 1<<63 - 1},
	TypeNChar:     {name: "NCHAR", storage: StoreBytes},
	TypeUTinyInt:  {name: "TINYINT UNSIGNED", width: 1, storage: StoreInts, max: 1<<8 - 1},
	TypeUSmallInt: {name: "SMALLINT UNSIGNED", width: 2, storage: StoreInts, max: 1<<16 - 1},
	TypeUInt:      {name: "INT UNSIGNED", width: 4, storage: StoreInts, max: 1<<32 - 1},
	TypeUBigInt:   {name: "BIGINT UNSIGNED", width: 8, storage: StoreInts},
	TypeJSON:      {name: "JSON", storage: StoreBytes},
	TypeVarBinary: {name: "VARBINARY", storage: StoreBytes},
	TypeDecimal:   {name: "DECIMAL"},
	TypeBlob:      {name: "BLOB", storage: StoreBytes},
	TypeGeometry:  {name: "GEOMETRY", storage: StoreBytes},
}

// Valid reports whether t is one of the types above.
func (t Type) Valid() bool { return int(t) < len(types) && types[t].name != "" }

// String is the name that clients expect in column_meta: upper case, VARCHAR
// for BINARY.
func (t Type) String() string {
	if !t.Valid() {
		return fmt.Sprintf("type %d", uint8(t))
	}
	return types[t].name
}

// Width is the number of bytes of a value, or zero if it varies.
func (t Type) Width() int { return types[t].width }

// Storage says where a Values keeps values of this type.
func (t Type) Storage() Storage { return types[t].storage }

// Integer reports whether t is an integer type, signed or not.
func (t Type) Integer() bool {
	return t >= TypeTinyInt && t <= TypeBigInt || t >= TypeUTinyInt && t <= TypeUBigInt
}

// Numeric reports whether t is an integer or floating-point type.
func (t Type) Numeric() bool { return t.Integer() || t.Storage() == StoreFloats }

// Precision is the unit of the timestamps of a database. The numbers are
// TDengine's.
type Precision uint8

// The precisions.
const (
	Millisecond Precision = 0
	Microsecond Precision = 1
	Nanosecond  Precision = 2
)

// String is the text of the PRECISION option: ms, us or ns.
func (p Precision) String() string {
	if p > Nanosecond {
		return fmt.Sprintf("precision %d", uint8(p))
	}
	return [...]string{"ms", "us", "ns"}[p]
}

// Unit is the duration that one step of a timestamp stands for.
func (p Precision) Unit() time.Duration {
	return [...]time.Duration{time.Millisecond, time.Microsecond, time.Nanosecond}[p]
}

// Of is the timestamp of t in this precision: what is finer is cut, not rounded
// (towards the past, also before 1970).
func (p Precision) Of(t time.Time) int64 {
	perSecond := int64(time.Second / p.Unit())
	return t.Unix()*perSecond + int64(t.Nanosecond())/int64(p.Unit())
}

// Time is the instant of a timestamp in this precision, in UTC.
func (p Precision) Time(ts int64) time.Time {
	perSecond := int64(time.Second / p.Unit())
	sec, rest := ts/perSecond, ts%perSecond
	return time.Unix(sec, rest*int64(p.Unit())).UTC()
}

// Column is the declaration of one column or tag.
type Column struct {
	Name string
	Type Type
	// Length is the declared size: bytes for VARCHAR, VARBINARY and GEOMETRY,
	// characters for NCHAR, precision for DECIMAL, the width for all others.
	Length int
	Scale  int // DECIMAL only
}

// Value is one value of any type: of a tag, a literal or a result. The zero
// value is NULL.
type Value struct {
	Type  Type
	Int   int64   // StoreInts
	Float float64 // StoreFloats
	Text  string  // StoreBytes
}

// IsNull reports whether v is NULL.
func (v Value) IsNull() bool { return v.Type == TypeNull }
