package rest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tarbitrator/tarbitrator/node/api"
	"github.com/tarbitrator/tarbitrator/node/query"
)

// Runner runs one statement. Its result is complete: nothing of it can fail
// any more once it has begun to be written.
type Runner interface {
	Run(ctx context.Context, s query.Session, statement []byte) (*query.Result, error)
}

// Config holds the door's options. Fixed after New.
type Config struct {
	RowLimit     int  // rows of one answer (restfulRowLimit); default -1: no limit
	StrictStatus bool // errors of the SQL layer have HTTP codes of their own (httpCodeServerError); default false
}

// DefaultConfig holds the defaults that Config's comments give.
func DefaultConfig() Config { return Config{RowLimit: -1} }

// Door serves /rest/sql and /rest/login.
type Door struct {
	config Config
	server *api.Server
	keeper *api.Keeper
	runner Runner
}

// New hangs the door on a server.
func New(config Config, server *api.Server, keeper *api.Keeper, runner Runner) *Door {
	d := &Door{config: config, server: server, keeper: keeper, runner: runner}
	server.Handle("/rest/sql", http.HandlerFunc(d.sql))
	server.Handle("/rest/sql/", http.HandlerFunc(d.sql))
	server.Handle("/rest/login/", http.HandlerFunc(d.login))
	return d
}

// sql serves POST /rest/sql, /rest/sql/ and /rest/sql/{db}.
func (d *Door) sql(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "send the statement as the body of a POST", http.StatusMethodNotAllowed)
		return
	}
	database := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/rest/sql"), "/")
	if strings.Contains(database, "/") {
		http.Error(w, "no such path: "+r.URL.Path, http.StatusNotFound)
		return
	}
	p, err := parseParams(r)
	if err != nil {
		d.refuse(w, http.StatusBadRequest, 0xFFFF, err.Error())
		return
	}
	user, err := d.keeper.Authenticate(r.Context(), r.Header.Get("Authorization"))
	if err != nil {
		d.fail(w, err, start)
		return
	}
	body, err := d.server.ReadBody(r)
	if err != nil {
		d.fail(w, err, start)
		return
	}
	defer body.Release()
	statement := bytes.TrimSpace(body.Bytes())
	switch {
	case len(body.Bytes()) == 0:
		d.refuse(w, http.StatusBadRequest, 0x1106, "request is empty")
		return
	case len(statement) == 0:
		d.refuse(w, http.StatusBadRequest, 0x1107, "no sql input")
		return
	}
	session := query.Session{User: user, Database: database, Zone: p.literals, Request: p.request}
	result, err := d.runner.Run(r.Context(), session, statement)
	if err != nil {
		if r.Context().Err() != nil {
			// The client has gone, or the host stops: to return would send an
			// empty answer with status 200.
			panic(http.ErrAbortHandler)
		}
		d.fail(w, err, start)
		return
	}
	a := answer{zone: p.text, asMaps: p.asMaps, rowCap: d.config.RowLimit}
	a.write(w, r, result, p.timing, start)
}

// login serves GET /rest/login/{user}/{password}, both escaped.
func (d *Door) login(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "send a GET", http.StatusMethodNotAllowed)
		return
	}
	user, password, err := loginPath(r.URL.EscapedPath())
	if err != nil {
		d.refuse(w, http.StatusBadRequest, 0x110A, err.Error())
		return
	}
	if err := d.keeper.Check(r.Context(), user, password); errors.Is(err, api.ErrOverloaded) {
		d.fail(w, err, time.Now())
		return
	} else if err != nil {
		d.refuse(w, http.StatusUnauthorized, 3, api.ErrAuthFailed.Error())
		return
	}
	token, err := d.keeper.Token(user)
	if err != nil {
		d.refuse(w, http.StatusUnauthorized, 3, err.Error())
		return
	}
	d.refuse(w, http.StatusOK, 0, token)
}

// maxUserBytes bounds the user name in a login path.
const maxUserBytes = 24

func loginPath(escaped string) (user, password string, err error) {
	user, password, ok := strings.Cut(strings.TrimPrefix(escaped, "/rest/login/"), "/")
	user, errUser := url.PathUnescape(user)
	password, errPassword := url.PathUnescape(password)
	if !ok || errUser != nil || errPassword != nil || user == "" || password == "" || len(user) > maxUserBytes {
		return "", "", errors.New("illegal user or password: want /rest/login/{user}/{password}, user up to 24 bytes")
	}
	return user, password, nil
}

// fail answers with an error of the table in node/api.
func (d *Door) fail(w http.ResponseWriter, err error, start time.Time) {
	e := api.Describe(err)
	status := e.Status
	if status == http.StatusOK && d.config.StrictStatus {
		status = e.StrictStatus
	}
	b := appendError(nil, e.Code, e.Text)
	b = append(b, `,"timing":`...)
	b = strconv.AppendInt(b, time.Since(start).Nanoseconds(), 10)
	send(w, status, append(b, '}'))
}

// refuse answers a request that never got past its parameters, and login.
func (d *Door) refuse(w http.ResponseWriter, status int, code uint16, desc string) {
	send(w, status, append(appendError(nil, code, desc), '}'))
}

func appendError(b []byte, code uint16, desc string) []byte {
	b = append(b, `{"code":`...)
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(b, `,"desc":`...)
	return appendString(b, desc)
}

var jsonType = []string{"application/json; charset=utf-8"}

func send(w http.ResponseWriter, status int, b []byte) {
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(status)
	w.Write(b) //nolint:errcheck // the client has gone: there is no one to tell
}

// appendTail closes an answer. Rows is negative if the count was written.
func appendTail(b []byte, rows int, timing bool, took time.Duration) []byte {
	if rows >= 0 {
		b = append(b, `],"rows":`...)
		b = strconv.AppendInt(b, int64(rows), 10)
	}
	if timing {
		b = append(b, `,"timing":`...)
		b = strconv.AppendInt(b, took.Nanoseconds(), 10)
	}
	return append(b, '}')
}

// patience is how long a client may take to read a chunk of an answer.
const patience = 30 * time.Second

// buffers holds the memory of answers; maxKept bounds what one keeps.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

const maxKept = 2 * chunkBytes

// write sends a result. An error of the connection ends it quietly: there is no
// one to tell.
func (a *answer) write(w http.ResponseWriter, r *http.Request, result *query.Result, timing bool, start time.Time) {
	w.Header()["Content-Type"] = jsonType
	kept := buffers.Get().(*[]byte)
	b := (*kept)[:0]
	defer func() {
		if cap(b) <= maxKept {
			*kept = b
			buffers.Put(kept)
		}
	}()
	if result.Changed() {
		b = a.appendChanged(b, result.Affected)
		b = appendTail(b, -1, timing, time.Since(start))
		w.Write(b) //nolint:errcheck // as above
		return
	}
	to, finish := compressed(w, r, result)
	control := http.NewResponseController(w)
	flush := func(chunk []byte) ([]byte, error) {
		// A connection that knows no deadline, as in tests, has no slow client.
		_ = control.SetWriteDeadline(time.Now().Add(patience))
		_, err := to.Write(chunk)
		return chunk[:0], err
	}
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	b = appendHead(b, result.Columns)
	b, rows, err := a.appendRows(b, result, flush)
	if err != nil {
		return
	}
	b = appendTail(b, rows, timing, time.Since(start))
	if b, err = flush(b); err == nil {
		finish()
	}
}

// worthCompressing is the number of cells below which an answer is sent as it
// is.
const worthCompressing = 100

var zippers = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is a valid one
	return z
}}

// compressed is where the answer goes, and what completes it.
func compressed(w http.ResponseWriter, r *http.Request, result *query.Result) (to io.Writer, finish func()) {
	if result.Rows*len(result.Columns) < worthCompressing || !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		return w, func() {}
	}
	w.Header().Set("Content-Encoding", "gzip")
	w.Header().Add("Vary", "Accept-Encoding")
	z := zippers.Get().(*gzip.Writer)
	z.Reset(w)
	return z, func() {
		z.Close() //nolint:errcheck // as above
		zippers.Put(z)
	}
}
