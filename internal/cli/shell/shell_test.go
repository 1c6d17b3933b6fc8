package shell

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/tarbitrator/tarbitrator/client"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{" ; ;", nil},
		{"show databases", []string{"show databases"}},
		{"a; b ;c", []string{"a", "b", "c"}},
		{"insert into t values (1, 'x;y')", []string{"insert into t values (1, 'x;y')"}},
		{`select "a\";b"; c`, []string{`select "a\";b"`, "c"}},
		{"select `a;b`", []string{"select `a;b`"}},
		{"select 'it''s;one'; b", []string{"select 'it''s;one'", "b"}},
		{"a -- one; two\n; b", []string{"a -- one; two", "b"}},
		{"a /* ; */ b; c", []string{"a /* ; */ b", "c"}},
		{"a 'open; b", []string{"a 'open; b"}},
	} {
		if got := Split(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	rows := &client.Rows{
		Columns: []client.Column{{Name: "offline reason"}, {Name: "vgId"}},
		Data:    [][]any{{"a\x1b[2Jb", json.Number("9007199254740993")}, {nil, json.Number("2")}},
	}
	Table(&out, rows)
	want := "" +
		"┌────────────────┬──────────────────┐\n" +
		"│ offline reason │ vgId             │\n" +
		"├────────────────┼──────────────────┤\n" +
		"│ a·[2Jb         │ 9007199254740993 │\n" +
		"│ NULL           │ 2                │\n" +
		"└────────────────┴──────────────────┘\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
	want = "" +
		"── row 1\n" +
		"offline reason: a·[2Jb\n" +
		"          vgId: 9007199254740993\n" +
		"── row 2\n" +
		"offline reason: NULL\n" +
		"          vgId: 2\n"
	if got := list(rows); got != want {
		t.Errorf("too wide for the terminal: got\n%swant\n%s", got, want)
	}
}
