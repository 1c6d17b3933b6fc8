package vnode

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// grave is what is left of a dropped table or super table: who lived from which
// place in the log to which.
//
// A replay needs it. It meets a store without the table and must do what was
// done when the table was still there: refuse to create another one under the
// name, for instance. Guessing instead would let a table come to life that the
// other replicas do not have.
type grave struct {
	id      objectID
	name    string
	stable  bool
	under   objectID // of a child: its super table
	dropped objectID // place in the log of the statement that dropped it
}

const graveVersion = 1

// append appends the record of a grave: docs/format/vnode.md.
func (g *grave) append(dst []byte) []byte {
	dst = append(dst, graveVersion)
	dst = appendBool(dst, g.stable)
	dst = binary.AppendUvarint(dst, uint64(g.under))
	dst = binary.AppendUvarint(dst, uint64(g.dropped))
	return appendBytes(dst, g.name)
}

func parseGrave(of objectID, src []byte) (*grave, error) {
	d := decoder{src: src}
	if v := d.byte(); d.err == nil {
		d.stop(checkVersion("record of a dropped table", v, graveVersion))
	}
	g := &grave{id: of, stable: d.byte() != 0, under: objectID(d.uvarint()), dropped: objectID(d.uvarint()), name: d.name()}
	return g, d.end()
}

func loadGraves(txn *badger.Txn, c *catalog) error {
	return walk(txn, []byte{keyDropped}, func(key, value []byte) error {
		of := objectID(binary.BigEndian.Uint64(key[1:]))
		g, err := parseGrave(of, value)
		if err != nil {
			return fmt.Errorf("read dropped table: %w", err)
		}
		c.buryLocked(g)
		return nil
	})
}

func (c *catalog) bury(g *grave) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buryLocked(g)
}

// buryLocked adds a grave, unless there is one of the same object.
func (c *catalog) buryLocked(g *grave) {
	if c.dead[g.id] != nil {
		return
	}
	c.dead[g.id] = g
	c.graves[g.name] = append(c.graves[g.name], g)
}

// grave is the grave of who had the name at a place in the log, if any.
func (c *catalog) grave(name string, stable bool, at objectID) *grave {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, g := range c.graves[name] {
		if g.stable == stable && g.id < at && at < g.dropped {
			return g
		}
	}
	return nil
}

// buried reports whether the object was dropped.
func (c *catalog) buried(of objectID) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.dead[of] != nil
}

// buriedAfter reports whether the object was dropped later in the log than at.
func (c *catalog) buriedAfter(of, at objectID) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	g := c.dead[of]
	return g != nil && at < g.dropped
}

// redrop moves the end of who had the name at a place in the log to there, and
// that of its children. It returns their graves.
func (c *catalog) redrop(name string, stable bool, at objectID) []*grave {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.graves[name] {
		if g.stable == stable && g.id < at && at < g.dropped {
			moved := c.moveChildrenLocked(g.id, at)
			return append(moved, c.moveLocked(g, at))
		}
	}
	panic(fmt.Sprintf("vnode: nothing called %q was there at %d", name, at))
}

// moveChildrenLocked moves the ends of the children that a super table had at a
// place in the log to there.
func (c *catalog) moveChildrenLocked(stable, at objectID) (moved []*grave) {
	for _, g := range c.dead {
		if g.under == stable && g.id < at && at < g.dropped {
			moved = append(moved, c.moveLocked(g, at))
		}
	}
	return moved
}

func (c *catalog) moveLocked(g *grave, at objectID) *grave {
	earlier := *g
	earlier.dropped = at
	list := c.graves[g.name]
	list[slices.Index(list, g)], c.dead[g.id] = &earlier, &earlier
	return &earlier
}

// forget removes a grave that no replay can ask for.
func (c *catalog) forget(g *grave) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.dead, g.id)
	list := slices.DeleteFunc(c.graves[g.name], func(o *grave) bool { return o.id == g.id })
	if c.graves[g.name] = list; len(list) == 0 {
		delete(c.graves, g.name)
	}
}

// allGraves is every grave, in no order.
func (c *catalog) allGraves() []*grave {
	c.mu.RLock()
	defer c.mu.RUnlock()
	list := make([]*grave, 0, len(c.dead))
	for _, g := range c.dead {
		list = append(list, g)
	}
	return list
}
