package peer

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// life is a directory that is started, writes, and may be copied.
type life struct {
	offer    Offer
	sequence uint64
	nonce    *uint64 // shared by all copies: no nonce is drawn twice
}

func newLife() *life { return &life{nonce: new(uint64)} }

func (l *life) start() Offer {
	*l.nonce++
	l.offer = l.offer.Next(*l.nonce, l.sequence)
	return l.offer
}

func (l *life) write(batches uint64) { l.sequence += batches }

func (l *life) copy() *life {
	c := *l
	return &c
}

// peerOf is a directory that remembers another.
type peerOf struct {
	t    *testing.T
	seen Sighting
}

func (p *peerOf) meets(o Offer) {
	p.t.Helper()
	if err := o.Check(); err != nil {
		p.t.Fatal(err)
	}
	seen, err := p.seen.Judge(o)
	if err != nil {
		p.t.Fatalf("an honest start was refused: %v", err)
	}
	p.seen = seen
}

func (p *peerOf) hears(l *life) { p.seen.Heard(l.offer.Start, l.sequence) }

func (p *peerOf) refuses(o Offer, why string) {
	p.t.Helper()
	seen, err := p.seen.Judge(o)
	var old *OldCopyError
	if !errors.As(err, &old) || !strings.Contains(err.Error(), why) {
		p.t.Fatalf("start %d at %d: %v, want %q", o.Boot, o.Sequence, err, why)
	}
	if old.Seen != p.seen || seen != p.seen {
		p.t.Errorf("what was seen is %+v, the error says %+v, afterwards it is %+v", p.seen, old.Seen, seen)
	}
}

// The stories of R42: who is an old copy, and who only looks like one.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name string
		tell func(l *life, p *peerOf)
	}{
		{"an honest life", func(l *life, p *peerOf) {
			for range 100 {
				p.meets(l.start())
				l.write(10)
				p.hears(l)
				p.meets(l.offer) // connects again
			}
		}},
		{"starts that nobody saw", func(l *life, p *peerOf) {
			p.meets(l.start())
			l.write(10)
			p.hears(l)
			for range 40 {
				l.start()
				l.write(1)
			}
			p.meets(l.offer)
		}},
		{"a start that wrote nothing", func(l *life, p *peerOf) {
			p.meets(l.start())
			p.meets(l.start())
		}},
		{"a copy between two starts", func(l *life, p *peerOf) {
			p.meets(l.start())
			l.write(10)
			old := l.copy()
			p.meets(l.start())
			p.refuses(old.start(), "seen from another start")
		}},
		{"a copy of a running start calls itself the next one", func(l *life, p *peerOf) {
			p.meets(l.start())
			l.write(10)
			old := l.copy()
			l.write(10)
			p.hears(l)
			p.refuses(old.start(), "found only 10")
		}},
		{"it stays one, however much it writes on its own", func(l *life, p *peerOf) {
			p.meets(l.start())
			l.write(10)
			old := l.copy()
			l.write(10)
			p.hears(l)
			old.start()
			old.write(1000)
			p.refuses(old.offer, "found only 10") // the sequence at start counts
			p.refuses(old.start(), "found only 10")
			old.write(1000)
			p.refuses(old.start(), "found only 10") // and that of the first start after the one seen
		}},
		{"a copy that has been started before it is met", func(l *life, p *peerOf) {
			p.meets(l.start())
			old := l.copy()
			p.meets(l.start())
			old.write(1000)
			old.start()
			p.refuses(old.start(), "seen from another start")
		}},
		{"an older start than the one seen", func(l *life, p *peerOf) {
			p.meets(l.start())
			old := l.copy()
			l.start()
			p.meets(l.start())
			p.refuses(old.offer, "this is start 1")
			p.refuses(old.start(), "this is start 2")
		}},
		{"the true directory comes back after its copy was refused", func(l *life, p *peerOf) {
			p.meets(l.start())
			old := l.copy()
			l.write(10)
			p.hears(l)
			p.refuses(old.start(), "found only 0")
			p.meets(l.start())
		}},
		{"a directory that is known to be a copy", func(l *life, p *peerOf) {
			p.meets(l.start())
			l.offer.OldCopy = true
			p.refuses(l.offer, "found to be one before")
			p.refuses(l.start(), "found to be one before")
			p.seen = Sighting{}
			p.refuses(l.offer, "found to be one before")
		}},
		// The bounds: what passes, and why nobody can tell.
		{"a copy that is newer than all that was heard passes", func(l *life, p *peerOf) {
			p.meets(l.start())
			l.write(10)
			p.hears(l)
			old := l.copy()
			l.write(10) // not heard
			p.meets(old.start())
		}},
		{"more starts than the history holds, honest", func(l *life, p *peerOf) {
			p.meets(l.start())
			l.write(10)
			p.hears(l)
			for range MaxHistory + 10 {
				l.start()
			}
			p.meets(l.start())
		}},
		{"more starts than the history holds, of a copy", func(l *life, p *peerOf) {
			p.meets(l.start())
			old := l.copy()
			l.write(10)
			p.hears(l)
			for range MaxHistory + 10 {
				old.start()
			}
			p.refuses(old.start(), "found only 0") // the oldest that it tells of is proof enough
			old.write(10)
			for range MaxHistory {
				old.start()
			}
			p.refuses(old.offer, "found only 0")
			p.meets(old.start()) // nothing that is left contradicts
		}},
		{"nothing was seen", func(l *life, p *peerOf) {
			l.start()
			l.write(10)
			p.meets(l.start())
		}},
	} {
		t.Run(c.name, func(t *testing.T) { c.tell(newLife(), &peerOf{t: t}) })
	}
}

// What is heard of another start than the newest changes nothing.
func TestHeardOfAnotherStart(t *testing.T) {
	l, p := newLife(), peerOf{t: t}
	p.meets(l.start())
	first := l.offer.Start
	l.write(10)
	p.meets(l.start())
	for _, x := range []Start{first, {Boot: l.offer.Boot, Nonce: 99}, {}} {
		if p.seen.Heard(x, 1000) || p.seen.Highest != 10 {
			t.Errorf("%+v changed what is known of %+v", x, p.seen)
		}
	}
	if !p.seen.Heard(l.offer.Start, 11) || p.seen.Heard(l.offer.Start, 11) || p.seen.Highest != 11 {
		t.Errorf("heard 11, remembers %+v", p.seen)
	}
}

func TestOfferCheck(t *testing.T) {
	good := Offer{Start{3, 33, 20}, false, []Start{{1, 11, 0}, {2, 22, 20}}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]Offer{
		"no start":                   {},
		"a gap":                      {Start{4, 33, 20}, false, []Start{{1, 11, 0}, {2, 22, 20}}},
		"a gap inside":               {Start{4, 33, 20}, false, []Start{{1, 11, 0}, {3, 22, 20}}},
		"a sequence that goes back":  {Start{3, 33, 19}, false, []Start{{1, 11, 0}, {2, 22, 20}}},
		"a start before the first":   {Start{1, 33, 20}, false, []Start{{0, 11, 0}}},
		"more than an offer may say": {Start: Start{Boot: 100}, History: make([]Start, MaxHistory+1)},
	} {
		if bad.Check() == nil {
			t.Errorf("%s: %+v passes", name, bad)
		}
	}
}

// FuzzDecodeOffer: what is decoded passes Check and comes back when it is
// encoded again.
func FuzzDecodeOffer(f *testing.F) {
	l := newLife()
	f.Add([]byte{})
	for range MaxHistory + 2 {
		l.write(1000)
		o := l.start()
		f.Add(AppendOffer(nil, &o))
		o.OldCopy = true
		f.Add(AppendOffer(nil, &o))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := DecodeOffer(b)
		if err != nil {
			return
		}
		if err := o.Check(); err != nil {
			t.Fatal(err)
		}
		again, err := DecodeOffer(AppendOffer(nil, &o))
		if err != nil || !reflect.DeepEqual(again, o) {
			t.Fatalf("got %+v, %v, want %+v", again, err, o)
		}
	})
}

// FuzzJudge: a life of honest starts is never refused, and a copy of it is
// refused once its first start lies behind what was heard.
func FuzzJudge(f *testing.F) {
	f.Add([]byte{0, 1, 2, 0, 3, 1, 2, 0, 4, 5, 0})
	f.Fuzz(func(t *testing.T, acts []byte) {
		l, p := newLife(), peerOf{t: t}
		p.meets(l.start())
		var old *life
		starts := 0 // of l since the copy was made
		for _, a := range acts[:min(len(acts), 500)] {
			switch a % 4 {
			case 0:
				l.start()
				starts++
			case 1:
				l.write(uint64(a))
			case 2:
				p.meets(l.offer)
				p.hears(l)
			case 3:
				old, starts = l.copy(), 0
			}
		}
		p.meets(l.offer)
		p.hears(l)
		if old == nil {
			return
		}
		o := old.start()
		if starts > 0 || o.Sequence < p.seen.Highest {
			p.refuses(o, "old copy")
		} else {
			p.meets(o)
		}
	})
}
