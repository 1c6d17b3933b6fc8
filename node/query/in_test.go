package query

import (
	"strconv"
	"strings"
	"testing"
)

func TestIn(t *testing.T) {
	for expr, want := range map[string]string{
		"2 IN (1, 2)":                            "true",
		"3 IN (1, 2)":                            "false",
		"3 NOT IN (1, 2)":                        "true",
		"2 NOT IN (1, 2)":                        "false",
		"3 IN (1, NULL)":                         "NULL",
		"3 NOT IN (1, NULL)":                     "NULL",
		"1 NOT IN (1, NULL)":                     "false",
		"NULL IN (1, NULL)":                      "NULL",
		"'b' IN ('a', 'b')":                      "true",
		"'B' IN ('a', 'b')":                      "false",
		"2 IN ('1', '2')":                        "true", // text beside a number is read as one
		"2 IN (2.0, 7)":                          "true",
		"2.5 IN (2, 3)":                          "false",
		"2.0 IN (2, 3)":                          "true",
		"TRUE IN (1)":                            "true",
		"2 IN (1 + 1, 7)":                        "true",
		"2 IN (NULL, 1 + 1)":                     "true",
		"'10' IN (10, 11)":                       "true",
		"'12' IN (10, 11)":                       "false",
		"'12' IN (10, NULL)":                     "NULL",
		"'x' NOT IN ('y')":                       "true",
		"1 IN (NULL IS NULL)":                    "true",
		"9007199254740993 IN (9007199254740992)": "false", // a float would not see it
		"18446744073709551615 IN (-1)":           "false",
		"18446744073709551615 IN (18446744073709551615)": "true",
	} {
		if got, err := evaluate(t, expr); err != nil || got != want {
			t.Errorf("%s is %s, %v, want %s", expr, got, err, want)
		}
	}
}

// A list as long as a statement can hold must not cost a host its stack.
func TestInLongList(t *testing.T) {
	const items = 500_000
	var b strings.Builder
	b.WriteString("7 IN (")
	for i := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(i % 7))
	}
	b.WriteByte(')')
	if got, err := evaluate(t, b.String()); err != nil || got != "false" {
		t.Errorf("%s, %v", got, err)
	}
}
