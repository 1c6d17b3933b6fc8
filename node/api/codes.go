package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/mnode"
	"github.com/tarbitrator/tarbitrator/node/host"
	"github.com/tarbitrator/tarbitrator/vnode"
)

// Failure is an error as a client sees it.
type Failure struct {
	Code         uint16
	Text         string
	Status       int // of HTTP; 200 for everything that the SQL layer says
	StrictStatus int // the same when the door is asked to be strict
}

// Codes that more than one floor needs to name.
const (
	CodeOutOfService = 0x0020
	CodeTooLong      = 0x0219
	CodeAuthFailure  = 0x0357
	CodeUnreadable   = 0x1121
	CodeUncoded      = 0xFFFF
)

// coded is implemented by the errors that know their own number.
type coded interface{ SQLCode() uint16 }

// partial is implemented by the errors of statements of which a part is stored;
// every text says which.
type partial interface{ Stored() string }

// sentinel ties an error that other packages give to its number.
type sentinel struct {
	err    error
	code   uint16
	text   string // empty: the error's own
	status int    // zero: 200
}

// The one table from errors to codes. The first that matches counts; an unknown
// outcome comes before everything that says why.
var sentinels = []sentinel{
	{err: ErrNoAuth, code: 0x1105, status: http.StatusUnauthorized},
	{err: ErrAuthScheme, code: 0x1122, status: http.StatusUnauthorized},
	{err: ErrAuthBasic, code: 0x1124, status: http.StatusUnauthorized},
	{err: ErrAuthTaosd, code: 0x1125, status: http.StatusUnauthorized},
	{err: ErrAuthFailed, code: CodeAuthFailure},
	{err: ErrBodyTooLong, code: CodeTooLong, text: "SQL statement too long: at most 1 MiB"},
	{err: ErrBody, code: CodeUnreadable, status: http.StatusBadRequest},
	{err: ErrOverloaded, code: CodeUncoded, status: http.StatusServiceUnavailable},
	{err: vnode.ErrNoTable, code: 0x2603},
	{err: vnode.ErrTableExists, code: 0x0603},
	{err: vnode.ErrNoStable, code: 0x0362},
	{err: vnode.ErrStableExists, code: 0x0360},
	{err: vnode.ErrNoColumn, code: 0x2602},
	{err: vnode.ErrColumnExists, code: 0x036B},
	{err: vnode.ErrNoTag, code: 0x036A},
	{err: vnode.ErrSchemaChanged, code: 0x03D3},
	{err: vnode.ErrOutOfRange, code: 0x060B},
	{err: vnode.ErrTooLong, code: 0x2653},
	{err: vnode.ErrWrongType, code: 0x2605},
	{err: vnode.ErrTooLarge, code: CodeTooLong},
	{err: vnode.ErrBadStatement, code: 0x0118},
	{err: vnode.ErrReplaying, code: 0x0914, text: "Sync leader is restoring: the statement was not stored, repeat it"},
	{err: vnode.ErrClosed, code: 0x0020, text: "some vnode/qnode/mnode(s) out of service: this host is stopping"},
	{err: consensus.ErrBusy, code: 0x0917, text: "Sync write stall: too much is waiting to be committed, try again"},
	{err: consensus.ErrDiskFull, code: 0x0917, text: "Sync write stall: the disk of the master is full"},
	{err: consensus.ErrLost, code: 0x0911, text: "Sync not ready to propose: the statement was not stored, repeat it"},
	{err: consensus.ErrStopped, code: 0x0020, text: "some vnode/qnode/mnode(s) out of service: this host is stopping"},
	{err: consensus.ErrNoGroup, code: 0x0332, text: "Vgroup does not exist"},
	{err: consensus.ErrChanging, code: 0x03D3, text: "Conflict transaction not completed: another change of members is under way"},
	{err: context.DeadlineExceeded, code: 0x0020, text: "some vnode/qnode/mnode(s) out of service: no answer in time"},
}

// Describe finds the code of any error. What has none is 0xFFFF with its own
// text.
func Describe(err error) Failure {
	code, text, status := uint16(CodeUncoded), err.Error(), http.StatusOK
	var (
		statement *sql.Error
		refusal   *mnode.Error
		elsewhere *consensus.NotLeaderError
		own       coded
		cut       *host.NoMasterError
	)
	switch {
	case errors.Is(err, consensus.ErrUnknownOutcome):
		code, text = 0x0903, "outcome unknown: the statement may or may not be stored, repeat it"
	case errors.As(err, &cut):
		code, text = 0x0020, "some vnode/qnode/mnode(s) out of service: "+cut.Error()
		if cut.CutOff {
			code, text = 0x000B, "Unable to establish connection: "+cut.Error()
		}
	case errors.As(err, &own):
		code = own.SQLCode()
	case errors.As(err, &statement):
		code, text = uint16(statement.Code), statement.Text
	case errors.As(err, &refusal):
		code, text = refusal.Code, refusal.Text
	case errors.As(err, &elsewhere):
		code, text = 0x0020, "some vnode/qnode/mnode(s) out of service: "+elsewhere.Error()
	default:
		for _, s := range sentinels {
			if !errors.Is(err, s.err) {
				continue
			}
			code = s.code
			if s.text != "" {
				text = s.text
			}
			if s.status != 0 {
				status = s.status
			}
			break
		}
	}
	var partly partial
	if errors.As(err, &partly) && !strings.Contains(text, partly.Stored()) {
		text += "; " + partly.Stored()
	}
	return Failure{Code: code, Text: text, Status: status, StrictStatus: strictStatus(code)}
}

// strictStatus is the HTTP status of an error of the SQL layer when clients
// want one (httpCodeServerError).
func strictStatus(code uint16) int {
	switch {
	case code == 0x0216 || code == 0x021B || code == 0x2600 || code == 0x060B || code == 0x0224 || code == 0x263B:
		return http.StatusBadRequest
	case code >= 0x0350 && code <= 0x0357:
		return http.StatusUnauthorized
	case code == 0x0020:
		return http.StatusForbidden
	case code == 0x000B:
		return http.StatusBadGateway
	}
	return http.StatusInternalServerError
}

// String is the form that people see in a shell.
func (f Failure) String() string { return fmt.Sprintf("%s (0x%04X)", f.Text, f.Code) }
