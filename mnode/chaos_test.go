package mnode

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// chaos does to a world whatever an operator and bad luck do, in any order.
type chaos struct {
	*world
	rng   *rand.Rand
	story []string
	uuids byte // handed out
	names int
	dead  map[id.Host]bool // and dropped: never up again
}

func (c *chaos) say(format string, args ...any) {
	c.story = append(c.story, fmt.Sprintf(format, args...))
}

func (c *chaos) uuid() id.UUID {
	c.uuids++
	return id.UUID{c.uuids, 0xcc}
}

// member is any member, with its host.
func (c *chaos) member() (Dnode, *worldHost) {
	live := c.v.Live()
	d := live[c.rng.IntN(len(live))]
	return d, c.hosts[d.ID]
}

// step does one thing.
func (c *chaos) step() {
	switch c.rng.IntN(14) {
	case 0:
		if len(c.v.Live()) < 5 {
			c.join()
		}
	case 1:
		if d, _ := c.member(); d.UUID != c.rafts[id.Mnode].leader {
			dead := c.whole() && !c.alone(d.ID)
			r := c.commit(DropDnode{Dnode: d.ID})
			c.say("drop dnode %d, which is dead: %v: %v", d.ID, dead, r.Error())
			if r.Err == nil && dead {
				c.dead[d.ID] = true
				c.hosts[d.ID].up = false
				c.wait()
			}
		}
	case 2, 3:
		o := DefaultOptions()
		o.Replica, o.Vgroups = 1+c.rng.IntN(4), 1+c.rng.IntN(2)
		c.names++
		r := c.commit(CreateDatabase{Name: fmt.Sprint("d", c.names), Options: o})
		c.say("create database d%d replica %d: %v", c.names, o.Replica, r.Error())
	case 4:
		if n := len(c.v.Databases); n > 0 {
			db := c.v.Databases[c.rng.IntN(n)]
			c.say("drop database %s: %v", db.Name, c.commit(DropDatabase{Name: db.Name}).Error())
		}
	case 5, 6:
		if n := len(c.v.Databases); n > 0 {
			db, replica := c.v.Databases[c.rng.IntN(n)], 1+c.rng.IntN(4)
			c.say("alter database %s replica %d: %v", db.Name, replica, c.commit(AlterReplica{Name: db.Name, Replica: replica}).Error())
		}
	case 7, 8:
		if _, h := c.member(); h != nil {
			h.up = c.rng.IntN(2) == 0
			c.say("host %s up: %v", h.endPoint, h.up)
			c.wait()
		}
	case 9:
		c.arb.up = c.rng.IntN(2) == 0
		c.say("arbitrator up: %v", c.arb.up)
		c.wait()
	case 10:
		c.loseOne()
	case 11:
		c.say("new master")
		c.newMaster()
	case 12:
		at := fmt.Sprintf("w%d:6042", c.rng.IntN(3))
		a := c.arbs[at]
		if a == nil {
			a = &worldArbitrator{uuid: c.uuid(), up: true, records: map[Enrolment]bool{}}
			c.arbs[at] = a
		}
		if a.up {
			c.say("alter cluster arbitrator %s: %v", at, c.commit(SetArbitrator{EndPoint: at, UUID: a.uuid, Configured: "w:6042"}).Error())
		}
	case 13:
		c.rounds(1+c.rng.IntN(20), nil)
		return
	}
	c.rounds(c.rng.IntN(4), nil)
}

// wait lets it be known who is silent.
func (c *chaos) wait() { c.now = c.now.Add(2 * quietIntervals * c.facts.Interval) }

func (c *chaos) join() {
	n := c.v.NextDnode
	at := fmt.Sprintf("h%d:6030", n)
	c.commit(CreateDnode{EndPoint: at})
	c.say("create dnode %d: %v", n, c.addHost(n, c.uuid(), at).Error())
}

// loseOne takes a directory for good, of a cluster that is whole: more than one
// at a time nothing has to survive.
func (c *chaos) loseOne() {
	c.heal()
	c.settle(nil)
	if !c.whole() {
		return
	}
	if c.rng.IntN(3) == 0 {
		c.say("the arbitrator is wiped")
		c.arb.uuid, c.arb.records = c.uuid(), map[Enrolment]bool{}
		c.rounds(2, nil) // it is noticed
		return
	}
	d, h := c.member()
	if len(c.v.Live()) < 2 || h == nil || c.alone(d.ID) {
		return
	}
	c.say("the directory of dnode %d is lost", d.ID)
	h.up = false
	c.wait()
	c.rounds(c.rng.IntN(5), nil)
	c.commit(RestoreDnode{Dnode: d.ID})
	if r := c.addHost(d.ID, c.uuid(), d.EndPoint); r.Err != nil {
		c.t.Fatal(r.Err)
	}
}

// alone reports whether a dnode has the only replica of a group.
func (c *chaos) alone(n id.Host) bool {
	return slices.ContainsFunc(c.v.Groups, func(g Group) bool { _, on := g.at(n); return on && len(g.Data()) == 1 })
}

// whole reports whether everybody is up, and nothing is under way.
func (c *chaos) whole() bool {
	c.reconcile()
	actions, tasks := Plan(c.now, c.v, &c.facts)
	down := slices.ContainsFunc(c.v.Live(), func(d Dnode) bool { return !c.alive(d.UUID) })
	return len(actions) == 0 && len(tasks) == 0 && !down && c.arb.up
}

// heal brings everybody back but the dead.
func (c *chaos) heal() {
	for n, h := range c.hosts {
		h.up = !c.dead[n]
	}
	for _, a := range c.arbs {
		a.up = true
	}
	c.say("all are up")
}

// TestAnyOrderEnds: whatever is typed and whoever dies, once all are back but the
// dead, every group is as it should be and nothing waits.
func TestAnyOrderEnds(t *testing.T) {
	for seed := range uint64(200) {
		c := &chaos{world: newWorld(t, true), rng: rand.New(rand.NewPCG(seed, 2)), dead: map[id.Host]bool{}}
		c.run(t, seed)
	}
}

func (c *chaos) run(t *testing.T, seed uint64) {
	defer func() {
		if t.Failed() {
			t.Logf("seed %d: %s\n%s", seed, strings.Join(c.story, "\n"), c)
		}
	}()
	c.join()
	for range 40 {
		c.step()
	}
	c.heal()
	c.settle(nil)
	if wrong := c.wrong(); wrong != "" {
		t.Fatal(wrong)
	}
}

// wrong says what is not as it should be.
func (c *chaos) wrong() string {
	if _, tasks := Plan(c.now, c.v, &c.facts); len(tasks) > 0 {
		return fmt.Sprintf("%+v is not done", tasks[0])
	}
	for _, g := range c.v.Groups {
		_, witness := g.Witness()
		n := len(g.Data())
		switch {
		case g.State != Formed, slices.ContainsFunc(g.Members, func(m Member) bool { return m.Joining || m.Leaving || c.v.gone(m) }):
			return fmt.Sprintf("group %d is not done", g.ID)
		case g.ID != id.Mnode && n != c.v.wanted(g), witness != (n%2 == 0):
			return fmt.Sprintf("group %d has %d data replicas, arbitrator %v", g.ID, n, witness)
		}
	}
	return ""
}
