package query

import "github.com/tarbitrator/tarbitrator/internal/sql"

// in prepares X [NOT] IN (list). Constants, which is what lists are made of,
// become a set: a list may have hundreds of thousands of items and is met once
// for every row.
func (k *compiler) in(e *sql.In) (operand, error) {
	x, err := k.compile(e.X)
	if err != nil {
		return operand{}, err
	}
	var set valueSet
	var rest []operand // X = item, for items that are no constants of X's kind
	fixed := x.fixed
	for _, item := range e.List {
		y, err := k.compile(item)
		if err != nil {
			return operand{}, err
		}
		if y, err = k.alike(item, y, x.column.Type); err != nil {
			return operand{}, err
		}
		if y.fixed && sameKind(x.column.Type, y.column.Type) {
			set.add(y.eval(nil))
			continue
		}
		equal, err := k.comparison(&sql.Binary{Op: sql.OpEq, X: e.X, Y: item}, x, y)
		if err != nil {
			return operand{}, err
		}
		rest, fixed = append(rest, equal), fixed && equal.fixed
	}
	return boolean(func(c *cursor) (is, known bool) {
		v := x.eval(c)
		if v.IsNull() {
			return false, false
		}
		found, known := set.has(v), !set.null
		for i := 0; i < len(rest) && !found; i++ {
			is, sure := truth(rest[i].eval(c))
			found, known = is && sure, known && sure
		}
		return found != e.Not, found || known
	}, fixed), nil
}

// sameKind reports whether values of two types are compared as they are.
func sameKind(a, b sql.Type) bool {
	return a == sql.TypeNull || b == sql.TypeNull || (a.Storage() == sql.StoreBytes) == (b.Storage() == sql.StoreBytes)
}

// valueSet holds constants and finds what compareValues takes for equal to one
// of them.
type valueSet struct {
	null    bool // NULL is among them: what is not found is not known
	texts   map[string]struct{}
	ints    map[wholeNumber]struct{}
	floats  map[float64]struct{}
	rounded map[float64]struct{} // ints, as a float meets them
}

// wholeNumber is any integer: bits of a BIGINT, or, if large, of a BIGINT
// UNSIGNED that is not a BIGINT.
type wholeNumber struct {
	bits  int64
	large bool
}

func wholeOf(v sql.Value) wholeNumber {
	return wholeNumber{v.Int, v.Type == sql.TypeUBigInt && v.Int < 0}
}

func (s *valueSet) add(v sql.Value) {
	switch v.Type.Storage() {
	case sql.StoreBytes:
		include(&s.texts, v.Text)
	case sql.StoreInts:
		f, _ := number(v)
		include(&s.ints, wholeOf(v))
		include(&s.rounded, f)
	case sql.StoreFloats:
		include(&s.floats, v.Float)
	default:
		s.null = true
	}
}

// has reports whether v, which is not NULL, is in the set.
func (s *valueSet) has(v sql.Value) bool {
	switch v.Type.Storage() {
	case sql.StoreBytes:
		return includes(s.texts, v.Text)
	case sql.StoreInts:
		f, _ := number(v)
		return includes(s.ints, wholeOf(v)) || includes(s.floats, f)
	}
	return includes(s.floats, v.Float) || includes(s.rounded, v.Float)
}

func include[K comparable](m *map[K]struct{}, k K) {
	if *m == nil {
		*m = map[K]struct{}{}
	}
	(*m)[k] = struct{}{}
}

func includes[K comparable](m map[K]struct{}, k K) bool {
	_, ok := m[k]
	return ok
}
