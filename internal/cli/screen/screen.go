// Package screen lays out text for people: 80 columns, with colours where a
// terminal takes them.
//
// It knows nothing of what it prints.
package screen

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Width is that of the narrowest terminal that people use. No line is longer,
// unless a word is.
const Width = 80

// Page is a screen that is being drawn. Its zero value is an empty one without
// colours.
type Page struct {
	Paint Paint
	b     strings.Builder
}

// String is the screen.
func (p *Page) String() string { return p.b.String() }

// Printf prints as it is told.
func (p *Page) Printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

// Field prints a name and a text that may need more lines.
func (p *Page) Field(name, text string) { p.Wrapped(fmt.Sprintf("%-10s", name), text) }

// Wrapped prints text after an indent, its further lines below it.
func (p *Page) Wrapped(indent, text string) {
	line := printable(indent)
	for i, word := range strings.Fields(printable(text)) {
		if i > 0 && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > Width {
			p.Printf("%s\n", strings.TrimRight(line, " "))
			line = strings.Repeat(" ", utf8.RuneCountInString(indent)) + word
			continue
		}
		if i > 0 {
			line += " "
		}
		line += word
	}
	p.Printf("%s\n", strings.TrimRight(line, " "))
}

// printable replaces what would move the cursor of a terminal: some of the texts
// come from other machines.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '·'
		}
		return r
	}, s)
}

// Table prints rows in columns; what does not fit of the last one goes below.
func (p *Page) Table(rows [][]string) {
	p.Printf("\n")
	wide := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			wide[i] = max(wide[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row[:len(row)-1] {
			fmt.Fprintf(&line, "%s%s  ", cell, strings.Repeat(" ", wide[i]-utf8.RuneCountInString(cell)))
		}
		p.Wrapped(line.String(), row[len(row)-1])
	}
}

// Span is a duration as people say it, with two units at most.
func Span(d time.Duration) string {
	for _, u := range []struct {
		unit, part time.Duration
		name, sub  string
	}{{24 * time.Hour, time.Hour, "d", "h"}, {time.Hour, time.Minute, "h", "min"}, {time.Minute, time.Second, "min", "s"}} {
		if d < u.unit {
			continue
		}
		text := fmt.Sprintf("%d %s", d/u.unit, u.name)
		if rest := d % u.unit / u.part; rest > 0 {
			text += fmt.Sprintf(" %d %s", rest, u.sub)
		}
		return text
	}
	return fmt.Sprintf("%d s", max(d, 0)/time.Second)
}
