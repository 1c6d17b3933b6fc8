package host

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// Whoever connects to a host is told its directory's name, and its end point is
// no secret: both together must not open the door to the cluster's secret.
func TestSecretIsNotForStrangers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		stranger := w.build(addrC, 9)
		for _, member := range []*house{a, b} {
			knock := joinRequest{EndPoint: member.addr, UUID: member.Self()}
			for name, token := range map[string]mnode.Secret{"none": {}, "another": {7}} {
				knock.Token = token
				body, err := json.Marshal(knock)
				if err != nil {
					t.Fatal(err)
				}
				answer, err := stranger.call(t.Context(), a, callJoin, body, id.UUID{})
				if err == nil || !strings.Contains(err.Error(), "was let in before") {
					t.Errorf("a stranger that calls itself %s, token %s, was let in: %v, %d bytes", member.addr, name, err, len(answer))
				}
			}
		}
	})
}

// A host that was let in and did not hear the answer, because it or the other
// one died, knocks again and is let in again.
func TestKnocksAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := pair(t)
		defer w.end()
		record, err := OpenRecord(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer record.Close()
		n, err := a.CreateDnode(t.Context(), addrC)
		if err != nil {
			t.Fatal(err)
		}
		knock := joinRequest{EndPoint: addrC, UUID: record.Identity().UUID, Token: record.Identity().Token}
		body, err := json.Marshal(knock)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			reply, err := b.call(t.Context(), a, callJoin, body, id.UUID{})
			if err != nil {
				t.Fatal(err)
			}
			var answer joinAnswer
			if err := json.Unmarshal(reply, &answer); err != nil || answer.Dnode != n || answer.Secret == (mnode.Secret{}) {
				t.Errorf("got dnode %d, %v, want %d and the secret", answer.Dnode, err, n)
			}
		}
	})
}
