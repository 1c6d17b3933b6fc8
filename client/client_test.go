package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// host serves one answer and counts how often it was asked.
type host struct {
	*httptest.Server
	asked atomic.Int64
}

func serve(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) *host {
	t.Helper()
	h := &host{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.asked.Add(1)
		io.Copy(io.Discard, r.Body)
		answer(w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *host) addr() string { return strings.TrimPrefix(h.URL, "http://") }

func say(body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
}

const changed = `{"code":0,"column_meta":[["affected_rows","INT",4]],"data":[[3]],"rows":1}`

func hangUp(w http.ResponseWriter, _ *http.Request) {
	conn, _, _ := w.(http.Hijacker).Hijack()
	conn.Close()
}

func dial(t *testing.T, endPoints ...string) *Client {
	t.Helper()
	config := DefaultConfig()
	config.EndPoints = endPoints
	config.TryTimeout, config.Timeout = 5*time.Second, 10*time.Second
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// closedPort is an address that refuses connections.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestNextHost(t *testing.T) {
	good := serve(t, say(changed))
	cut := serve(t, hangUp)
	masterless := serve(t, say(`{"code":32,"desc":"some vnode/qnode/mnode(s) out of service"}`))
	for _, c := range []struct {
		name, first, statement string
		want                   error
	}{
		{"refused connection", closedPort(t), "CREATE DATABASE d", nil},
		{"no master", masterless.addr(), "CREATE DATABASE d", nil},
		{"connection cut, harmless to repeat", cut.addr(), "INSERT INTO t VALUES (1, 1)", nil},
		{"connection cut, not to be repeated", cut.addr(), "CREATE DATABASE d", ErrUnknownOutcome},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := good.asked.Load()
			n, err := dial(t, c.first, good.addr()).Exec(context.Background(), c.statement)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if c.want == nil && n != 3 {
				t.Errorf("got %d rows, want 3", n)
			}
			if c.want != nil && good.asked.Load() != before {
				t.Error("the statement was repeated on another host")
			}
		})
	}
}

// What a host has said is told, not that the next try ran out of time.
func TestLastWordOfAHost(t *testing.T) {
	first := true
	h := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if first {
			first = false
			io.WriteString(w, `{"code":11,"desc":"Unable to establish connection: it is cut off"}`)
			return
		}
		<-r.Context().Done()
	})
	c := dial(t, h.addr())
	c.config.Timeout = 200 * time.Millisecond
	_, err := c.Exec(context.Background(), "INSERT INTO t VALUES (1, 1)")
	if err == nil || !strings.Contains(err.Error(), "it is cut off") {
		t.Errorf("got %v, want what the host had said", err)
	}
}

func TestRefusalIsFinal(t *testing.T) {
	bad := serve(t, say(`{"code":9728,"desc":"syntax error near \"x\"","timing":1}`))
	other := serve(t, say(changed))
	_, err := dial(t, bad.addr(), other.addr()).Query(context.Background(), "x")
	var refused *Error
	if !errors.As(err, &refused) || refused.Code != 0x2600 {
		t.Fatalf("got %v, want code 0x2600", err)
	}
	if other.asked.Load() != 0 {
		t.Error("a refused statement was sent to the other host too")
	}
}

func TestCells(t *testing.T) {
	h := serve(t, say(`{"code":0,"column_meta":[["ts","TIMESTAMP",8],["n","BIGINT",8],["s","VARCHAR",5]],`+
		`"data":[["2024-05-01T08:00:00.000Z",9007199254740993,null]],"rows":1}`))
	rows, err := dial(t, h.addr()).Query(context.Background(), "SELECT 1")
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := rows.Int(0, rows.Index("n")); !ok || n != 9007199254740993 {
		t.Errorf("BIGINT read as %d", n)
	}
	if rows.Text(0, 0) != "2024-05-01T08:00:00.000Z" || rows.Text(0, 2) != "" || rows.Columns[2].Length != 5 {
		t.Errorf("got %+v", rows)
	}
}

const outside = `{"code":817,"desc":"Dnode does not exist: type CREATE DNODE 'b:6030'"}`

func unavailable(body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, body)
	}
}

// A host that no operator has let in is no reason to wait for long, and none not
// to ask another.
func TestOutsiders(t *testing.T) {
	lone := serve(t, unavailable(outside))
	_, err := dial(t, lone.addr()).Query(context.Background(), "SELECT 1")
	var refused *Error
	if !errors.As(err, &refused) || refused.Code != CodeNoDnode || !strings.HasPrefix(err.Error(), "Dnode does not exist") {
		t.Errorf("got %v, want what the host says", err)
	}
	good := serve(t, say(changed))
	if _, err := dial(t, lone.addr(), good.addr()).Exec(context.Background(), "CREATE DATABASE d"); err != nil {
		t.Errorf("with another host: %v", err)
	}
	// It is let in meanwhile.
	var asked atomic.Int64
	late := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) < 5 {
			unavailable(outside)(w, r)
			return
		}
		say(changed)(w, r)
	})
	if _, err := dial(t, late.addr()).Exec(context.Background(), "CREATE DATABASE d"); err != nil {
		t.Errorf("let in meanwhile: %v", err)
	}
}

// What must not run twice is given the time that it takes: another host could
// not tell what became of it.
func TestSlowAndNotRepeatable(t *testing.T) {
	slow := serve(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(300 * time.Millisecond):
			say(changed)(w, r)
		case <-r.Context().Done():
		}
	})
	other := serve(t, hangUp)
	c := dial(t, slow.addr(), other.addr())
	c.config.TryTimeout = 50 * time.Millisecond
	if _, err := c.Exec(context.Background(), "CREATE DATABASE d"); err != nil {
		t.Errorf("got %v, want the answer", err)
	}
}

// A query that takes longer than the first tries is not asked for ever anew.
func TestSlowQuery(t *testing.T) {
	slow := func() *host {
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(400 * time.Millisecond):
				say(changed)(w, r)
			case <-r.Context().Done():
			}
		})
	}
	c := dial(t, slow().addr(), slow().addr())
	c.config.TryTimeout = 50 * time.Millisecond
	if _, err := c.Query(context.Background(), "SELECT 1"); err != nil {
		t.Errorf("got %v, want the answer", err)
	}
}

func TestRepeatable(t *testing.T) {
	for statement, want := range map[string]bool{
		"SELECT 1": true, " select\n* FROM t": true, "insert\tINTO t VALUES (1, 2)": true, "SHOW DNODES": true, "desc t": true,
		"CREATE DATABASE d": false, "DROP TABLE t": false, "": false, "selection": false,
		"INSERT INTO t VALUES (NOW, 1)": false, "insert into t values (now() - 1s, 1)": false, "INSERT INTO t VALUES (today(), 1)": false,
		"INSERT INTO snow VALUES (1, 2)": true, "INSERT INTO nowhere VALUES (1, 2)": true, "SELECT * FROM t WHERE ts < NOW": true,
	} {
		if got := Repeatable(statement); got != want {
			t.Errorf("%q: got %v, want %v", statement, got, want)
		}
	}
}
