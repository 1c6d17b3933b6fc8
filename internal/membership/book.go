package membership

import "github.com/tarbitrator/tarbitrator/internal/id"

// maxHosts bounds the book. Only hosts that know the key get into it; a cluster
// has four.
const maxHosts = 64

// book is what was heard of other hosts. It is a pure value: its owner hands in
// the news.
//
// Invariant: news of an earlier start never replaces news of a later one.
type book struct {
	self  id.UUID
	hosts map[id.UUID]Host
}

func newBook(self id.UUID) book { return book{self: self, hosts: map[id.UUID]Host{}} }

// note takes news of a host. It reports whether it is news.
func (b *book) note(h Host) bool {
	was, known := b.hosts[h.UUID]
	switch {
	case h.UUID == b.self, h.Start < was.Start, !known && len(b.hosts) >= maxHosts:
		return false
	case !known && h.State != Alive: // it was gone before this host began to listen
		return false
	case h.Start == was.Start && h.State == was.State && h.EndPoint == was.EndPoint && h.Dnode == was.Dnode:
		return false
	case h.Start > was.Start && h.State != Alive:
		return false // it was never heard while it lived
	}
	b.hosts[h.UUID] = h
	return true
}

func (b *book) alive(u id.UUID) bool { return b.hosts[u].State == Alive }
