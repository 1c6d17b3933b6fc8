package status

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Paint colours words. Its zero value leaves them plain, and every word reads
// the same without colour.
type Paint struct{ colours bool }

// paintFor colours on a terminal whose user has not asked for none
// (https://no-color.org).
func paintFor(out io.Writer) Paint {
	f, ok := out.(*os.File)
	return Paint{ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))}
}

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plain  = "\x1b[0m"
)

func (p Paint) in(colour, s string) string {
	if !p.colours {
		return s
	}
	return colour + s + plain
}

func (p Paint) good(s string) string { return p.in(green, s) }

func (p Paint) bad(s string) string { return p.in(red, s) }

// level colours by how urgent an alarm is.
func (p Paint) level(level, s string) string {
	switch level {
	case "critical":
		return p.in(red, s)
	case "warning":
		return p.in(yellow, s)
	}
	return s
}
