package shell

import "strings"

// Split takes a text apart at its semicolons, but not at those in quotes and
// comments, and drops what is empty.
func Split(text string) []string {
	var statements []string
	add := func(s string) {
		if s = strings.TrimSpace(s); s != "" {
			statements = append(statements, s)
		}
	}
	start := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == ';':
			add(text[start:i])
			start = i + 1
		case c == '\'' || c == '"' || c == '`':
			i = quoted(text, i)
		case strings.HasPrefix(text[i:], "--"):
			i = skip(text, i, "\n")
		case strings.HasPrefix(text[i:], "/*"):
			i = skip(text, i+2, "*/")
		}
	}
	add(text[start:])
	return statements
}

// quoted is the place of the quote that closes the one at i.
func quoted(text string, i int) int {
	for j := i + 1; j < len(text); j++ {
		switch text[j] {
		case '\\':
			if text[i] != '`' {
				j++
			}
		case text[i]:
			return j
		}
	}
	return len(text)
}

// skip is the last byte of the next end from i on.
func skip(text string, i int, end string) int {
	at := strings.Index(text[i:], end)
	if at < 0 {
		return len(text)
	}
	return i + at + len(end) - 1
}
