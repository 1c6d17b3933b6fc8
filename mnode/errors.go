package mnode

import "fmt"

// The codes that clients of the SQL dialect know.
const (
	CodeParameter      = 0x0118 // a name or an end point that can't be one
	CodeDnodeExists    = 0x0330
	CodeNoDnode        = 0x0331
	CodeNoVgroup       = 0x0332
	CodeMnodeMaster    = 0x0333
	CodeOutOfDnodes    = 0x0334
	CodeUserExists     = 0x0350
	CodeInvalidUser    = 0x0351
	CodeInvalidPass    = 0x0352
	CodeAuthFailure    = 0x0357
	CodeDatabaseExists = 0x0381
	CodeOptions        = 0x0382
	CodeNoDatabase     = 0x0388
	CodeCreating       = 0x0396
	CodeReplica        = 0x03B7
	CodeConflict       = 0x03D3
	CodeRefused        = 0x0408 // this host is not let in
)

// Error is a refusal that a client understands. It is a result of a command,
// the same on every host, and says that nothing was changed.
type Error struct {
	Code uint16
	Text string
}

func (e *Error) Error() string { return e.Text }

// Is makes errors.Is compare codes.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

func fail(code uint16, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// SQLCode is the number that clients know the refusal by.
func (e *Error) SQLCode() uint16 { return e.Code }
