package host

import (
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// shardAt is a shard whose state reaches an entry.
type shardAt struct {
	consensus.StateMachine
	applied id.Index
}

func (s shardAt) Applied() id.Index { return s.applied }

// A replica whose directory is gone must not go on as if it held everything.
func TestLostStateIsFound(t *testing.T) {
	for _, c := range []struct {
		applied, mark id.Index
		ok            bool
	}{
		{0, 1, true}, // as it was created
		{9, 9, true}, {20, 9, true},
		{0, 9, false}, {8, 9, false},
	} {
		if err := reaches(shardAt{applied: c.applied}, c.mark); (err == nil) != c.ok {
			t.Errorf("state up to %d, durable up to %d: got %v", c.applied, c.mark, err)
		}
	}
}
