package query

import (
	"slices"
	"strings"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// group is one window of one partition, merged from all shards.
type group struct {
	keys       []sql.Value
	start, end int64
	rows       int64
	columns    []merged
}

// merged is what is known about one column of a group.
type merged struct {
	count               int64
	sum                 sql.Value
	min, max            sql.Value
	first, last         sql.Value
	firstTime, lastTime int64
}

// add merges what another shard knows.
func (m *merged) add(o *merged) {
	if o.count == 0 {
		return
	}
	if m.count == 0 {
		*m = *o
		return
	}
	m.count += o.count
	m.sum.Int += o.sum.Int // modulo 2^64, as BIGINT is
	m.sum.Float += o.sum.Float
	if compareValues(o.min, m.min) < 0 {
		m.min = o.min
	}
	if compareValues(o.max, m.max) > 0 {
		m.max = o.max
	}
	if o.firstTime < m.firstTime {
		m.first, m.firstTime = o.first, o.firstTime
	}
	if o.lastTime > m.lastTime {
		m.last, m.lastTime = o.last, o.lastTime
	}
}

// groupScope gives names their meaning in expressions over groups.
type groupScope struct {
	keys     []sql.Expr
	columns  []sql.Values // of a part: for their names and types
	windowed bool
}

func (s *groupScope) base() int { return len(s.keys) + partFixed }

func (s *groupScope) ref(r *sql.Ref) (operand, error) {
	if r.Table == "" && strings.HasPrefix(r.Name, "_w") {
		return s.pseudo(r)
	}
	for i, k := range s.keys {
		if same, ok := k.(*sql.Ref); (ok && same.Name == r.Name) || (r.Name == "tbname" && k.String() == "tbname()") {
			return operand{column: s.columns[i].Column, eval: func(c *cursor) sql.Value { return c.group.keys[i] }}, nil
		}
	}
	return operand{}, &sql.Error{Code: sql.CodeColumnName, Text: "Invalid column name: " + r.Name + " stands beside aggregates and is neither one nor grouped by"}
}

func (s *groupScope) pseudo(r *sql.Ref) (operand, error) {
	if !s.windowed {
		return operand{}, &sql.Error{Code: sql.CodeColumnName, Text: "Invalid column name: " + r.Name + " needs INTERVAL"}
	}
	switch r.Name {
	case "_wstart":
		return operand{column: column("", sql.TypeTimestamp), eval: func(c *cursor) sql.Value { return instant(c.group.start) }}, nil
	case "_wend":
		return operand{column: column("", sql.TypeTimestamp), eval: func(c *cursor) sql.Value { return instant(c.group.end) }}, nil
	case "_wduration":
		return operand{column: column("", sql.TypeBigInt), eval: func(c *cursor) sql.Value { return integer(c.group.end - c.group.start) }}, nil
	}
	return operand{}, noColumn(r)
}

func (s *groupScope) call(c *sql.Call) (operand, bool, error) {
	if c.Name == "tbname" || strings.HasPrefix(c.Name, "_w") {
		o, err := s.ref(&sql.Ref{Name: c.Name})
		return o, true, err
	}
	if !isAggregate(c) {
		return operand{}, false, nil
	}
	r, ofColumn, err := aggregated(c)
	if err != nil {
		return operand{}, true, err
	}
	i := -1
	if ofColumn {
		i = s.column(r.Name)
	}
	if i < 0 { // COUNT(*) or of the timestamp: the other calls were refused by whoever knows the table
		return operand{column: column("", sql.TypeBigInt), eval: func(c *cursor) sql.Value { return integer(c.group.rows) }}, true, nil
	}
	return s.aggregate(c.Name, i), true, nil
}

// column is the number of an aggregated column, or -1.
func (s *groupScope) column(name string) int {
	for i, at := 0, s.base(); at < len(s.columns); i, at = i+1, at+aggWidth {
		if s.columns[at+aggMin].Name == name {
			return i
		}
	}
	return -1
}

func (s *groupScope) aggregate(name string, i int) operand {
	at := s.base() + i*aggWidth
	of := func(c sql.Column, f func(*merged) sql.Value) operand {
		return operand{column: c, eval: func(c *cursor) sql.Value {
			m := &c.group.columns[i]
			if m.count == 0 {
				return sql.Value{}
			}
			return f(m)
		}}
	}
	own, double := s.columns[at+aggMin].Column, column("", sql.TypeDouble)
	switch name {
	case "count":
		return operand{column: column("", sql.TypeBigInt), eval: func(c *cursor) sql.Value { return integer(c.group.columns[i].count) }}
	case "sum":
		return of(s.columns[at+aggSum].Column, func(m *merged) sql.Value { return m.sum })
	case "min":
		return of(own, func(m *merged) sql.Value { return m.min })
	case "max":
		return of(own, func(m *merged) sql.Value { return m.max })
	case "first":
		return of(own, func(m *merged) sql.Value { return m.first })
	case "last":
		return of(own, func(m *merged) sql.Value { return m.last })
	case "avg":
		return of(double, func(m *merged) sql.Value {
			sum, _ := number(m.sum)
			return sql.Value{Type: sql.TypeDouble, Float: sum / float64(m.count)}
		})
	}
	return of(double, func(m *merged) sql.Value { // spread
		low, _ := number(m.min)
		high, _ := number(m.max)
		return sql.Value{Type: sql.TypeDouble, Float: high - low}
	})
}

// mergeGroups puts the parts of all shards together: ordered by partition and
// window, or in one group if there is neither.
func mergeGroups(parts []*part, keys int, alone bool) []*group {
	byKey := map[string]*group{}
	var all []*group
	for _, p := range parts {
		for row := range p.rows {
			g := groupAt(p, keys, row)
			name := keyOf(append(slices.Clone(g.keys), instant(g.start)))
			known, ok := byKey[name]
			if !ok {
				byKey[name] = g
				all = append(all, g)
				continue
			}
			known.rows += g.rows
			for i := range known.columns {
				known.columns[i].add(&g.columns[i])
			}
		}
	}
	if alone && len(all) == 0 {
		all = append(all, &group{columns: make([]merged, (len(parts[0].columns)-keys-partFixed)/aggWidth)})
	}
	slices.SortStableFunc(all, compareGroups)
	return all
}

func compareGroups(a, b *group) int {
	for i := range a.keys {
		if c := compareOrdered(a.keys[i], b.keys[i], sql.Order{}); c != 0 {
			return c
		}
	}
	return int(min(1, max(-1, a.start-b.start)))
}

func groupAt(p *part, keys, row int) *group {
	at := 0
	take := func() sql.Value {
		v := p.columns[at].Value(row)
		at++
		return v
	}
	g := &group{}
	for range keys {
		g.keys = append(g.keys, take())
	}
	g.start, g.end, g.rows = take().Int, take().Int, take().Int
	g.columns = make([]merged, (len(p.columns)-at)/aggWidth)
	for i := range g.columns {
		m := &g.columns[i]
		m.count, m.sum, m.min, m.max = take().Int, take(), take(), take()
		m.first, m.firstTime, m.last, m.lastTime = take(), take().Int, take(), take().Int
	}
	return g
}
