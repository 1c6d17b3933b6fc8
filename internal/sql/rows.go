package sql

// Rows is a batch of rows of one table, kept by column: what an INSERT is
// parsed into, what a block is encoded from and what a scan returns.
//
// Invariant: every column has as many values as there are timestamps. A NULL
// keeps its place in the value slices, so that row i is element i everywhere.
type Rows struct {
	Timestamps []int64  // the first column, in the precision of the database
	Columns    []Values // the others, in the order of the table
}

// NewRows makes an empty batch with these columns, the timestamp column not
// among them, and room for capacity rows of them (VARCHAR contents excepted).
func NewRows(columns []Column, capacity int) *Rows {
	r := &Rows{Timestamps: make([]int64, 0, capacity), Columns: make([]Values, len(columns))}
	for i, c := range columns {
		r.Columns[i] = Values{Column: c}
		r.Columns[i].grow(capacity)
	}
	return r
}

// Init empties r and gives it these columns, the timestamp column not among
// them. It reuses the memory of the columns that it had.
func (r *Rows) Init(columns []Column) {
	r.Timestamps = r.Timestamps[:0]
	for len(r.Columns) < len(columns) {
		r.Columns = append(r.Columns, Values{})
	}
	r.Columns = r.Columns[:len(columns)]
	for i, c := range columns {
		r.Columns[i].Column = c
		r.Columns[i].Reset()
	}
}

// Len is the number of rows.
func (r *Rows) Len() int { return len(r.Timestamps) }

// Reset empties r and keeps its columns and its memory.
func (r *Rows) Reset() {
	r.Timestamps = r.Timestamps[:0]
	for i := range r.Columns {
		r.Columns[i].Reset()
	}
}

// Append copies rows [from, to) of src, which has the same columns.
func (r *Rows) Append(src *Rows, from, to int) {
	r.Timestamps = append(r.Timestamps, src.Timestamps[from:to]...)
	for i := range r.Columns {
		r.Columns[i].Append(&src.Columns[i], from, to)
	}
}

// Values is one column of a batch. Which slice is in use follows from
// Type.Storage; the others stay empty.
type Values struct {
	Column
	Ints   []int64
	Floats []float64
	Ends   []uint32 // value i is Data[Ends[i-1]:Ends[i]], the first starts at 0
	Data   []byte
	Nulls  Bitmap // row i is NULL; empty while nothing is
}

// Len is the number of values, NULLs included.
func (v *Values) Len() int { return max(len(v.Ints), len(v.Floats), len(v.Ends)) }

// Bytes is value i of a column of StoreBytes. It is valid until v changes.
func (v *Values) Bytes(i int) []byte {
	var start uint32
	if i > 0 {
		start = v.Ends[i-1]
	}
	return v.Data[start:v.Ends[i]]
}

// Value is value i of any column.
func (v *Values) Value(i int) Value {
	if v.Nulls.Get(i) {
		return Value{}
	}
	switch v.Type.Storage() {
	case StoreInts:
		return Value{Type: v.Type, Int: v.Ints[i]}
	case StoreFloats:
		return Value{Type: v.Type, Float: v.Floats[i]}
	case StoreBytes:
		return Value{Type: v.Type, Text: string(v.Bytes(i))}
	}
	return Value{}
}

// AppendBytes appends a value to a column of StoreBytes.
func (v *Values) AppendBytes(b []byte) {
	v.Data = append(v.Data, b...)
	v.Ends = append(v.Ends, uint32(len(v.Data)))
}

// AppendText appends a value to a column of StoreBytes.
func (v *Values) AppendText(s string) {
	v.Data = append(v.Data, s...)
	v.Ends = append(v.Ends, uint32(len(v.Data)))
}

// AppendNull appends a NULL.
func (v *Values) AppendNull() {
	v.Nulls.Set(v.Len())
	switch v.Type.Storage() {
	case StoreInts:
		v.Ints = append(v.Ints, 0)
	case StoreFloats:
		v.Floats = append(v.Floats, 0)
	default:
		v.Ends = append(v.Ends, uint32(len(v.Data)))
	}
}

// AppendNulls appends n NULLs.
func (v *Values) AppendNulls(n int) {
	for range n {
		v.AppendNull()
	}
}

// AppendValue appends a value of the column's own type, or a NULL.
func (v *Values) AppendValue(x Value) {
	switch {
	case x.IsNull():
		v.AppendNull()
	case v.Type.Storage() == StoreInts:
		v.Ints = append(v.Ints, x.Int)
	case v.Type.Storage() == StoreFloats:
		v.Floats = append(v.Floats, x.Float)
	default:
		v.AppendText(x.Text)
	}
}

// Append copies values [from, to) of src, a column of the same type.
func (v *Values) Append(src *Values, from, to int) {
	if len(src.Nulls) > 0 {
		at := v.Len()
		for i := from; i < to; i++ {
			if src.Nulls.Get(i) {
				v.Nulls.Set(at + i - from)
			}
		}
	}
	switch v.Type.Storage() {
	case StoreInts:
		v.Ints = append(v.Ints, src.Ints[from:to]...)
	case StoreFloats:
		v.Floats = append(v.Floats, src.Floats[from:to]...)
	case StoreBytes:
		for i := from; i < to; i++ {
			v.AppendBytes(src.Bytes(i))
		}
	default:
		for i := from; i < to; i++ {
			v.AppendNull()
		}
	}
}

// Reset empties v and keeps its column and its memory.
func (v *Values) Reset() {
	v.Ints, v.Floats, v.Ends, v.Data = v.Ints[:0], v.Floats[:0], v.Ends[:0], v.Data[:0]
	v.Nulls = v.Nulls[:0]
}

func (v *Values) grow(capacity int) {
	switch v.Type.Storage() {
	case StoreInts:
		v.Ints = make([]int64, 0, capacity)
	case StoreFloats:
		v.Floats = make([]float64, 0, capacity)
	case StoreBytes:
		v.Ends = make([]uint32, 0, capacity)
	}
}

// Bitmap is a set of row numbers. It is only as long as its largest member
// needs: what lies behind its end is not in it, so the empty set has no words.
type Bitmap []uint64

// Get reports whether row i is in the set.
func (b Bitmap) Get(i int) bool {
	word := i >> 6
	return word < len(b) && b[word]&(1<<(i&63)) != 0
}

// Set puts row i into the set.
func (b *Bitmap) Set(i int) {
	for i>>6 >= len(*b) {
		*b = append(*b, 0)
	}
	(*b)[i>>6] |= 1 << (i & 63)
}
