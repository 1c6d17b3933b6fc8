package membership

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// town is hosts on loopback, each with ports of its own.
type town struct {
	t   *testing.T
	key Key
}

// resident is one start of one host.
type resident struct {
	*Gossip
	at      string // its gossip
	ports   *Ports
	changed chan struct{}
	log     *syncBuffer
	stop    func() // as SIGTERM does
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func uuid(n byte) id.UUID { return id.UUID{15: n} }

// start starts a host of cluster 7; edit changes its configuration.
func (w *town) start(n byte, start uint64, edit ...func(*Config)) *resident {
	w.t.Helper()
	ports, err := Listen("127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	r := &resident{at: ports.Addr().String(), ports: ports, changed: make(chan struct{}, 1), log: &syncBuffer{}}
	var nonce [1]byte
	rand.Read(nonce[:])
	c := Config{
		Cluster: 7, UUID: uuid(n), Dnode: id.Host(n), EndPoint: "127.0.0.1:6030", Start: start, Nonce: uint64(nonce[0])<<8 + start, Key: w.key,
		Changed: func() {
			select {
			case r.changed <- struct{}{}:
			default:
			}
		},
	}
	for _, e := range edit {
		e(&c)
	}
	if r.Gossip, err = New(c, ports, slog.New(slog.NewTextHandler(r.log, nil))); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(r.stop)
	return r
}

// sees waits until a host sees another one so.
func (r *resident) sees(t *testing.T, n byte, what string, so func(Host) bool) {
	t.Helper()
	patience := time.After(20 * time.Second)
	for {
		if so(r.Host(uuid(n))) {
			return
		}
		select {
		case <-r.changed:
		case <-patience:
			t.Fatalf("host %d is seen as %+v, want it %s", n, r.Host(uuid(n)), what)
		}
	}
}

func in(s State, start uint64) func(Host) bool {
	return func(h Host) bool { return h.State == s && h.Start == start }
}

func (r *resident) seek(n byte, at ...string) {
	r.Seek([]Sought{{UUID: uuid(n), Dnode: id.Host(n), Addrs: at}})
}

// TestLifeOfAHost: it is found, dies, comes back elsewhere under a new start,
// and leaves.
func TestLifeOfAHost(t *testing.T) {
	w := &town{t, Key{1}}
	a, b := w.start(1, 1), w.start(2, 1)
	a.seek(2, "127.0.0.1:1", "no.such.host.invalid:1", b.at) // the wrong ones are passed over
	a.sees(t, 2, "alive", in(Alive, 1))
	b.sees(t, 1, "alive", in(Alive, 1))

	b.ports.Close() // as a dead process would; nobody says goodbye
	a.sees(t, 2, "silent", in(Silent, 1))

	again := w.start(2, 2, func(c *Config) { c.EndPoint = "127.0.0.9:6030" })
	again.seek(1, a.at)
	a.sees(t, 2, "alive at its new address", func(h Host) bool { return in(Alive, 2)(h) && h.EndPoint == "127.0.0.9:6030" })
	again.stop()
	a.sees(t, 2, "gone in order", in(Left, 2))
	if got := strings.Count(a.log.String(), "\n"); got != 4 {
		t.Errorf("%d messages for four changes:\n%s", got, a.log)
	}
}

// TestThirdTellsSecond: hosts that know only one other find all.
func TestThirdTellsSecond(t *testing.T) {
	w := &town{t, Key{1}}
	a, b, c := w.start(1, 1), w.start(2, 1), w.start(3, 1)
	b.seek(1, a.at)
	c.seek(1, a.at)
	b.sees(t, 3, "alive", in(Alive, 1))
	c.sees(t, 2, "alive", in(Alive, 1))
}

// TestStrangers: another cluster and another key are not heard, whoever asks
// whom, and do not disturb.
func TestStrangers(t *testing.T) {
	w := &town{t, Key{1}}
	a := w.start(1, 1)
	for name, edit := range map[string]func(*Config){
		"another cluster": func(c *Config) { c.Cluster = 8 },
		"another key":     func(c *Config) { c.Key = Key{2} },
	} {
		x := w.start(9, 1, edit)
		x.seek(1, a.at)
		a.Seek([]Sought{{UUID: uuid(9), Addrs: []string{x.at}}})
		b := w.start(2, 1)
		b.seek(1, a.at)
		a.sees(t, 2, "alive", in(Alive, 1))
		if h := a.Host(uuid(9)); h.State != Unknown {
			t.Errorf("%s: heard as %+v", name, h)
		}
		if h := x.Host(uuid(1)); h.State != Unknown {
			t.Errorf("%s: hears %+v", name, h)
		}
		b.stop()
		a.sees(t, 2, "gone", in(Left, 1))
	}
}

// TestGarbage: what strangers write to the port, or do not, holds nobody up and
// is bounded.
func TestGarbage(t *testing.T) {
	w := &town{t, Key{1}}
	a := w.start(1, 1)
	junk := make([]byte, 4<<10)
	rand.Read(junk)
	udp, err := net.Dial("udp", a.at)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for i := range 1000 {
		if _, err := udp.Write(junk[i : i+1+i%3000]); err != nil {
			t.Fatal(err)
		}
	}
	before := runtime.NumGoroutine()
	for i := range 4 * maxStreams {
		c, err := net.Dial("tcp", a.at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 0 {
			_, _ = c.Write(junk) // it may have been closed already
		}
	}
	if now := runtime.NumGoroutine(); now > before+2*maxStreams {
		t.Errorf("%d goroutines more, want at most one for each of %d streams", now-before, maxStreams)
	}
	b := w.start(2, 1)
	b.seek(1, a.at)
	a.sees(t, 2, "alive", in(Alive, 1))
	for _, x := range []*resident{a, b} {
		if strings.Contains(x.log.String(), "level=ERROR") || strings.Contains(x.log.String(), "level=WARN") {
			t.Errorf("garbage was logged:\n%s", x.log)
		}
	}
}

// TestEndsWithItsGoroutines: what was started has stopped soon after Run.
func TestEndsWithItsGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	w := &town{t, Key{1}}
	a, b := w.start(1, 1), w.start(2, 1)
	a.seek(2, b.at)
	a.sees(t, 2, "alive", in(Alive, 1))
	a.stop()
	b.stop()
	for end := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func TestPortInUse(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for want, addr := range map[string]string{"gossipPort, UDP": udp.LocalAddr().String(), "gossipPort, TCP": tcp.Addr().String()} {
		if _, err := Listen(addr); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "in use") {
			t.Errorf("%s: %v, want %q", addr, err, want)
		}
	}
}

func TestKeys(t *testing.T) {
	derived := DeriveKey([32]byte{1})
	if derived == DeriveKey([32]byte{2}) || derived == (Key{1}) {
		t.Error("the derived key does not depend on the secret alone")
	}
	if derived.Print() == (Key{1}).Print() || derived.Print() != DeriveKey([32]byte{1}).Print() {
		t.Error("the print does not tell keys apart")
	}
	if strings.Contains(derived.String(), derived.Print()) {
		t.Error("a key prints itself")
	}
}

func TestConfigCheck(t *testing.T) {
	err := Config{EndPoint: "nowhere"}.Check()
	for _, want := range []string{"in no cluster", `"nowhere" is not host:port`, "no key"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

func TestAddrsFor(t *testing.T) {
	for _, c := range []struct {
		endPoint   string
		heard, own uint16
		want       string
	}{
		{"db1:6030", 0, 6031, "db1:6031"},
		{"db1:6030", 0, 7000, "db1:6031 db1:7000"},
		{"db1:6030", 9, 7000, "db1:9"},
		{"[::1]:65535", 0, 7000, "[::1]:7000"},
		{"db1", 0, 7000, ""},
	} {
		if got := strings.Join(AddrsFor(c.endPoint, c.heard, c.own), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.endPoint, got, c.want)
		}
	}
}
