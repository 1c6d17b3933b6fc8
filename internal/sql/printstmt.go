package sql

import (
	"fmt"
	"strings"
)

func (s *CreateDnode) String() string { return "CREATE DNODE " + quoteString(s.EndPoint.String()) }

func (s *DropDnode) String() string {
	out := fmt.Sprintf("DROP DNODE %d", s.ID)
	if s.ID == 0 {
		out = "DROP DNODE " + quoteString(s.EndPoint.String())
	}
	return out + when(s.Force, " FORCE") + when(s.Unsafe, " UNSAFE")
}

func (s *RestoreDnode) String() string { return fmt.Sprintf("RESTORE DNODE %d", s.ID) }

func (s *AlterArbitrator) String() string {
	if s.EndPoint == (EndPoint{}) {
		return "ALTER CLUSTER ARBITRATOR ''"
	}
	return "ALTER CLUSTER ARBITRATOR " + quoteString(s.EndPoint.String())
}

func (s *CreateMnode) String() string { return fmt.Sprintf("CREATE MNODE ON DNODE %d", s.Dnode) }

func (s *DropMnode) String() string { return fmt.Sprintf("DROP MNODE ON DNODE %d", s.Dnode) }

func (s *CreateDatabase) String() string {
	return "CREATE DATABASE " + when(s.IfNotExists, "IF NOT EXISTS ") + quoteName(s.Name) + joinSettings(s.Given)
}

func (s *AlterDatabase) String() string {
	return "ALTER DATABASE " + quoteName(s.Name) + joinSettings(s.Given)
}

func (s *DropDatabase) String() string {
	return "DROP DATABASE " + when(s.IfExists, "IF EXISTS ") + quoteName(s.Name)
}

func (s *Use) String() string { return "USE " + quoteName(s.Database) }

func (s *CreateTable) String() string {
	out := "CREATE TABLE "
	if len(s.Tags) > 0 {
		out = "CREATE STABLE "
	}
	out += when(s.IfNotExists, "IF NOT EXISTS ") + s.Table.String() + " (" + joinColumns(s.Columns) + ")"
	if len(s.Tags) > 0 {
		out += " TAGS (" + joinColumns(s.Tags) + ")"
	}
	return out
}

func (s *CreateChildTables) String() string {
	var b strings.Builder
	b.WriteString("CREATE TABLE")
	for _, t := range s.Tables {
		b.WriteString(when(t.IfNotExists, " IF NOT EXISTS") + " " + t.Table.String() + " " + t.Using.String())
	}
	return b.String()
}

// String is USING st (tag, ...) TAGS (v, ...).
func (u Using) String() string {
	out := "USING " + u.Table.String()
	if len(u.Tags) > 0 {
		out += " (" + joinNames(u.Tags) + ")"
	}
	return out + " TAGS (" + join(u.Values) + ")"
}

func (s *DropTable) String() string {
	parts := make([]string, len(s.Tables))
	for i, t := range s.Tables {
		parts[i] = when(t.IfExists, "IF EXISTS ") + t.Table.String()
	}
	return "DROP " + when(s.Stable, "S") + "TABLE " + strings.Join(parts, ", ")
}

func (s *Describe) String() string { return "DESCRIBE " + s.Table.String() }

func (s *Show) String() string {
	var words string
	for _, k := range shows {
		if k.kind == s.Kind {
			words = strings.ToUpper(strings.Join(k.words, " "))
		}
	}
	switch {
	case s.Kind == ShowDnodeVariables:
		return fmt.Sprintf("SHOW DNODE %d VARIABLES", s.Dnode)
	case s.Kind == ShowVnodes && s.Dnode != 0:
		return fmt.Sprintf("SHOW VNODES ON DNODE %d", s.Dnode)
	case s.Kind == ShowCreateDatabase:
		return "SHOW " + words + " " + quoteName(s.Database)
	case s.Kind == ShowCreateTable || s.Kind == ShowCreateStable:
		return "SHOW " + words + " " + s.Table.String()
	case s.Database != "":
		words = quoteName(s.Database) + "." + words
	}
	if s.Like != "" {
		words += " LIKE " + quoteString(s.Like)
	}
	return "SHOW " + words
}

// String hides the password, so that a statement may be logged.
func (s *CreateUser) String() string { return "CREATE USER " + quoteName(s.Name) + " PASS '********'" }

// String hides the password, so that a statement may be logged.
func (s *AlterUser) String() string { return "ALTER USER " + quoteName(s.Name) + " PASS '********'" }

func (s *DropUser) String() string { return "DROP USER " + quoteName(s.Name) }

func (s *Select) String() string {
	var b strings.Builder
	b.WriteString("SELECT " + when(s.Distinct, "DISTINCT "))
	for i, item := range s.Items {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(item.Expr.String())
		if item.Alias != "" {
			b.WriteString(" AS " + quoteName(item.Alias))
		}
	}
	if s.From != nil {
		b.WriteString(" FROM " + s.From.String())
	}
	if s.Where != nil {
		b.WriteString(" WHERE " + s.Where.String())
	}
	if len(s.PartitionBy) > 0 {
		b.WriteString(" PARTITION BY " + join(s.PartitionBy))
	}
	if s.Window != nil {
		b.WriteString(" " + s.Window.String())
	}
	if len(s.GroupBy) > 0 {
		b.WriteString(" GROUP BY " + join(s.GroupBy))
	}
	if s.Having != nil {
		b.WriteString(" HAVING " + s.Having.String())
	}
	for i, o := range s.OrderBy {
		if i == 0 {
			b.WriteString(" ORDER BY ")
		} else {
			b.WriteString(", ")
		}
		b.WriteString(o.Expr.String() + when(o.Desc, " DESC") + [...]string{"", " NULLS FIRST", " NULLS LAST"}[o.Nulls])
	}
	if s.SLimit != nil {
		fmt.Fprintf(&b, " SLIMIT %d SOFFSET %d", s.SLimit.Count, s.SLimit.Offset)
	}
	if s.Limit != nil {
		fmt.Fprintf(&b, " LIMIT %d OFFSET %d", s.Limit.Count, s.Limit.Offset)
	}
	return b.String()
}

// String is the source as it stands after FROM.
func (s *Source) String() string {
	out := s.Table.String()
	if s.Query != nil {
		out = "(" + s.Query.String() + ")"
	}
	if s.Alias != "" {
		out += " AS " + quoteName(s.Alias)
	}
	return out
}

// String is INTERVAL(...) SLIDING(...) FILL(...), as far as they were given.
func (w *Window) String() string {
	out := "INTERVAL(" + w.Width.String()
	if !w.Offset.IsZero() {
		out += ", " + w.Offset.String()
	}
	out += ")"
	if !w.Sliding.IsZero() {
		out += " SLIDING(" + w.Sliding.String() + ")"
	}
	switch w.Fill {
	case FillNone:
		return out
	case FillValue:
		return out + " FILL(VALUE, " + join(w.Values) + ")"
	}
	return out + " FILL(" + w.Fill.String() + ")"
}

// String is the mode as it stands in FILL.
func (f Fill) String() string {
	if int(f) >= len(fills) {
		return fmt.Sprintf("fill %d", uint8(f))
	}
	return strings.ToUpper(fills[f])
}

func when(is bool, s string) string {
	if is {
		return s
	}
	return ""
}

func joinColumns(list []Column) string {
	parts := make([]string, len(list))
	for i, c := range list {
		parts[i] = c.String()
	}
	return strings.Join(parts, ", ")
}

func joinNames(list []string) string {
	parts := make([]string, len(list))
	for i, name := range list {
		parts[i] = quoteName(name)
	}
	return strings.Join(parts, ", ")
}

func joinSettings(list []Setting) string {
	var b strings.Builder
	for _, s := range list {
		b.WriteString(" " + s.String())
	}
	return b.String()
}
