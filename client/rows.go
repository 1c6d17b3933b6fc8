package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Column is one column of an answer.
type Column struct {
	Name   string
	Type   string // as the server names it: BIGINT, VARCHAR, TIMESTAMP, ...
	Length int
}

// Rows is a whole answer. A cell is nil (NULL), bool, json.Number or string;
// timestamps are strings in RFC 3339.
type Rows struct {
	Columns []Column
	Data    [][]any
}

// Codes of the server that a client acts on.
const (
	CodeNoConnection   = 0x000B
	CodeOutOfService   = 0x0020
	CodeCreating       = 0x0396
	CodeUnknownOutcome = 0x0903
	CodeNotLeader      = 0x090C
	CodeNotReady       = 0x0911
	CodeRestoring      = 0x0914
	CodeBufferFull     = 0x0916
	CodeWriteStall     = 0x0917
	CodeNoDnode        = 0x0331 // the host is in no cluster
	CodeAuthFailure    = 0x0357
)

// ErrUnknownOutcome means that a statement which must not run twice may or may
// not have run: look before you repeat it.
var ErrUnknownOutcome = errors.New("outcome unknown")

// Error is a refusal by the server.
type Error struct {
	Code int
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("%s (0x%04X)", e.Text, e.Code) }

// Temporary reports whether the same statement may succeed a moment later or on
// another host.
func (e *Error) Temporary() bool {
	switch e.Code {
	case CodeNoConnection, CodeOutOfService, CodeUnknownOutcome, CodeNotLeader,
		CodeNotReady, CodeRestoring, CodeBufferFull, CodeWriteStall:
		return true
	}
	return false
}

// wire is an answer as it comes.
type wire struct {
	Code       int               `json:"code"`
	Desc       string            `json:"desc"`
	ColumnMeta [][3]any          `json:"column_meta"`
	Data       []json.RawMessage `json:"data"`
}

func decode(body []byte, status int) (*Rows, error) {
	var w wire
	if err := strict(body, &w); err != nil {
		if status != http.StatusOK {
			return nil, fmt.Errorf("HTTP status %d: %s", status, bytes.TrimSpace(body))
		}
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if status == http.StatusServiceUnavailable {
		if w.Code != CodeNoDnode {
			w.Code = CodeOutOfService
		}
		return nil, &Error{Code: w.Code, Text: w.Desc}
	}
	if w.Code != 0 {
		return nil, &Error{Code: w.Code, Text: w.Desc}
	}
	rows := &Rows{Columns: make([]Column, len(w.ColumnMeta)), Data: make([][]any, len(w.Data))}
	for i, m := range w.ColumnMeta {
		name, _ := m[0].(string)
		typ, _ := m[1].(string)
		length, _ := m[2].(json.Number)
		n, _ := length.Int64()
		rows.Columns[i] = Column{Name: name, Type: typ, Length: int(n)}
	}
	for i, raw := range w.Data {
		if err := strict(raw, &rows.Data[i]); err != nil {
			return nil, fmt.Errorf("read row %d of the answer: %w", i+1, err)
		}
	}
	return rows, nil
}

// strict decodes JSON and keeps numbers as they were written: a BIGINT does not
// fit a float.
func strict(b []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(to)
}

// affected is the count that a statement answers with which changes something.
func (r *Rows) affected() (int64, error) {
	if len(r.Columns) != 1 || r.Columns[0].Name != "affected_rows" || len(r.Data) != 1 || len(r.Data[0]) != 1 {
		return 0, nil // a query: it changed nothing
	}
	n, _ := r.Data[0][0].(json.Number)
	return n.Int64()
}

// Int is the cell as an integer; false if it is NULL or no integer.
func (r *Rows) Int(row, column int) (int64, bool) {
	n, ok := r.Data[row][column].(json.Number)
	if !ok {
		return 0, false
	}
	i, err := n.Int64()
	return i, err == nil
}

// Text is the cell as text; empty for NULL.
func (r *Rows) Text(row, column int) string {
	switch v := r.Data[row][column].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

// Index is the number of the column of this name, or -1.
func (r *Rows) Index(name string) int {
	for i, c := range r.Columns {
		if c.Name == name {
			return i
		}
	}
	return -1
}
