package sql

// shows maps the words after SHOW to what is listed; the longer of two that begin
// alike comes first.
var shows = []struct {
	words []string
	kind  ShowKind
}{
	{[]string{"databases"}, ShowDatabases},
	{[]string{"tables"}, ShowTables},
	{[]string{"stables"}, ShowStables},
	{[]string{"dnodes"}, ShowDnodes},
	{[]string{"mnodes"}, ShowMnodes},
	{[]string{"vgroups"}, ShowVgroups},
	{[]string{"vnodes"}, ShowVnodes},
	{[]string{"cluster", "alive"}, ShowClusterAlive},
	{[]string{"cluster", "variables"}, ShowClusterVariables},
	{[]string{"cluster"}, ShowCluster},
	{[]string{"variables"}, ShowVariables},
	{[]string{"dnode"}, ShowDnodeVariables},
	{[]string{"users"}, ShowUsers},
	{[]string{"failovers"}, ShowFailovers},
	{[]string{"alarms"}, ShowAlarms},
	{[]string{"transactions"}, ShowTransactions},
	{[]string{"arbgroups"}, ShowArbgroups},
	{[]string{"create", "database"}, ShowCreateDatabase},
	{[]string{"create", "stable"}, ShowCreateStable},
	{[]string{"create", "table"}, ShowCreateTable},
}

// inDatabase reports whether k lists what is in one database, so that SHOW
// db.TABLES may say which.
func (k ShowKind) inDatabase() bool { return k == ShowTables || k == ShowStables || k == ShowVgroups }

// show reads what follows SHOW.
func (p *parser) show() Statement {
	s := &Show{}
	before := p.mark()
	p.advance()
	inDatabase := p.isSymbol(".")
	p.reset(before)
	if inDatabase {
		s.Database = p.ident(MaxDatabaseName)
		p.expectSymbol(".")
	}
	before = p.mark()
	s.Kind = p.showKind()
	if inDatabase && !s.Kind.inDatabase() {
		p.reset(before)
		p.unexpected()
	} else if s.Kind == 0 {
		p.unsupported("SHOW ", laterShow)
		p.unexpected()
	}
	switch s.Kind {
	case ShowTables, ShowStables:
		if p.accept("like") {
			s.Like = p.stringLit()
		}
	case ShowVnodes:
		if p.accept("on") {
			p.expect("dnode")
			s.Dnode = p.id()
		}
	case ShowDnodeVariables:
		s.Dnode = p.id()
		p.expect("variables")
	case ShowCreateDatabase:
		s.Database = p.ident(MaxDatabaseName)
	case ShowCreateTable, ShowCreateStable:
		s.Table = p.tableName()
	}
	return s
}

// showKind reads the words that say what is listed, zero if there are none.
func (p *parser) showKind() ShowKind {
	for _, s := range shows {
		if p.accept(s.words...) {
			return s.kind
		}
	}
	return 0
}
