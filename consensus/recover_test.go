package consensus

import (
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

func TestMissing(t *testing.T) {
	// The log ends at 100 in term 5, and 90 are known to be committed.
	log := Remains{Commit: 90, Last: wal.Position{Index: 100, Term: 5}}
	for name, c := range map[string]struct {
		index       id.Index
		term        id.Term
		least, most id.Index
	}{
		"told nothing yet":                {0, 0, 0, 0},
		"as far as the log":               {100, 5, 0, 0},
		"not as far":                      {95, 5, 0, 0},
		"of an earlier term":              {120, 4, 0, 0},
		"further in the same term":        {130, 5, 30, 30},
		"further in a later term":         {130, 6, 30, 40},
		"not further, but in a later one": {98, 6, 1, 8},
		"within what is committed":        {90, 6, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			least, most := log.Missing(wal.Position{Index: c.index, Term: c.term})
			if least != c.least || most != c.most {
				t.Errorf("got %d to %d, want %d to %d", least, most, c.least, c.most)
			}
		})
	}
}
