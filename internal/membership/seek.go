package membership

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/serf/serf"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// The rhythm of seeking.
const (
	seekFirst    = 500 * time.Millisecond // doubled up to seekMost
	seekMost     = 15 * time.Second
	lookupWithin = 2 * time.Second
	// blockedAfter is how long a connected host may be unheard before someone
	// is told: it has had several rounds by then.
	blockedAfter = 20 * time.Second
	// idle is a look at nothing in particular.
	idle = time.Minute
)

// seeker decides when and where to look for hosts that gossip does not hear. It
// is a pure value: its owner hands in the time and acts.
type seeker struct {
	sought []Sought
	due    time.Time
	wait   time.Duration // after the next round
	silent map[id.UUID]silence
}

// silence is that of gossip about a host that is connected.
type silence struct {
	since time.Time
	said  bool
}

// blockage is the begin or the end of a silence that someone is told of.
type blockage struct {
	host Sought
	over bool
}

func newSeeker() seeker { return seeker{wait: seekFirst, silent: map[id.UUID]silence{}} }

// seek takes who should be there. Anything new about them is worth a look at
// once.
func (s *seeker) seek(now time.Time, list []Sought) {
	same := slices.EqualFunc(s.sought, list, func(a, b Sought) bool {
		return a.UUID == b.UUID && a.Linked == b.Linked && slices.Equal(a.Addrs, b.Addrs)
	})
	if same {
		return
	}
	s.sought, s.due, s.wait = list, now, seekFirst
	for u := range s.silent {
		if !slices.ContainsFunc(list, func(x Sought) bool { return x.UUID == u }) {
			delete(s.silent, u)
		}
	}
}

// look returns where to look now: empty if nobody is missing, or it is too
// early.
func (s *seeker) look(now time.Time, alive func(id.UUID) bool) []string {
	var addrs []string
	for _, x := range s.sought {
		if alive(x.UUID) {
			continue
		}
		for _, a := range x.Addrs {
			if !slices.Contains(addrs, a) {
				addrs = append(addrs, a)
			}
		}
	}
	if len(addrs) == 0 {
		s.due, s.wait = now, seekFirst // whoever is lost next is sought at once
		return nil
	}
	if now.Before(s.due) {
		return nil
	}
	s.due = now.Add(s.wait)
	s.wait = min(2*s.wait, seekMost)
	return addrs
}

// again is when to look again, if nothing happens before.
func (s *seeker) again(now time.Time) time.Duration {
	next := idle
	if s.due.After(now) {
		next = s.due.Sub(now)
	}
	for _, x := range s.silent {
		if !x.said {
			next = min(next, max(x.since.Add(blockedAfter).Sub(now), time.Millisecond))
		}
	}
	return next
}

// blocked returns the hosts of whose silence someone has to be told now.
func (s *seeker) blocked(now time.Time, alive func(id.UUID) bool) (news []blockage) {
	for _, x := range s.sought {
		was, silent := s.silent[x.UUID]
		switch {
		case !x.Linked || alive(x.UUID):
			delete(s.silent, x.UUID)
			if was.said && alive(x.UUID) {
				news = append(news, blockage{x, true})
			}
		case !silent:
			s.silent[x.UUID] = silence{since: now}
		case !was.said && now.Sub(was.since) >= blockedAfter:
			s.silent[x.UUID] = silence{since: was.since, said: true}
			news = append(news, blockage{x, false})
		}
	}
	return news
}

// join asks at addrs who is there. That nobody answers is no news: they are
// asked again.
func join(ctx context.Context, s *serf.Serf, addrs []string) {
	for _, addr := range addrs {
		for _, at := range resolve(ctx, addr) {
			if ctx.Err() != nil {
				return
			}
			_, _ = s.Join([]string{at.String()}, true) // the library logs why, for whoever debugs
		}
	}
}

// resolve finds the addresses of host:port, at most three: the library's own
// way asks name servers that this machine may not use.
func resolve(ctx context.Context, addr string) []netip.AddrPort {
	const most = 3
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupWithin)
	defer cancel()
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	var list []netip.AddrPort
	for _, ip := range ips[:min(len(ips), most)] {
		list = append(list, netip.AddrPortFrom(ip.Unmap(), uint16(number)))
	}
	return list
}
