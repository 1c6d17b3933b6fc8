package sql

// Statement is one parsed statement: a pointer to one of the structs of this
// package that say so.
type Statement interface {
	// String is the statement in one spelling, which parses to an equal
	// statement; an Insert gives its own text. Passwords are hidden, so what it
	// returns may be logged.
	String() string
	statement()
}

// TableName names a table. Database is empty where the statement named none.
type TableName struct {
	Database string
	Name     string
}

// EndPoint is the address of a host. Port is zero where the statement named
// none.
type EndPoint struct {
	Host string
	Port uint16
}

// CreateDnode is CREATE DNODE 'fqdn:port' and its other spellings.
type CreateDnode struct {
	EndPoint EndPoint
}

// DropDnode is DROP DNODE, by number or by end point: exactly one is set.
type DropDnode struct {
	ID       uint32
	EndPoint EndPoint
	Force    bool // drop an offline one
	Unsafe   bool // accept that data without another replica is lost
}

// RestoreDnode is RESTORE DNODE id.
type RestoreDnode struct{ ID uint32 }

// AlterArbitrator is ALTER CLUSTER ARBITRATOR 'host:port', or ” for none: then
// EndPoint is zero. It is ours.
type AlterArbitrator struct{ EndPoint EndPoint }

// CreateMnode is CREATE MNODE ON DNODE id.
type CreateMnode struct{ Dnode uint32 }

// DropMnode is DROP MNODE ON DNODE id.
type DropMnode struct{ Dnode uint32 }

// CreateDatabase is CREATE DATABASE. Options holds the defaults where the
// statement says nothing; Given is what it says.
type CreateDatabase struct {
	Name        string
	IfNotExists bool
	Options     DatabaseOptions
	Given       []Setting
}

// AlterDatabase is ALTER DATABASE. Apply Given to the options in force.
type AlterDatabase struct {
	Name  string
	Given []Setting
}

// DropDatabase is DROP DATABASE.
type DropDatabase struct {
	Name     string
	IfExists bool
}

// Use is USE db.
type Use struct{ Database string }

// CreateTable is CREATE TABLE or CREATE STABLE with columns. It makes a super
// table if Tags is not empty. Columns[0] is a TIMESTAMP.
type CreateTable struct {
	Table       TableName
	IfNotExists bool
	Columns     []Column
	Tags        []Column
}

// CreateChildTables is CREATE TABLE t USING st TAGS (...), for one or more.
type CreateChildTables struct {
	Tables []ChildTable
}

// ChildTable says how one child table is made.
type ChildTable struct {
	Table       TableName
	IfNotExists bool
	Using       Using
}

// Using names a super table and gives values of its tags.
type Using struct {
	Table TableName
	Tags  []string // which tags Values are for; empty: all, in order
	// Values are constants: what a Scalar can be made of.
	Values []Expr
}

// DropTable is DROP TABLE or DROP STABLE.
type DropTable struct {
	Stable bool // DROP STABLE was written: only super tables are meant
	Tables []DroppedTable
}

// DroppedTable is one of the tables of a DropTable.
type DroppedTable struct {
	Table    TableName
	IfExists bool
}

// Describe is DESCRIBE t.
type Describe struct{ Table TableName }

// ShowKind says what a Show lists.
type ShowKind uint8

// The kinds of SHOW.
const (
	ShowDatabases ShowKind = iota + 1
	ShowTables
	ShowStables
	ShowDnodes
	ShowMnodes
	ShowVgroups
	ShowVnodes
	ShowCluster
	ShowClusterAlive
	ShowVariables        // of the host that answers
	ShowClusterVariables // those that must be equal on all hosts
	ShowDnodeVariables   // of host Dnode
	ShowUsers
	ShowFailovers
	ShowAlarms
	ShowTransactions
	ShowArbgroups
	ShowCreateDatabase
	ShowCreateTable
	ShowCreateStable
)

// Show is SHOW, of any kind.
type Show struct {
	Kind     ShowKind
	Database string    // SHOW db.TABLES and the like, SHOW CREATE DATABASE db; empty: the current one
	Table    TableName // ShowCreateTable, ShowCreateStable
	Like     string    // pattern of ShowTables, ShowStables; empty: all
	Dnode    uint32    // ShowDnodeVariables; ShowVnodes: zero means all
}

// CreateUser is CREATE USER u PASS 'p'.
type CreateUser struct{ Name, Password string }

// AlterUser is ALTER USER u PASS 'p'.
type AlterUser struct{ Name, Password string }

// DropUser is DROP USER u.
type DropUser struct{ Name string }

// Select is a query.
type Select struct {
	Distinct    bool
	Items       []Item
	From        *Source // nil: no FROM
	Where       Expr    // nil: everything
	PartitionBy []Expr
	Window      *Window // nil: no INTERVAL
	GroupBy     []Expr
	Having      Expr // nil: all groups
	OrderBy     []Order
	SLimit      *Limit // of groups
	Limit       *Limit // of rows
}

// Item is one column of a result.
type Item struct {
	Expr  Expr
	Alias string // empty: none given
	Text  string // the expression as written: the column's name if it has no alias
}

// Name is the name of the result's column.
func (i Item) Name() string {
	if i.Alias != "" {
		return i.Alias
	}
	return i.Text
}

// Source is what a query reads: a table, or the rows of another query.
type Source struct {
	Table TableName
	Query *Select // nil: Table
	Alias string
}

// Window is INTERVAL(width, offset) SLIDING(sliding) FILL(fill).
type Window struct {
	Width   Duration
	Offset  Duration // zero: none
	Sliding Duration // zero: windows do not overlap
	Fill    Fill
	Values  []Expr // of FILL(VALUE, ...)
}

// Fill says what stands for windows without rows.
type Fill uint8

// The fill modes.
const (
	FillNone Fill = iota // no line
	FillNull
	FillPrev
	FillNext
	FillLinear
	FillValue
)

// Order is one key of ORDER BY.
type Order struct {
	Expr  Expr
	Desc  bool
	Nulls Nulls
}

// Nulls says where NULLs are sorted.
type Nulls uint8

// The places of NULLs.
const (
	NullsDefault Nulls = iota
	NullsFirst
	NullsLast
)

// Limit is LIMIT count OFFSET offset, or the same of groups.
type Limit struct {
	Count  uint64
	Offset uint64
}

func (*CreateDnode) statement()       {}
func (*DropDnode) statement()         {}
func (*RestoreDnode) statement()      {}
func (*AlterArbitrator) statement()   {}
func (*CreateMnode) statement()       {}
func (*DropMnode) statement()         {}
func (*CreateDatabase) statement()    {}
func (*AlterDatabase) statement()     {}
func (*DropDatabase) statement()      {}
func (*Use) statement()               {}
func (*CreateTable) statement()       {}
func (*CreateChildTables) statement() {}
func (*DropTable) statement()         {}
func (*Describe) statement()          {}
func (*Show) statement()              {}
func (*CreateUser) statement()        {}
func (*AlterUser) statement()         {}
func (*DropUser) statement()          {}
func (*Select) statement()            {}
func (*Insert) statement()            {}
