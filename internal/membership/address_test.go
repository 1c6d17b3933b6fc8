package membership

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
)

// TestNameServerComesLater: a host that starts before its name server waits for
// its own address, says so once, and gossips from the moment that it has one.
func TestNameServerComesLater(t *testing.T) {
	ports, err := Listen(":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ports.Close()
	log := &syncBuffer{}
	g, err := New(Config{Cluster: 7, UUID: uuid(1), Dnode: 1, EndPoint: "a.example.com:6030", Key: Key{1}, Changed: func() {}},
		ports, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	asked, want := 0, netip.MustParseAddr("192.0.2.1")
	g.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		if asked++; asked <= 5 {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{want}, nil
	}
	synctest.Test(t, func(t *testing.T) {
		at, err := g.awaitAddress(t.Context())
		if err != nil || at.Addr() != want || at.Port() != ports.Addr().Port() {
			t.Errorf("got %v, %v, want %v with the port of the gossip", at, err, want)
		}
	})
	if got := strings.Count(log.String(), "leads to no address"); got != 1 {
		t.Errorf("said %d times that it waits, want once:\n%s", got, log)
	}
	if !strings.Contains(log.String(), "gossip begins") {
		t.Errorf("it does not say that it begins:\n%s", log)
	}

	asked = -1_000_000
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), lookupWithin*10)
		defer cancel()
		if _, err := g.awaitAddress(ctx); err != nil {
			t.Errorf("stopped while it waits: %v, want no error", err)
		}
	})
}
