package conf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Warning is a line that has no effect.
type Warning struct {
	Line int
	Key  string
	Text string
}

// String is the warning for a log.
func (w Warning) String() string { return fmt.Sprintf("line %d: %s", w.Line, w.Text) }

// Limits of a file: more than anyone writes by hand.
const (
	maxLine  = 16 << 10
	maxBytes = 1 << 20
)

// Parse reads a configuration from r; name is what its errors call it. The error
// joins everything that is wrong, each with its line, and what Check finds in an
// otherwise right file.
//
// A line is a key and a value with blanks between them. A value in double quotes
// may hold blanks. A # at the start of a word begins a comment.
func Parse(name string, r io.Reader) (Config, []Warning, error) {
	p := parser{name: name, config: Default(), lines: map[string]int{}}
	limited := &io.LimitedReader{R: r, N: maxBytes + 1}
	scanner := bufio.NewScanner(limited)
	scanner.Buffer(nil, maxLine)
	for scanner.Scan() {
		p.line++
		p.read(scanner.Text())
	}
	switch err := scanner.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		p.line++
		p.fail("the line is longer than %d bytes", maxLine)
	case err != nil:
		return p.config, p.warnings, fmt.Errorf("read %s: %w", name, err)
	case limited.N == 0:
		p.fail("the file is larger than %d bytes", maxBytes)
	}
	if len(p.wrong) == 0 {
		if err := p.config.Check(); err != nil {
			p.wrong = append(p.wrong, fmt.Errorf("%s: %w", name, err))
		}
	}
	return p.config, p.warnings, errors.Join(p.wrong...)
}

type parser struct {
	name     string
	config   Config
	line     int
	lines    map[string]int // where each key stood, by its name in lower case
	warnings []Warning
	wrong    []error
}

func (p *parser) fail(format string, args ...any) {
	p.wrong = append(p.wrong, fmt.Errorf("%s:%d: %w", p.name, p.line, fmt.Errorf(format, args...)))
}

func (p *parser) warn(key, format string, args ...any) {
	p.warnings = append(p.warnings, Warning{Line: p.line, Key: key, Text: fmt.Sprintf(format, args...)})
}

// read takes one line.
func (p *parser) read(line string) {
	line = strings.TrimPrefix(line, "\ufeff")
	fields, err := split(line)
	if err != nil {
		p.fail("%w", err)
		return
	}
	if len(fields) == 0 {
		return
	}
	folded := strings.ToLower(fields[0])
	if name, ok := known[folded]; ok {
		if p.lines[folded] == 0 {
			p.warn(name, "%s is a key of TDengine that has no effect here", name)
		}
		p.lines[folded] = p.line
		return
	}
	if name, ok := later[folded]; ok {
		p.fail("%s is not supported in this version", name)
		return
	}
	k := byName[folded]
	switch {
	case k == nil && nearest(folded) != "":
		p.fail("unknown key %q: did you mean %s?", clip(fields[0]), nearest(folded))
		return
	case k == nil:
		p.fail("unknown key %q", clip(fields[0]))
		return
	case p.lines[folded] != 0:
		p.fail("%s stands here again, first on line %d", k.name, p.lines[folded])
		return
	case len(fields) == 1:
		p.fail("%s has no value", k.name)
	case len(fields) > 2:
		p.fail("%s takes one value, not %d", k.name, len(fields)-1)
	default:
		if err := k.set(&p.config, fields[1]); err != nil {
			p.fail("%s: %w", k.name, err)
		}
	}
	p.lines[folded] = p.line
}

// split cuts a line into words, of which those in double quotes may hold blanks,
// up to a comment.
func split(line string) ([]string, error) {
	var list []string
	rest := line
	for {
		rest = strings.TrimLeft(rest, " \t\r\f\v")
		if rest == "" || rest[0] == '#' {
			return list, nil
		}
		if rest[0] == '"' {
			word, after, ok := strings.Cut(rest[1:], `"`)
			if !ok {
				return nil, errors.New("a quote is not closed")
			}
			list, rest = append(list, word), after
			continue
		}
		n := strings.IndexAny(rest, " \t\r\f\v")
		if n < 0 {
			n = len(rest)
		}
		list, rest = append(list, rest[:n]), rest[n:]
	}
}

// quote is a value as split reads it.
func quote(s string) string {
	if strings.ContainsAny(s, " \t\r\f\v") || strings.HasPrefix(s, "#") {
		return `"` + s + `"`
	}
	return s
}

// clip is the start of s, as much as an error should show.
func clip(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most]
	}
	return s
}

// nearest is the key of ours that is most like an unknown one, or empty if none
// is like it.
func nearest(folded string) string {
	best, bestDistance := "", 1+max(1, min(3, len(folded)/3))
	for i := range keys {
		if d := distance(folded, strings.ToLower(keys[i].name)); d < bestDistance {
			best, bestDistance = keys[i].name, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, change or swap with their
// neighbour between a and b. Words longer than any key are far from all.
func distance(a, b string) int {
	const longest = 64
	if len(a) > longest {
		return longest
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
