package screen

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Paint colours words. Its zero value leaves them plain, and every word reads
// the same without colour.
type Paint struct{ Colours bool }

// PaintFor colours on a terminal whose user has not asked for none
// (https://no-color.org).
func PaintFor(out io.Writer) Paint {
	f, ok := out.(*os.File)
	return Paint{Colours: ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))}
}

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plain  = "\x1b[0m"
)

func (p Paint) in(colour, s string) string {
	if !p.Colours {
		return s
	}
	return colour + s + plain
}

// Good is for what is as it should be.
func (p Paint) Good(s string) string { return p.in(green, s) }

// Bad is for what is not.
func (p Paint) Bad(s string) string { return p.in(red, s) }

// Level colours by how urgent an alarm is.
func (p Paint) Level(level, s string) string {
	switch level {
	case "critical":
		return p.in(red, s)
	case "warning":
		return p.in(yellow, s)
	}
	return s
}
