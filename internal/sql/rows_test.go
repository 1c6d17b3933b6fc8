package sql

import "testing"

func TestRowsAppend(t *testing.T) {
	_, batches, err := readAll("INSERT INTO t (ts, s, f64, i8) VALUES (1, 'one', 1.5, NULL) (2, NULL, NULL, 2) (3, '', 3, 3)")
	if err != nil {
		t.Fatal(err)
	}
	src := batches[0]
	dst := NewRows(everyType[1:], 2)
	dst.Append(src, 1, 3)
	dst.Append(src, 0, 1)
	dst.Append(src, 0, 0)
	if dst.Len() != 3 {
		t.Fatalf("got %d rows, want 3", dst.Len())
	}
	for i, from := range []int{1, 2, 0} {
		for c := range everyType {
			if got, want := cell(dst, i, c), cell(src, from, c); got != want {
				t.Errorf("row %d, column %s: got %s, want %s", i, everyType[c].Name, got, want)
			}
		}
	}
	dst.Reset()
	dst.Append(src, 2, 3)
	if got, want := printRows(dst), "(3,NULL,3,"; dst.Len() != 1 || got[len("INSERT INTO t VALUES "):][:len(want)] != want {
		t.Errorf("after Reset: got %s", got)
	}
}

func TestValuesOfATypeThatIsNotStored(t *testing.T) {
	v := Values{Column: Column{Type: TypeDecimal}}
	v.AppendNulls(3)
	if v.Len() != 3 || !v.Value(2).IsNull() {
		t.Errorf("got %d values, the last %v; want 3 NULLs", v.Len(), v.Value(2))
	}
}

func TestBitmap(t *testing.T) {
	var b Bitmap
	if b.Get(0) || b.Get(1000) {
		t.Error("the empty set has members")
	}
	b.Set(130)
	b.Set(0)
	for i := range 300 {
		if b.Get(i) != (i == 0 || i == 130) {
			t.Errorf("%d is in the set: %t", i, b.Get(i))
		}
	}
}

func TestTypes(t *testing.T) {
	for i := range 30 {
		if typ := Type(i); typ.Valid() == (typ.String() == "type "+itoa(i)) {
			t.Errorf("type %d: valid %t, named %s", i, typ.Valid(), typ)
		}
	}
	for word, typ := range typeNames {
		if !typ.Valid() {
			t.Errorf("%s: type %d is not valid", word, typ)
		}
	}
}

func itoa(i int) string { return Value{Type: TypeInt, Int: int64(i)}.SQL() }
