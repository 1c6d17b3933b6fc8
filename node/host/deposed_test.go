package host

import (
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// TestDatabaseIsFinishedByTheNextMaster: the mnode master hands over while it
// makes a database, and lives on. Whoever waits for the database is answered as
// soon as the next master has made it: the old one hears of nothing any more.
func TestDatabaseIsFinishedByTheNextMaster(t *testing.T) {
	for n := range 8 {
		bubble(t, func(t *testing.T) {
			w, a, b := pair(t)
			defer w.end()
			began, done := time.Now(), make(chan error, 1)
			go func() { done <- a.CreateDatabase(t.Context(), "demo", twoReplicas(3)) }()
			time.Sleep(time.Duration(n) * 700 * time.Microsecond)
			g, _ := a.View().Group(id.Mnode)
			m, _ := g.On(b.Self())
			if err := a.groups.Transfer(t.Context(), id.Mnode, m.Replica); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil || time.Since(began) > 10*time.Second {
				t.Errorf("handed over after %d steps: %v after %v", n, err, time.Since(began))
			}
		})
	}
}
