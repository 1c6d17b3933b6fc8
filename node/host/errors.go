package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// CodedError is a refusal by another host, with the code that clients know.
type CodedError struct {
	Code uint16
	Text string
}

func (e *CodedError) Error() string { return e.Text }

// SQLCode is the number that clients know the refusal by.
func (e *CodedError) SQLCode() uint16 { return e.Code }

// Is makes errors.Is compare codes with any error that has one.
func (e *CodedError) Is(target error) bool {
	t, ok := target.(interface{ SQLCode() uint16 })
	return ok && t.SQLCode() == e.Code
}

// NoMasterError says that no host took the request in time. It unwraps to
// consensus.ErrUnknownOutcome if a try may have run all the same; otherwise
// nothing was done.
type NoMasterError struct {
	Group  id.Group
	CutOff bool   // this host reaches no other
	Waits  string // whom the group waits for, as far as this host can tell
	Err    error  // of the last try
}

func (e *NoMasterError) Error() string {
	if e.CutOff {
		return fmt.Sprintf("group %d has no master that this host can reach, it is cut off and waits for %s: %v", e.Group, e.Waits, e.Err)
	}
	if e.Waits != "" {
		return fmt.Sprintf("group %d has no master, it waits for %s: %v", e.Group, e.Waits, e.Err)
	}
	return fmt.Sprintf("group %d has no master: %v", e.Group, e.Err)
}

func (e *NoMasterError) Unwrap() error { return e.Err }

// errAgain marks what a handler refused before it began.
var errAgain = errors.New("not run, try again")

// Again marks an error of a handler: nothing was done, another try may help.
func Again(err error) error { return fmt.Errorf("%w: %w", errAgain, err) }

// The kinds of a reply; part of the wire format (docs/format/wire.md).
const (
	replyDone      = 0 // the body follows
	replyNotLeader = 1 // the leader's UUID follows
	replyLost      = 2
	replyUnknown   = 3
	replyBusy      = 4
	replyAgain     = 5
	replyCoded     = 6 // code, text
	replyText      = 7 // text
	replyFull      = 8
)

// encodeReply puts what a handler returned into the answer of a call.
func encodeReply(body []byte, err error) []byte {
	var notLeader *consensus.NotLeaderError
	var coded interface {
		error
		SQLCode() uint16
	}
	switch {
	case err == nil:
		return append([]byte{replyDone}, body...)
	case errors.As(err, &notLeader):
		return append([]byte{replyNotLeader}, notLeader.Leader[:]...)
	case errors.Is(err, consensus.ErrUnknownOutcome), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return append([]byte{replyUnknown}, err.Error()...)
	case errors.Is(err, consensus.ErrLost):
		return append([]byte{replyLost}, err.Error()...)
	case errors.Is(err, consensus.ErrBusy):
		return append([]byte{replyBusy}, err.Error()...)
	case errors.Is(err, consensus.ErrDiskFull):
		return append([]byte{replyFull}, err.Error()...)
	case errors.Is(err, errAgain), errors.Is(err, consensus.ErrStopped), errors.Is(err, consensus.ErrNoGroup):
		return append([]byte{replyAgain}, err.Error()...)
	case errors.As(err, &coded):
		return append(binary.LittleEndian.AppendUint16([]byte{replyCoded}, coded.SQLCode()), err.Error()...)
	}
	return append([]byte{replyText}, err.Error()...)
}

// decodeReply reads what encodeReply wrote.
func decodeReply(g id.Group, reply []byte) ([]byte, error) {
	if len(reply) == 0 {
		return nil, fmt.Errorf("%w: empty reply", consensus.ErrUnknownOutcome)
	}
	rest := reply[1:]
	switch reply[0] {
	case replyDone:
		return rest, nil
	case replyNotLeader:
		if len(rest) != len(id.UUID{}) {
			return nil, fmt.Errorf("%w: short reply", consensus.ErrUnknownOutcome)
		}
		return nil, &consensus.NotLeaderError{Group: g, Leader: id.UUID(rest)}
	case replyLost:
		return nil, fmt.Errorf("%w (%s)", consensus.ErrLost, rest)
	case replyUnknown:
		return nil, fmt.Errorf("%w (%s)", consensus.ErrUnknownOutcome, rest)
	case replyBusy:
		return nil, fmt.Errorf("%w (%s)", consensus.ErrBusy, rest)
	case replyFull:
		return nil, fmt.Errorf("%w (%s)", consensus.ErrDiskFull, rest)
	case replyAgain:
		return nil, fmt.Errorf("%w: %s", errAgain, rest)
	case replyCoded:
		if len(rest) < 2 {
			return nil, fmt.Errorf("%w: short reply", consensus.ErrUnknownOutcome)
		}
		return nil, &CodedError{Code: binary.LittleEndian.Uint16(rest), Text: string(rest[2:])}
	case replyText:
		return nil, errors.New(string(rest))
	}
	return nil, fmt.Errorf("%w: reply of kind %d", consensus.ErrUnknownOutcome, reply[0])
}
