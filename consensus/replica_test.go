package consensus

import (
	"context"
	"errors"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// flaky is a state machine that fails once.
type flaky struct {
	Snapshotter // never called

	failed  bool
	applied []id.Index
}

func (f *flaky) Apply(entries []Entry) ([]any, error) {
	if !f.failed {
		f.failed = true
		return nil, errors.New("disk error")
	}
	for _, e := range entries {
		f.applied = append(f.applied, e.Index)
	}
	return make([]any, len(entries)), nil
}

func (f *flaky) Checkpoint(context.Context) (id.Index, error) { return 0, nil }
func (f *flaky) LeaderChanged(id.Term, id.UUID, bool)         {}
func (f *flaky) Close() error                                 { return nil }

// A state machine that could not apply a batch gets no later one, though more
// were on their way to it, and nobody waits for them for ever.
func TestNothingIsAppliedAfterAFailure(t *testing.T) {
	h := &Host{}
	h.inbox.init()
	sm := &flaky{}
	r := newReplica(1, sm)
	h.shared.replicas = map[id.Group]*replica{1: r}
	proposer, reader, late := make(chan outcome, 1), make(chan outcome, 1), make(chan outcome, 1)
	r.expect(3, 1, proposer)
	r.expectApplied(3, reader)
	w := newWorker(h)
	for i := id.Index(2); i < 4; i++ {
		w.apply(Apply{Group: 1, Entries: []Entry{{Index: i, Term: 1, Data: []byte{1}}}, Index: i})
	}
	if len(sm.applied) > 0 {
		t.Errorf("applied %d after an earlier entry had failed", sm.applied)
	}
	r.expect(4, 1, late)
	for what, c := range map[string]struct {
		out  chan outcome
		want error
	}{"proposer": {proposer, ErrUnknownOutcome}, "reader": {reader, ErrStopped}, "late proposer": {late, ErrUnknownOutcome}} {
		select {
		case o := <-c.out:
			if !errors.Is(o.err, c.want) {
				t.Errorf("%s: got %v, want %v", what, o.err, c.want)
			}
		default:
			t.Errorf("%s waits for ever", what)
		}
	}
	events, _ := h.inbox.take()
	if len(events) != 1 {
		t.Errorf("got events %+v, want one failure", events)
	}
	r.expectApplied(3, reader)
	if o := <-reader; !errors.Is(o.err, ErrStopped) {
		t.Errorf("late reader: got %v", o.err)
	}
}
