package sql

import (
	"fmt"
	"unicode/utf8"
)

// Code is the number of an error as clients know it: the low 16 bits of
// TDengine's.
type Code uint16

// The codes that this package gives.
const (
	CodeNotSupported  Code = 0x0100 // a statement of TDengine that this version does not run
	CodeInvalid       Code = 0x0118
	CodeTooLong       Code = 0x0219 // the statement
	CodeOutOfRange    Code = 0x0224 // a number
	CodeSyntax        Code = 0x2600
	CodeIncomplete    Code = 0x2601
	CodeColumnName    Code = 0x2602
	CodeValueType     Code = 0x2605
	CodeTagCount      Code = 0x260D
	CodeNameTooLong   Code = 0x2610 // of a user, or a password
	CodeNoPassword    Code = 0x2611
	CodePort          Code = 0x2612
	CodeEndPoint      Code = 0x2613
	CodeNoDatabase    Code = 0x2616 // for whoever finds no database in a name nor in the request
	CodeIdentifier    Code = 0x2617
	CodeDatabaseOpt   Code = 0x2619
	CodeGroupInterval Code = 0x2624 // GROUP BY together with INTERVAL
	CodeValueTooLong  Code = 0x2653
)

// Error is what is wrong with a statement: a number for programs and a text for
// people. Every error of this package is one.
type Error struct {
	Code Code
	Text string
}

func (e *Error) Error() string { return e.Text }

// orNil is e as an error: a nil *Error is no error.
func (e *Error) orNil() error {
	if e == nil {
		return nil
	}
	return e
}

// errorf makes an Error.
func errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// nearBytes bounds how much of a statement an error quotes.
const nearBytes = 100

// syntaxError says that the statement can't go on with rest.
func syntaxError(rest string) *Error {
	if rest == "" {
		return errorf(CodeIncomplete, "Incomplete SQL statement")
	}
	return errorf(CodeSyntax, "syntax error near \"%s\"", clip(rest))
}

// clip is the start of s, cut between two characters.
func clip(s string) string {
	if len(s) <= nearBytes {
		return s
	}
	n := nearBytes
	for n > nearBytes-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
