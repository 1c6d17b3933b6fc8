package query

import (
	"strconv"
	"sync"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/vnode"
)

// A replica asks for the partitions of its tables from several goroutines: a
// map without a lock took the whole host down.
func TestPartitionsAtOnce(t *testing.T) {
	const tables, workers = 1000, 8
	p := newPartitions([]operand{{eval: func(c *cursor) sql.Value { return text(c.table.Name) }}})
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := range tables {
				p.of(&vnode.Table{Name: strconv.Itoa(i)})
			}
		})
	}
	all.Wait()
	if len(p.values) != tables {
		t.Fatalf("%d partitions of %d tables", len(p.values), tables)
	}
	name := p.of(&vnode.Table{Name: "7"})
	if got := p.values[name]; len(got) != 1 || got[0].Text != "7" {
		t.Errorf("the partition of table 7 has the values %v", got)
	}
}
