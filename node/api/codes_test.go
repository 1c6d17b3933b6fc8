package api

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/node/host"
	"github.com/tarbitrator/tarbitrator/node/query"
)

// Whatever made an INSERT fail midway: the text names the tables whose rows are
// stored, once.
func TestPartialInsertSaysWhatIsStored(t *testing.T) {
	for _, reason := range []error{
		fmt.Errorf("%w: the host died", consensus.ErrUnknownOutcome),
		&host.NoMasterError{Group: 3, Err: &consensus.NotLeaderError{Group: 3}},
		consensus.ErrBusy,
		&query.Remote{Code: 0x060B, Text: "out of range"},
		errors.New("something else"),
	} {
		alone := Describe(reason)
		partly := Describe(&query.PartialError{Tables: []string{"d1", "d2"}, Rows: 5, Err: reason})
		if partly.Code != alone.Code || strings.Count(partly.Text, "5 rows are stored, those of d1, d2") != 1 {
			t.Errorf("%v: got 0x%04X %q", reason, partly.Code, partly.Text)
		}
	}
}
