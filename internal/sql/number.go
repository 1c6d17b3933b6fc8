package sql

import (
	"math"
	"strconv"
)

// pow10 holds the powers of ten that a float64 holds exactly.
var pow10 = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// maxExactDigits is how many decimal digits always fit into the 53 bits of a
// float64. Such a number divided by a power of ten that is exact as well is
// rounded once, so it is the nearest float64 (Clinger).
const maxExactDigits = 15

// fastInt reads an optional minus and 1 to 18 digits at s[i:]: what fits into an
// int64 whatever it is. It returns where it stopped, or i if it found none.
func fastInt(s string, i int) (n int64, stop int) {
	j := i
	minus := j < len(s) && s[j] == '-'
	if minus {
		j++
	}
	first := j
	for j < len(s) {
		d := s[j] - '0'
		if d > 9 {
			break
		}
		n = n*10 + int64(d)
		j++
	}
	if j == first || j-first > 18 {
		return 0, i
	}
	if minus {
		n = -n
	}
	return n, j
}

// fastFloat reads an optional minus and a decimal number without exponent at
// s[i:], if its digits are few enough for one exact division. It returns where
// it stopped, or i if the number is not so simple.
func fastFloat(s string, i int) (f float64, stop int) {
	j := i
	minus := j < len(s) && s[j] == '-'
	if minus {
		j++
	}
	var n int64
	first := j
	for j < len(s) {
		d := s[j] - '0'
		if d > 9 {
			break
		}
		n = n*10 + int64(d)
		j++
	}
	digits, decimals := j-first, 0
	if digits > 0 && j < len(s) && s[j] == '.' {
		j++
		first = j
		for j < len(s) {
			d := s[j] - '0'
			if d > 9 {
				break
			}
			n = n*10 + int64(d)
			j++
		}
		decimals = j - first
		digits += decimals
	}
	if digits == 0 || digits > maxExactDigits {
		return 0, i
	}
	f = float64(n)
	if decimals > 0 {
		f /= pow10[decimals]
	}
	if minus {
		f = -f // also of zero
	}
	return f, j
}

// parseNumber is the value of a number token, with a minus before it or not:
// BIGINT, BIGINT UNSIGNED or DOUBLE, the first of them that holds it.
func parseNumber(t token, minus bool) (Value, *Error) {
	if t.kind == integer {
		base, digits := 10, t.text
		if len(digits) > 2 && digits[0] == '0' {
			switch digits[1] | 0x20 {
			case 'x':
				base, digits = 16, digits[2:]
			case 'b':
				base, digits = 2, digits[2:]
			}
		}
		u, err := strconv.ParseUint(digits, base, 64)
		switch {
		case err == nil && minus && u <= 1<<63:
			return Value{Type: TypeBigInt, Int: -int64(u)}, nil
		case err == nil && !minus && u <= math.MaxInt64:
			return Value{Type: TypeBigInt, Int: int64(u)}, nil
		case err == nil && !minus:
			return Value{Type: TypeUBigInt, Int: int64(u)}, nil
		case base != 10:
			return Value{}, errorf(CodeSyntax, "syntax error near \"%s\": not a number of at most 64 bits", clip(t.text))
		}
	}
	f, err := strconv.ParseFloat(t.text, 64)
	if err != nil {
		return Value{}, errorf(CodeOutOfRange, "Value out of range: %s", clip(t.text))
	}
	if minus {
		f = -f
	}
	return Value{Type: TypeDouble, Float: f}, nil
}

// formatFloat is a spelling of a finite f that parses to a DOUBLE again.
func formatFloat(f float64) string {
	return strconv.FormatFloat(f, 'e', -1, 64)
}
