package consensus

import (
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
)

// A leader shows that the arbitrator votes no more for its group, and a host
// that its disk hangs, for as long as it is so.
func TestStatusShowsWhatIsWrong(t *testing.T) {
	s := newStage(t)
	s.form(2, []string{"a", "b"})
	s.run(5 * time.Second)
	var leader *actor
	for _, n := range s.names() {
		if s.hosts[n].m.Status()[0].Role == RoleMaster {
			leader = s.hosts[n]
		}
	}
	if leader == nil {
		t.Fatal("nobody leads after 5 s")
	}
	if r := leader.m.Status()[0].Refusal; r != 0 {
		t.Errorf("a healthy arbitrator is shown to refuse: %v", r)
	}
	s.arb = newArbitrator() // its directory was emptied: it knows no replica
	leader.inbox = append(leader.inbox, Propose{Group: 2, Tickets: []uint64{1}, Data: [][]byte{[]byte("x")}})
	s.run(10 * time.Second) // the next pulse says what is committed
	if r := leader.m.Status()[0].Refusal; r != peer.WrongWitness && r != peer.UnknownGroup {
		t.Errorf("a wiped arbitrator is shown as %v", r)
	}

	if d := leader.m.DiskHung(); d != 0 {
		t.Errorf("a healthy disk hangs for %v", d)
	}
	s.hung[leader.name] = true
	s.run(3 * time.Second) // a probe, and the time after which it hangs
	if d := leader.m.DiskHung(); d < DefaultConfig().HungAfter {
		t.Errorf("a hung disk hangs for %v, want at least %v", d, DefaultConfig().HungAfter)
	}
}

// An arbitrator that owes an answer is shown to, for as long as it does.
func TestStatusShowsAMuteArbitrator(t *testing.T) {
	s := newStage(t)
	s.form(2, []string{"a", "b"})
	s.run(5 * time.Second)
	unanswered := func() (most time.Duration) {
		for _, n := range s.names() {
			most = max(most, s.hosts[n].m.Status()[0].Unanswered)
		}
		return most
	}
	write := func() {
		for _, n := range s.names() {
			if a := s.hosts[n]; a.m.Status()[0].Role == RoleMaster {
				s.next++
				a.inbox = append(a.inbox, Propose{Group: 2, Tickets: []uint64{s.next}, Data: [][]byte{[]byte("x")}})
			}
		}
		s.run(2 * DefaultConfig().PulseEvery)
	}
	if write(); unanswered() != 0 {
		t.Errorf("a healthy arbitrator has owed an answer for %v", unanswered())
	}
	s.away["arbitrator"] = true
	write()
	first := unanswered()
	if first < DefaultConfig().PulseEvery {
		t.Errorf("it has owed an answer for %v only", first)
	}
	s.run(time.Minute)
	if got := unanswered(); got != first+time.Minute {
		t.Errorf("a minute later it has owed it for %v, want %v", got, first+time.Minute)
	}
	delete(s.away, "arbitrator")
	if write(); unanswered() != 0 {
		t.Errorf("it answers again, and is said to have owed an answer for %v", unanswered())
	}
}
