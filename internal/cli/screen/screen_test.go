package screen

import (
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 999 * time.Millisecond: "0 s", 59 * time.Second: "59 s", 60 * time.Second: "1 min",
		61 * time.Second: "1 min 1 s", time.Hour + 59*time.Second: "1 h", 25 * time.Hour: "1 d 1 h",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

// Long texts go on below where they begin, and no line ends in spaces.
func TestTable(t *testing.T) {
	var p Page
	p.Table([][]string{
		{"name", "what"},
		{"a", "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"},
		{"längste", ""},
		{"b", "\x1b[2J"},
	})
	const want = `
name     what
a        one two three four five six seven eight nine ten eleven twelve thirteen
         fourteen
längste
b        ·[2J
`
	if p.String() != want {
		t.Errorf("got\n%s\nwant\n%s", p.String(), want)
	}
}
