package query

import "unicode/utf8"

// like reports whether s matches a pattern of LIKE: % is any text, _ any
// character, a backslash takes the next character as it is. It goes back at
// most to the last %, so its time is the product of the two lengths at worst.
func like(s, pattern string) bool {
	at, from := 0, 0             // how far s and pattern match
	retryAt, retryFrom := -1, -1 // where to go on if they no longer do: after the last %
	for at < len(s) || from < len(pattern) {
		if from < len(pattern) && pattern[from] == '%' {
			from++
			retryAt, retryFrom = at, from
			continue
		}
		if size, width := matchOne(s[at:], pattern[from:]); width > 0 {
			at += size
			from += width
			continue
		}
		if retryAt < 0 || retryAt >= len(s) {
			return false
		}
		retryAt++ // % takes one byte more
		at, from = retryAt, retryFrom
	}
	return true
}

// matchOne matches the start of s with one element of a pattern that is no %:
// how much of both it took, zero width if it does not match.
func matchOne(s, pattern string) (size, width int) {
	if s == "" || pattern == "" {
		return 0, 0
	}
	switch {
	case pattern[0] == '_':
		_, size = utf8.DecodeRuneInString(s)
		return size, 1
	case pattern[0] == '\\' && len(pattern) > 1:
		if s[0] == pattern[1] {
			return 1, 2
		}
		return 0, 0
	case s[0] == pattern[0]:
		return 1, 1
	}
	return 0, 0
}
