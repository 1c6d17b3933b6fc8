package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tarbitrator/tarbitrator/client"
)

// post sends one statement as a REST client does and returns the answer as it
// came.
func post(t *testing.T, h *process, path, statement string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+h.http+path, strings.NewReader(statement))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("root", "taosdata")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestREST speaks to one host as existing clients do.
func TestREST(t *testing.T) {
	h, _ := single(t)
	for _, c := range []struct{ path, statement, want string }{
		{"/rest/sql", "create database plant precision 'ms'", `{"code":0,"column_meta":[["affected_rows","INT",4]],"data":[[0]],"rows":1}`},
		{"/rest/sql", "create database plant", `{"code":897,`},
		{"/rest/sql", "create database if not exists plant", `{"code":0,`},
		{"/rest/sql/newdb", "create database newdb vgroups 1", `{"code":0,`},
		{"/rest/sql", "use plant", `{"code":0,`},
		{"/rest/sql", "use nosuch", `{"code":904,`},
		{"/rest/sql/plant", "create table t (ts timestamp, temp double, ok bool, site binary(32), n bigint, i int);", `{"code":0,`},
		{"/rest/sql/plant", "create table t (ts timestamp, temp double)", `{"code":`},
		{"/rest/sql/plant", "insert into t values ('2024-05-01T08:00:00Z', 21.5, true, 'roof', 7, -1) ('2024-05-01T08:00:01Z', null, false, 'it''s', 9007199254740993, null)", `{"code":0,"column_meta":[["affected_rows","INT",4]],"data":[[2]],"rows":1}`},
		{"/rest/sql/plant", "insert into t (ts, n) values ('2024-05-01T08:00:02Z', 1)", `{"code":0,"column_meta":[["affected_rows","INT",4]],"data":[[1]],"rows":1}`},
		{"/rest/sql/plant", "select * from t", `{"code":0,"column_meta":[["ts","TIMESTAMP",8],["temp","DOUBLE",8],["ok","BOOL",1],["site","VARCHAR",32],["n","BIGINT",8],["i","INT",4]],` +
			`"data":[["2024-05-01T08:00:00.000Z",21.5,true,"roof",7,-1],["2024-05-01T08:00:01.000Z",null,false,"it's",9007199254740993,null],["2024-05-01T08:00:02.000Z",null,null,null,1,null]],"rows":3}`},
		{"/rest/sql/plant?tz=Asia/Shanghai", "select ts from t limit 1", `{"code":0,"column_meta":[["ts","TIMESTAMP",8]],"data":[["2024-05-01T16:00:00.000+08:00"]],"rows":1}`},
		{"/rest/sql/plant?conn_tz=Asia/Shanghai", "select ts from t where ts = '2024-05-01 16:00:01'", `{"code":0,"column_meta":[["ts","TIMESTAMP",8]],"data":[["2024-05-01T16:00:01.000+08:00"]],"rows":1}`},
		{"/rest/sql/plant?row_with_meta=true", "select n from t order by ts desc limit 1", `{"code":0,"column_meta":[["n","BIGINT",8]],"data":[{"n":1}],"rows":1}`},
		{"/rest/sql/plant", "select count(*), count(temp), min(n), max(n), avg(temp), sum(i) from t where ts < '2024-05-01T08:00:02Z'", `{"code":0,"column_meta":[["count(*)","BIGINT",8],["count(temp)","BIGINT",8],["min(n)","BIGINT",8],["max(n)","BIGINT",8],["avg(temp)","DOUBLE",8],["sum(i)","BIGINT",8]],"data":[[2,1,7,9007199254740993,21.5,-1]],"rows":1}`},
		{"/rest/sql/plant", "select n from t where n > 100 or site like 'ro%' order by n desc limit 1, 1", `{"code":0,"column_meta":[["n","BIGINT",8]],"data":[[7]],"rows":1}`},
		{"/rest/sql/plant", "select n from t where ts > now", `{"code":0,"column_meta":[["n","BIGINT",8]],"data":[],"rows":0}`},
		{"/rest/sql/plant", "insert into t values ('2024-05-01T08:00:02Z', 1, true, 'new', 2, 3)", `{"code":0,`},
		{"/rest/sql/plant", "select site from t where ts = '2024-05-01T08:00:02Z'", `{"code":0,"column_meta":[["site","VARCHAR",32]],"data":[["new"]],"rows":1}`},
		{"/rest/sql/plant", "describe t", `{"code":0,"column_meta":[["field","VARCHAR",64],["type","VARCHAR",20],["length","INT",4],["note","VARCHAR",12]],"data":[["ts","TIMESTAMP",8,"PRIMARY KEY"],["temp","DOUBLE",8,""]`},
		{"/rest/sql/plant", "show tables", `{"code":0,"column_meta":[["table_name","VARCHAR",192]],"data":[["t"]],"rows":1}`},
		{"/rest/sql", "show cluster alive", `{"code":0,"column_meta":[["status","INT",4]],"data":[[1]],"rows":1}`},
		{"/rest/sql", "select server_version()", `{"code":0,"column_meta":[["server_version()","VARCHAR",`},
		{"/rest/sql", "select 1", `{"code":0,"column_meta":[["1","BIGINT",8]],"data":[[1]],"rows":1}`},
		{"/rest/sql", "selec * frm t", `{"code":9728,"desc":"syntax error near \"selec * frm t\"","timing":`},
		{"/rest/sql", "select * from t", `{"code":9750,`},
		{"/rest/sql/plant", "select * from nosuch", `{"code":9731,`},
		{"/rest/sql/nosuch", "select * from t", `{"code":904,`},
		{"/rest/sql/plant", "insert into t values ('1850-01-01T00:00:00Z', 1, true, 'x', 1, 1)", `{"code":1547,`},
		{"/rest/sql/plant", "insert into t values (now, 1, true, 'x', 1, 3000000000)", `{"code":548,`},
		{"/rest/sql/plant", "select sum(site) from t", `{"code":`},
		{"/rest/sql/plant", "select a.n from t a, t b", `{"code":`},
		{"/rest/sql", "create dnode '" + h.peer + "'", `{"code":816,`},
		{"/rest/sql", "create database two replica 2", `{"code":820,"desc":"more dnodes are needed`},
		{"/rest/sql", "drop database plant", `{"code":0,`},
		{"/rest/sql", "drop database plant", `{"code":904,`},
		{"/rest/sql", "drop database if exists plant", `{"code":0,`},
	} {
		if status, body := post(t, h, c.path, c.statement); status != 200 || !strings.HasPrefix(body, c.want) {
			t.Errorf("%s at %s:\ngot  %d %s\nwant     %s", c.statement, c.path, status, body, c.want)
		}
	}
}

// TestSuperTables: rows, tags and aggregates over child tables of several
// groups.
func TestSuperTables(t *testing.T) {
	_, c := single(t)
	query(t, c, "CREATE DATABASE d VGROUPS 3")
	query(t, c, "CREATE STABLE d.st (ts TIMESTAMP, v DOUBLE) TAGS (site VARCHAR(8), floor INT)")
	for _, statement := range []string{
		"INSERT INTO d.a USING d.st TAGS ('roof', 1) VALUES (1700000000000, 1) (1700000001000, 2) d.b USING d.st TAGS ('roof', 2) VALUES (1700000000000, 3)",
		"INSERT INTO d.c USING d.st (floor) TAGS (3) (ts, v) VALUES (1700000002000, 4)",
	} {
		query(t, c, statement)
	}
	for _, want := range []struct {
		statement string
		cells     []string // row by row
	}{
		{"SELECT tbname, v FROM d.st ORDER BY ts, tbname", []string{"a", "1", "b", "3", "a", "2", "c", "4"}},
		{"SELECT v, floor FROM d.st WHERE site = 'roof' AND v > 1 ORDER BY v", []string{"2", "1", "3", "2"}},
		{"SELECT v FROM d.st WHERE site IS NULL", []string{"4"}},
		{"SELECT COUNT(*), SUM(v), FIRST(v), LAST(v) FROM d.st", []string{"4", "10", "", "4"}},
		{"SELECT site, COUNT(*) FROM d.st GROUP BY site", []string{"", "1", "roof", "3"}},
		{"SELECT tbname, MAX(v) FROM d.st PARTITION BY tbname ORDER BY tbname DESC", []string{"c", "4", "b", "3", "a", "2"}},
		{"SELECT _wstart, COUNT(*) FROM d.st INTERVAL(1s)", []string{"2023-11-14T22:13:20.000Z", "2", "2023-11-14T22:13:21.000Z", "1", "2023-11-14T22:13:22.000Z", "1"}},
		{"SELECT DISTINCT site FROM d.st ORDER BY site", []string{"", "roof"}},
		{"SELECT v FROM d.st ORDER BY ts DESC LIMIT 1 OFFSET 1", []string{"2"}},
		{"SHOW d.STABLES", []string{"st"}},
		{"SHOW d.TABLES LIKE 'b%'", []string{"b"}},
	} {
		rows := query(t, c, want.statement)
		var got []string
		for i := range rows.Data {
			for j := range rows.Columns {
				got = append(got, rows.Text(i, j))
			}
		}
		if len(got) == len(want.cells) && strings.Contains(want.statement, "FIRST(v)") {
			got[2] = "" // two tables share the first timestamp: either may be it
		}
		if !slices.Equal(got, want.cells) {
			t.Errorf("%s: got %q, want %q", want.statement, got, want.cells)
		}
	}
	query(t, c, "DROP TABLE d.a")
	if n, _ := query(t, c, "SELECT COUNT(*) FROM d.st").Int(0, 0); n != 2 {
		t.Errorf("after DROP TABLE %d rows, want 2", n)
	}
	query(t, c, "DROP STABLE d.st")
	var refused *client.Error
	if _, err := c.Query(context.Background(), "SELECT * FROM d.st"); !errors.As(err, &refused) || refused.Code != 0x2603 {
		t.Errorf("after DROP STABLE: %v, want 0x2603", err)
	}
}

// TestHostAlone: what a host shows of itself, to whom, and how it comes back.
func TestHostAlone(t *testing.T) {
	h, c := single(t)
	query(t, c, "CREATE DATABASE d VGROUPS 1")
	query(t, c, "CREATE TABLE d.t (ts TIMESTAMP, n BIGINT)")
	query(t, c, "INSERT INTO d.t VALUES (1700000000000, 1)")
	h.end(syscall.SIGKILL)
	h.start()
	await(t, "the host serves again", func() bool { return c.Ping(context.Background(), h.http) == nil })
	if n, _ := query(t, c, "SELECT COUNT(*) FROM d.t").Int(0, 0); n != 1 {
		t.Errorf("%d rows after kill -9, want 1", n)
	}
	resp, err := http.Get("http://" + h.http + "/api/v1/vnodes")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("replicas without a password: %s", resp.Status)
	}
	resp, err = http.Get("http://" + h.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if !strings.Contains(string(b), `tnode_group_role{group="2"} 3`) {
		t.Errorf("metrics do not show the group:\n%s", b)
	}
	resp, err = http.Get("http://" + h.http + "/rest/login/root/taosdata")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var login struct {
		Code int
		Desc string
	}
	if err := json.NewDecoder(resp.Body).Decode(&login); err != nil || login.Code != 0 || login.Desc == "" {
		t.Errorf("login answers %+v, %v", login, err)
	}
}

// TestCommandLine checks exit codes and messages that scripts and people rely
// on.
func TestCommandLine(t *testing.T) {
	h, _ := single(t)
	host, port, _ := strings.Cut(h.http, ":")
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bad := write("bad.cfg", "firstEp a:6030\nelectionTimeot 500ms\n")
	mars := write("mars.cfg", "firstEp a:6030\ntimezone Mars/Olympus\n")
	password := write("password", "taosdata\n")
	_, closed, _ := strings.Cut(local(freePort(t)), ":")
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"version", []string{"-V"}, 0, "3.3.6.0"},
		{"no such command", []string{"begin"}, 2, "no such command"},
		{"no such flag", []string{"sql", "--nosuch"}, 2, "nosuch"},
		{"a statement", []string{"sql", "-h", host, "-P", port, "-s", "show databases; select 1"}, 0, "1 rows"},
		{"a password file", []string{"sql", "-h", host, "-P", port, "--password-file", password, "-s", "select 1"}, 0, "1 rows"},
		{"a refused statement", []string{"sql", "-h", host, "-P", port, "-s", "selec"}, 1, "0x2600"},
		{"no host there", []string{"sql", "-h", host, "-P", closed, "-s", "select 1"}, 3, "is tnode running there?"},
		{"status", []string{"status", "-h", host, "-P", port}, 0, "fully available"},
		{"status of nobody", []string{"status", "-h", host, "-P", closed}, 3, "refused"},
		{"configuration in force", append([]string{"start", "-C"}, h.args[1:]...), 0, "numOfMnodes"},
		{"a misspelt key", []string{"start", "-c", bad}, 2, "electionTimeout"},
		{"an unknown time zone", []string{"start", "-C", "-c", mars}, 2, "timezone Mars/Olympus is not known"},
		{"no configuration", []string{"start", "-c", filepath.Join(t.TempDir(), "none")}, 2, "no such file or directory: write it there"},
		{"a port that is taken", h.args, 1, "address already in use"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if code, out := tool(t, c.args...); code != c.code || !strings.Contains(out, c.want) {
				t.Errorf("tnode %s: exit code %d, want %d with %q:\n%s", strings.Join(c.args, " "), code, c.code, c.want, out)
			}
		})
	}
}
