package host

import (
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus"
)

// A master that is busy has done nothing, this time. If an earlier try may have
// run, the answer can't be that nothing was done.
func TestBusyAfterAnUnknownOutcome(t *testing.T) {
	for _, refusal := range []error{consensus.ErrBusy, consensus.ErrDiskFull} {
		_, err := decodeReply(1, encodeReply(nil, refusal))
		w := way{}
		if w.note(err) {
			t.Errorf("%v: tried again although nothing was done", err)
		}
		if !w.note(consensus.ErrUnknownOutcome) || !w.note(err) || !w.mayBe {
			t.Errorf("%v ends the search for an unknown outcome", err)
		}
	}
}
