package rest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/sql"
	"github.com/tarbitrator/tarbitrator/node/api"
	"github.com/tarbitrator/tarbitrator/node/query"
)

// users is a book of one user.
type users struct{}

func (users) PasswordHash(user string) (string, bool) { return "hash", user == "root" }
func (users) VerifyPassword(user, password string) bool {
	return user == "root" && password == "taosdata"
}

// runner answers as it is told and remembers what it was asked.
type runner struct {
	result    *query.Result
	err       error
	session   query.Session
	statement string
}

func (r *runner) Run(_ context.Context, s query.Session, statement []byte) (*query.Result, error) {
	r.session, r.statement = s, string(statement)
	return r.result, r.err
}

func open(t *testing.T, config Config) (*runner, http.Handler) {
	t.Helper()
	server, err := api.New(api.DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{result: &query.Result{Affected: 3}}
	New(config, server, api.NewKeeper(users{}, func() []byte { return nil }), r)
	return r, server
}

type exchange struct {
	name, method, path, auth, body string
	encoding                       string
	status                         int
	want                           string // of the answer's start
}

const rootAuth = "Basic cm9vdDp0YW9zZGF0YQ=="

func TestExchanges(t *testing.T) {
	const done = `{"code":0,"column_meta":[["affected_rows","INT",4]],"data":[[3]],"rows":1}`
	for _, c := range []exchange{
		{name: "a statement", path: "/rest/sql", status: 200, want: done},
		{name: "a trailing slash", path: "/rest/sql/", status: 200, want: done},
		{name: "a database", path: "/rest/sql/plant", status: 200, want: done},
		{name: "objects", path: "/rest/sql?row_with_meta=true", status: 200, want: `{"code":0,"column_meta":[["affected_rows","INT",4]],"data":[{"affected_rows":3}],"rows":1}`},
		{name: "timing", path: "/rest/sql?timing=true", status: 200, want: strings.TrimSuffix(done, "}") + `,"timing":`},
		{name: "unknown parameters", path: "/rest/sql?app=x&ip=1.2.3.4&what=ever", status: 200, want: done},
		{name: "another method", method: "GET", path: "/rest/sql", status: 405},
		{name: "too deep a path", path: "/rest/sql/a/b", status: 404},
		{name: "an old path", path: "/rest/sqlt", status: 404},
		{name: "a zone of nowhere", path: "/rest/sql?tz=Mars/Olympus", status: 400, want: `{"code":65535,"desc":"illegal param, unknown time zone \"Mars/Olympus\""}`},
		{name: "a request id that is none", path: "/rest/sql?req_id=x", status: 400, want: `{"code":65535,"desc":"illegal param, req_id must be numeric`},
		{name: "a boolean that is none", path: "/rest/sql?row_with_meta=perhaps", status: 400, want: `{"code":65535,`},
		{name: "no body", path: "/rest/sql", body: "-", status: 400, want: `{"code":4358,"desc":"request is empty"}`},
		{name: "a blank body", path: "/rest/sql", body: " \n ", status: 400, want: `{"code":4359,"desc":"no sql input"}`},
		{name: "no credentials", path: "/rest/sql", auth: "-", status: 401, want: `{"code":4357,"desc":"no auth info input"`},
		{name: "an unknown scheme", path: "/rest/sql", auth: "Digest x", status: 401, want: `{"code":4386,`},
		{name: "credentials that are none", path: "/rest/sql", auth: "Basic !", status: 401, want: `{"code":4388,`},
		{name: "a token that is none", path: "/rest/sql", auth: "Taosd *", status: 401, want: `{"code":4389,`},
		{name: "a wrong password", path: "/rest/sql", auth: basicAuth("root:wrong"), status: 200, want: `{"code":855,"desc":"Authentication failure"`},
		{name: "an unknown encoding", path: "/rest/sql", encoding: "br", status: 400, want: `{"code":4385,`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, h := open(t, DefaultConfig())
			status, body := ask(t, h, c)
			if status != c.status || !strings.HasPrefix(body, c.want) {
				t.Errorf("got %d %s\nwant %d %s", status, body, c.status, c.want)
			}
		})
	}
}

func basicAuth(pair string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)) }

func ask(t *testing.T, h http.Handler, c exchange) (int, string) {
	t.Helper()
	method, body, auth := c.method, c.body, c.auth
	if method == "" {
		method = http.MethodPost
	}
	switch body {
	case "":
		body = " show databases;\n"
	case "-":
		body = ""
	}
	r := httptest.NewRequest(method, c.path, io.MultiReader(strings.NewReader(body))) // of no known length, as the Go driver sends it
	switch auth {
	case "":
		r.Header.Set("Authorization", rootAuth)
	case "-":
	default:
		r.Header.Set("Authorization", auth)
	}
	if c.encoding != "" {
		r.Header.Set("Content-Encoding", c.encoding)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestSession(t *testing.T) {
	r, h := open(t, DefaultConfig())
	ask(t, h, exchange{path: "/rest/sql/plant?req_id=-7&conn_tz=UTC"})
	s := r.session
	if s.User != "root" || s.Database != "plant" || s.Request != -7 || s.Zone == nil || s.Zone.String() != "UTC" {
		t.Errorf("got session %+v", s)
	}
	if r.statement != "show databases;" {
		t.Errorf("got statement %q, want it trimmed", r.statement)
	}
}

func TestErrorsOfTheSQLLayer(t *testing.T) {
	noMaster := &consensus.NotLeaderError{Group: 2}
	for _, c := range []struct {
		name   string
		err    error
		status int
		want   string
	}{
		{"syntax", &sql.Error{Code: sql.CodeSyntax, Text: `syntax error near "x"`}, 400, `{"code":9728,"desc":"syntax error near \"x\"","timing":`},
		{"no master", noMaster, 403, `{"code":32,"desc":"some vnode/qnode/mnode(s) out of service`},
		{"unknown outcome", consensus.ErrUnknownOutcome, 500, `{"code":2307,"desc":"outcome unknown`},
		{"anything else", errors.New("what"), 500, `{"code":65535,"desc":"what","timing":`},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, strict := range []bool{false, true} {
				config := DefaultConfig()
				config.StrictStatus = strict
				r, h := open(t, config)
				r.err = c.err
				status, body := ask(t, h, exchange{path: "/rest/sql"})
				want := 200
				if strict {
					want = c.status
				}
				if status != want || !strings.HasPrefix(body, c.want) {
					t.Errorf("strict %v: got %d %s, want %d %s", strict, status, body, want, c.want)
				}
			}
		})
	}
}

func TestGzip(t *testing.T) {
	r, h := open(t, DefaultConfig())
	r.result = sample()
	for range 7 {
		for i := range r.result.Columns {
			r.result.Columns[i].Append(&r.result.Columns[i], 0, r.result.Rows)
		}
		r.result.Rows *= 2
	}
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	io.WriteString(z, "select * from t")
	z.Close()
	req := httptest.NewRequest(http.MethodPost, "/rest/sql", &body)
	req.Header.Set("Authorization", rootAuth)
	req.Header.Set("Content-Encoding", "gzip")
	req.Header.Set("Accept-Encoding", "gzip")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	if r.statement != "select * from t" {
		t.Errorf("statement read as %q", r.statement)
	}
	back, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatalf("answer of %d is not compressed: %v", w.Code, err)
	}
	text, err := io.ReadAll(back)
	if err != nil || !bytes.HasSuffix(text, []byte(`"rows":256}`)) {
		t.Errorf("got %.100s, %v", text, err)
	}
}

func TestBodyLimit(t *testing.T) {
	_, h := open(t, DefaultConfig())
	status, body := ask(t, h, exchange{path: "/rest/sql", body: strings.Repeat("x", 2<<20)})
	if status != 200 || !strings.HasPrefix(body, `{"code":537,`) {
		t.Errorf("got %d %s, want SQL statement too long", status, body)
	}
}

func TestLogin(t *testing.T) {
	_, h := open(t, DefaultConfig())
	login := func(path string) (int, string) {
		return ask(t, h, exchange{method: http.MethodGet, path: path, auth: "-"})
	}
	status, body := login("/rest/login/root/taosdata")
	token, ok := strings.CutPrefix(body, `{"code":0,"desc":"`)
	token, _ = strings.CutSuffix(token, `"}`)
	if status != 200 || !ok || token == "" {
		t.Fatalf("got %d %s", status, body)
	}
	if status, body := ask(t, h, exchange{path: "/rest/sql", auth: "Taosd " + token}); status != 200 || !strings.HasPrefix(body, `{"code":0,`) {
		t.Errorf("the token is refused: %d %s", status, body)
	}
	if status, body := login("/rest/login/root/wrong"); status != 401 || body != `{"code":3,"desc":"Authentication failure"}` {
		t.Errorf("wrong password: got %d %s", status, body)
	}
	for _, path := range []string{"/rest/login/root/", "/rest/login/root", "/rest/login/" + url.PathEscape(strings.Repeat("u", 25)) + "/p"} {
		if status, body := login(path); status != 400 || !strings.HasPrefix(body, `{"code":4362,`) {
			t.Errorf("%s: got %d %s, want 400 and 4362", path, status, body)
		}
	}
}

// hung runs statements that end only when nobody wants them any more.
type hung struct{ begun chan struct{} }

func (h hung) Run(ctx context.Context, _ query.Session, _ []byte) (*query.Result, error) {
	close(h.begun)
	<-ctx.Done()
	return nil, ctx.Err()
}

// A statement that is given up because its host stops has no answer. An empty
// one with status 200 would be one.
func TestGivenUpIsNoAnswer(t *testing.T) {
	server, err := api.New(api.DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h := hung{make(chan struct{})}
	New(DefaultConfig(), server, api.NewKeeper(users{}, func() []byte { return nil }), h)
	r := httptest.NewRequest(http.MethodPost, "/rest/sql", strings.NewReader("INSERT INTO t VALUES (1, 1)"))
	r.Header.Set("Authorization", rootAuth)
	ctx, stop := context.WithCancel(t.Context())
	w := httptest.NewRecorder()
	cut := make(chan any, 1)
	go func() {
		defer func() { cut <- recover() }()
		server.ServeHTTP(w, r.WithContext(ctx))
	}()
	<-h.begun
	stop()
	if got := <-cut; got != http.ErrAbortHandler { //nolint:errorlint // net/http compares like this
		t.Errorf("the handler ended with %v and status %d, want its connection cut", got, w.Code)
	}
}

// one is a listener for one connection.
type one struct{ c chan net.Conn }

func (l one) Accept() (net.Conn, error) {
	c, ok := <-l.c
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l one) Close() error   { return nil }
func (l one) Addr() net.Addr { return &net.TCPAddr{} }

// A client that does not read its answer does not keep it in memory for ever.
func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, door := open(t, DefaultConfig())
		long := sql.Values{Column: sql.Column{Name: "s", Type: sql.TypeVarchar, Length: 1 << 20}}
		for range 4 {
			long.AppendValue(sql.Value{Type: sql.TypeVarchar, Text: strings.Repeat("x", 1<<20)})
		}
		r.result = &query.Result{Columns: []sql.Values{long}, Rows: 4}
		ended := make(chan struct{})
		server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			door.ServeHTTP(w, req)
			close(ended)
		})}
		here, there := net.Pipe()
		l := one{make(chan net.Conn, 1)}
		l.c <- there
		go server.Serve(l) // it ends with the test
		_, err := io.WriteString(here, "POST /rest/sql HTTP/1.1\r\nHost: x\r\nAuthorization: "+rootAuth+"\r\nContent-Length: 8\r\n\r\nSELECT 1")
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-ended:
		case <-time.After(10 * patience):
			t.Error("the request is still there")
		}
		here.Close()
		close(l.c)
		server.Close()
	})
}
