package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/tarbitrator/tarbitrator/client"
)

// raised returns the codes of the alarms that a host shows, with their objects.
func raised(t *testing.T, c *client.Client) string {
	t.Helper()
	rows := query(t, c, "SHOW ALARMS")
	codes, objects := column(t, rows, "code"), column(t, rows, "object")
	var list []string
	for i := range codes {
		list = append(list, codes[i]+" "+objects[i])
	}
	return strings.Join(list, ", ")
}

// TestAlarms: the same words in SQL, metrics and log, raised once, cleared once.
func TestAlarms(t *testing.T) {
	_, a, b, _ := pair(t)
	c := dial(t, a)
	query(t, c, "CREATE DATABASE d REPLICA 2 VGROUPS 1")
	const always = "DEFAULT_PASSWORD user root"
	await(t, "only the password is alarming", func() bool { return raised(t, c) == always })
	b.end(syscall.SIGKILL)
	await(t, "the other host is missed", func() bool {
		got := raised(t, c)
		return strings.Contains(got, "HOST_OFFLINE dnode 2") && strings.Contains(got, "ASYNC database d") && strings.Contains(got, "ASYNC metadata")
	})
	next := column(t, query(t, c, "SHOW ALARMS"), "next_step")
	if want := fmt.Sprintf("bring back dnode 2 (%s)", b.peer); !strings.Contains(strings.Join(next, "\n"), want) {
		t.Errorf("nothing says %q:\n%s", want, strings.Join(next, "\n"))
	}
	resp, err := http.Get("http://" + a.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if want := `tnode_alarm{code="ASYNC",level="warning",object="database d"} 1`; !strings.Contains(string(body), want) {
		t.Errorf("the metrics lack %s", want)
	}
	b.start()
	await(t, "all is well again", func() bool { return raised(t, c) == always })
	log, err := os.ReadFile(a.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"alarm raised" code=HOST_OFFLINE object="dnode 2"`, `"alarm cleared" code=HOST_OFFLINE object="dnode 2"`} {
		if n := strings.Count(string(log), want); n != 1 {
			t.Errorf("%d lines with %s, want 1", n, want)
		}
	}
}
