package host

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// go test ./node/host -run TestNothingHangsHalfMade -from N -seeds M
var (
	firstSeed = flag.Int("from", 0, "first seed of the chaos")
	seeds     = flag.Int("seeds", 6, "how many seeds")
)

// chaos is one seeded story of faults and statements.
type chaos struct {
	*town
	rng   *rand.Rand
	alive map[string]bool // databases that must exist at the end
	gone  map[string]bool // databases that must not
}

// Whatever dies while databases come and go: what was acknowledged stands,
// what was dropped is gone everywhere, and nothing hangs half made.
func TestNothingHangsHalfMade(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w, a, b := pair(t)
				defer w.end()
				c := &chaos{town: w, rng: rand.New(rand.NewPCG(uint64(seed), 7)), alive: map[string]bool{}, gone: map[string]bool{}}
				stop := make(chan struct{})
				ended := make(chan struct{})
				go func() { defer close(ended); c.statements(uint64(seed), stop) }()
				for range 25 {
					c.fault(a, b)
				}
				c.heal(a, b)
				close(stop)
				<-ended
				c.check(a, b)
			})
		})
	}
}

func (c *chaos) pause(most time.Duration) { time.Sleep(time.Duration(c.rng.Int64N(int64(most)))) }

// fault breaks or mends one thing and waits a little.
func (c *chaos) fault(a, b *house) {
	victim := a
	if c.rng.IntN(2) == 0 {
		victim = b
	}
	switch c.rng.IntN(6) {
	case 0, 1:
		if victim.alive() && c.rng.IntN(2) == 0 {
			victim.kill()
			if c.rng.IntN(2) == 0 {
				victim.disk.PowerOff()
			}
		}
	case 2, 3:
		if !victim.alive() {
			victim.move()
		}
	case 4:
		c.mu.Lock()
		c.arb.up = !c.arb.up
		c.mu.Unlock()
	case 5:
		c.mu.Lock()
		way := [][2]string{{addrA, addrB}, {addrA, addrW}, {addrB, addrW}}[c.rng.IntN(3)]
		c.cut[way] = !c.cut[way]
		c.mu.Unlock()
	}
	c.pause(1500 * time.Millisecond)
}

func (c *chaos) heal(a, b *house) {
	c.mu.Lock()
	c.arb.up = true
	clear(c.cut)
	c.mu.Unlock()
	for _, h := range []*house{a, b} {
		if !h.alive() {
			h.move()
		}
	}
}

// statements creates and drops databases at whoever is up, one at a time.
func (c *chaos) statements(seed uint64, stop <-chan struct{}) {
	rng := rand.New(rand.NewPCG(seed, 8))
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rng.Int64N(int64(time.Second)))):
		}
		up := c.neighbours("")
		if len(up) == 0 {
			continue
		}
		h, _ := up[rng.IntN(len(up))].resident()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		name := fmt.Sprintf("db%d", n)
		var known *mnode.Error
		var coded *CodedError
		err := h.CreateDatabase(ctx, name, twoReplicas(1+rng.IntN(2)))
		if err == nil || errors.As(err, &known) && known.Code == mnode.CodeCreating {
			c.alive[name] = true
		} else if errors.As(err, &known) || errors.As(err, &coded) {
			c.t.Errorf("create %s: %v", name, err)
		}
		if c.alive[name] && rng.IntN(2) == 0 {
			delete(c.alive, name)
			if err := h.DropDatabase(ctx, name); err == nil {
				c.gone[name] = true
			}
		}
		cancel()
	}
}

// check waits until the cluster is at rest and compares it with what was said.
func (c *chaos) check(a, b *house) {
	defer func() {
		if c.t.Failed() {
			c.t.Logf("a: %+v\n%+v\nb: %+v\n%+v", a.Overview(), a.record.replicas(), b.Overview(), b.record.replicas())
		}
	}()
	c.until("rest", func() bool { return c.atRest(a) && c.atRest(b) && a.View().Index == b.View().Index })
	for name := range c.alive {
		if _, ok := a.View().Database(name); !ok {
			c.t.Errorf("%s was acknowledged and is gone", name)
		}
	}
	for name := range c.gone {
		if _, ok := a.View().Database(name); ok {
			c.t.Errorf("%s was dropped and is back", name)
		}
	}
}

// atRest reports whether a host's replicas are what the record says, all of
// them led and caught up.
func (c *chaos) atRest(h *house) bool {
	v, o := h.View(), h.Overview()
	if len(v.Groups) != len(o.Groups)+1 || len(h.record.replicas()) != len(v.Groups) || o.Alive != 1 {
		return false
	}
	for _, g := range v.Groups {
		if g.State != mnode.Formed || len(g.Members) != 3 {
			return false
		}
		if s, ok := h.groups.Status(g.ID); !ok || s.Faulty != nil || !s.Formed {
			return false
		}
		if _, ok := h.Shard(g.ID); !ok && g.ID != id.Mnode {
			return false
		}
	}
	return true
}
