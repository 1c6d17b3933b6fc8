package query

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/node/host"
	"github.com/tarbitrator/tarbitrator/vnode"
)

// The methods that hosts call on each other.
const (
	MethodPart   = "query.part"   // a statement, restricted to one group
	MethodInsert = "query.insert" // rows for one group
)

// request is a statement that is run on the master of one group, restricted to
// what that group holds.
type request struct {
	group    id.Group
	id       vnode.StatementID // of the first thing that it changes, the others follow
	database string
	moment   sql.Moment
	text     string

	// parsed is the statement, if it has been parsed on this host already.
	parsed sql.Statement
}

const requestVersion = 1

// encode: version:1 boot:8 seq:8 database now:8 zone text
func (r *request) encode() []byte {
	b := make([]byte, 0, 64+len(r.text)+len(r.database))
	b = append(b, requestVersion)
	b = appendID(b, r.id)
	b = appendText(b, r.database)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.moment.Now.UnixNano()))
	b = appendText(b, r.moment.Zone.String())
	return appendText(b, r.text)
}

func appendID(b []byte, i vnode.StatementID) []byte {
	b = binary.LittleEndian.AppendUint64(b, i.Boot)
	return binary.LittleEndian.AppendUint64(b, i.Seq)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) id() vnode.StatementID { return vnode.StatementID{Boot: r.uint64(), Seq: r.uint64()} }

func decodeRequest(b []byte) (*request, error) {
	r := &reader{b: b}
	if v := r.byte(); v != requestVersion && r.err == nil {
		r.fail(fmt.Sprintf("version %d", v))
	}
	q := &request{id: r.id(), database: r.text(maxNameBytes)}
	q.moment.Now = time.Unix(0, int64(r.uint64()))
	zone := r.text(maxNameBytes)
	q.text = r.text(maxStatementBytes)
	if r.err == nil && len(r.b) > 0 {
		r.fail("it goes on after its end")
	}
	if r.err != nil {
		return nil, r.err
	}
	var err error
	if q.moment.Zone, err = time.LoadLocation(zone); err != nil {
		return nil, fmt.Errorf("time zone of a forwarded statement: %w", err)
	}
	return q, nil
}

// Remote is an error on its way to another host: it went through the one table
// here.
type Remote struct {
	Code uint16
	Text string
}

func (r *Remote) Error() string { return r.Text }

// SQLCode is the number that clients know this by.
func (r *Remote) SQLCode() uint16 { return r.Code }

// Handlers are what other hosts may call on this one, each for a group that
// this host leads.
func (e *Engine) Handlers() map[string]host.Handler {
	return map[string]host.Handler{
		MethodPart: e.answering(func(ctx context.Context, g id.Group, body []byte) (*part, error) {
			r, err := decodeRequest(body)
			if err != nil {
				return nil, err
			}
			r.group = g
			return e.runPart(ctx, r)
		}),
		MethodInsert: e.answering(e.insertHere),
	}
}

// maxAnswer bounds the answer of a handler; the rest of a body is the
// forwarder's own.
const maxAnswer = peer.MaxBody - 1<<10

// answering gives the errors of a handler the form in which whoever forwards
// understands them.
func (e *Engine) answering(run func(context.Context, id.Group, []byte) (*part, error)) host.Handler {
	return func(ctx context.Context, _ id.UUID, g id.Group, body []byte) ([]byte, error) {
		p, err := run(ctx, g, body)
		var answer []byte
		if err == nil {
			if answer = p.encode(); len(answer) > maxAnswer {
				err = &sql.Error{Code: sql.CodeOutOfRange, Text: "result is larger than 32 MiB, the most that one host fetches from another: narrow the range of time, add a LIMIT, or ask the master's host"}
			}
		}
		switch {
		case err == nil:
			return answer, nil
		case errors.Is(err, vnode.ErrReplaying) || errors.Is(err, vnode.ErrClosed):
			return nil, host.Again(err)
		case forwardable(err) || ctx.Err() != nil,
			errors.Is(err, consensus.ErrBusy), errors.Is(err, consensus.ErrDiskFull): // true now, perhaps not of an earlier try
			return nil, err
		}
		code, text := e.config.Code(err)
		return nil, &Remote{Code: code, Text: text}
	}
}

// part runs a request on its group's master, here if that is this host.
func (e *Engine) part(ctx context.Context, r *request) (*part, error) {
	p, err := e.runPart(ctx, r)
	if err == nil || !forwardable(err) {
		return p, err
	}
	return e.forward(ctx, r.group, MethodPart, r.encode(), err)
}

// forward runs on the master of a group what has ended with first on this host,
// under the same id. What may have been done here may have been done whatever
// the others say, unless they know what became of it.
func (e *Engine) forward(ctx context.Context, g id.Group, method string, body []byte, first error) (*part, error) {
	answer, err := e.cluster.Forward(ctx, g, method, body)
	if err == nil {
		return decodePart(answer)
	}
	if errors.Is(first, consensus.ErrUnknownOutcome) && !errors.Is(err, consensus.ErrUnknownOutcome) {
		err = fmt.Errorf("%w: %w", consensus.ErrUnknownOutcome, err)
	}
	return nil, err
}

// maxFanOut bounds how many groups one statement talks to at a time.
const maxFanOut = 16

// parts runs the same statement on several groups and returns their answers in
// order, or the first error.
func (e *Engine) parts(ctx context.Context, r *request, groups []id.Group) ([]*part, error) {
	answers := make([]*part, len(groups))
	errs := make([]error, len(groups))
	var all sync.WaitGroup
	slots := make(chan struct{}, maxFanOut)
	for i, g := range groups {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			one := *r
			one.group = g
			answers[i], errs[i] = e.part(ctx, &one)
		})
	}
	all.Wait()
	if err := firstError(errs); err != nil {
		return nil, partly(r, answers, err)
	}
	return answers, nil
}

// partly is err, unless it promises that nothing was done of what some groups
// have done.
func partly(r *request, answers []*part, err error) error {
	done := slices.ContainsFunc(answers, func(p *part) bool { return p != nil })
	var nobody *host.NoMasterError
	if r.id.IsZero() || !done || !errors.As(err, &nobody) || errors.Is(err, consensus.ErrUnknownOutcome) {
		return err
	}
	return fmt.Errorf("%w: done in some groups only: %w", consensus.ErrUnknownOutcome, err)
}

// runPart runs a request on this host's replica. An error for which elsewhere
// is true means that another host leads.
func (e *Engine) runPart(ctx context.Context, r *request) (*part, error) {
	v, ok := e.cluster.Vnode(r.group)
	if !ok {
		return nil, consensus.ErrNoGroup
	}
	if r.parsed == nil {
		var err error
		if r.parsed, err = sql.Parse(r.text); err != nil {
			return nil, err
		}
	}
	switch q := r.parsed.(type) {
	case *sql.Select:
		return e.selectPart(ctx, v, r, q)
	case *sql.Describe:
		return e.describePart(ctx, v, q.Table.Name)
	case *sql.Show:
		return e.showPart(ctx, v, q)
	case *sql.CreateTable, *sql.CreateChildTables, *sql.DropTable:
		return e.tablesPart(ctx, v, r)
	}
	return nil, unsupported("forwarding of " + r.text)
}
