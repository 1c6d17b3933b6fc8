package consensus

import (
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
)

// An enrolment that was asked for before the arbitrator was connected goes out
// as soon as it is, and no more once it is answered.
func TestEnrolmentGoesOnWithTheConnection(t *testing.T) {
	a := newStage(t).host("a")
	asked := func(at time.Duration, e Event) int {
		n := 0
		for _, e := range a.m.Step(at, []Event{e}) {
			if s, ok := e.(Send); ok && s.To == arbUUID {
				for _, msg := range s.Messages {
					if msg.Kind == peer.KindEnroll && msg.Group == 2 && msg.To == 3 {
						n++
					}
				}
			}
		}
		return n
	}
	if n := asked(0, EnrollWitness{Ticket: 1, Group: 2, To: 3, Witness: arbUUID}); n != 1 {
		t.Fatalf("the arbitrator was asked %d times, want once", n)
	}
	if n := asked(10*time.Millisecond, Link{Peer: arbUUID, State: LinkUp}); n != 1 {
		t.Errorf("asked %d times when it was connected, want once", n)
	}
	if n := asked(20*time.Millisecond, Link{Peer: a.uuid, State: LinkUp}); n != 0 {
		t.Errorf("asked %d times when somebody else was connected", n)
	}
	answer := peer.Message{Kind: peer.KindEnrolled, Group: 2, From: 3}
	asked(30*time.Millisecond, Received{From: arbUUID, Messages: []peer.Message{answer}})
	if n := asked(40*time.Millisecond, Link{Peer: arbUUID, State: LinkUp}); n != 0 {
		t.Errorf("asked %d times after the answer", n)
	}
}
