package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tarbitrator/tarbitrator/arbitrator"
	"github.com/tarbitrator/tarbitrator/client"
)

// keep copies the data directory of a process that does not write and returns
// what puts the copy in its place; what was there is returned as another such.
func (p *process) keep() func() (undo func()) {
	p.t.Helper()
	data, kept := filepath.Join(p.dir, "data"), filepath.Join(p.t.TempDir(), "kept")
	if err := os.CopyFS(kept, os.DirFS(data)); err != nil {
		p.t.Fatal(err)
	}
	swap := func(from string) string {
		p.t.Helper()
		aside := filepath.Join(p.t.TempDir(), "aside")
		if err := os.Rename(data, aside); err != nil {
			p.t.Fatal(err)
		}
		if err := os.Rename(from, data); err != nil {
			p.t.Fatal(err)
		}
		return aside
	}
	return func() func() {
		truth := swap(kept)
		return func() { swap(truth) }
	}
}

// frozen runs act while the process stands still.
func (p *process) frozen(act func()) {
	p.t.Helper()
	for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := p.cmd.Process.Signal(s); err != nil {
			p.t.Fatal(err)
		}
		if s == syscall.SIGSTOP {
			act()
		}
	}
}

// saysOldCopy waits until a host answers everything with what it is.
func saysOldCopy(t *testing.T, h *process, by string) {
	t.Helper()
	await(t, "the copy says what it is", func() bool {
		req, err := http.NewRequest(http.MethodPost, "http://"+h.http+"/rest/sql", strings.NewReader("SHOW DNODES"))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("root", "taosdata")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		var answer struct {
			Code int
			Desc string
		}
		err = json.NewDecoder(resp.Body).Decode(&answer)
		return err == nil && answer.Code == client.CodeOutOfService && strings.Contains(answer.Desc, "this directory is an old copy of dnode 2") &&
			strings.Contains(answer.Desc, "found by "+by) && strings.Contains(answer.Desc, "RESTORE DNODE 2")
	})
}

// put writes the rows from..to-1, one by one.
func put(t *testing.T, c *client.Client, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		query(t, c, fmt.Sprintf("INSERT INTO d.t VALUES (%d, %d)", 1_700_000_000_000+n, n))
	}
}

func rowsOf(t *testing.T, c *client.Client) int64 {
	t.Helper()
	n, _ := query(t, c, "SELECT COUNT(*) FROM d.t").Int(0, 0)
	return n
}

// TestOldCopyOfHost: the directory of a host is put back from a copy made
// between two starts. The other host lets it in neither this time nor the next;
// the true directory is welcome.
func TestOldCopyOfHost(t *testing.T) {
	_, a, b, c := pairWithTable(t)
	b.end(syscall.SIGTERM)
	putBack := b.keep()
	b.start()
	whole(t, c)
	put(t, c, 0, 10)
	b.end(syscall.SIGTERM)

	undo := putBack()
	b.start()
	saysOldCopy(t, b, "")
	onA := dial(t, a)
	await(t, "the other host shows why it is offline", func() bool {
		rows, err := onA.Query(context.Background(), "SHOW DNODES")
		if err != nil || len(rows.Data) != 3 {
			return false
		}
		return column(t, rows, "status")[1] == "offline" && strings.Contains(strings.Join(column(t, rows, "offline reason"), "\n"), "old copy: RESTORE DNODE 2")
	})
	put(t, onA, 10, 20)
	if code := b.end(syscall.SIGTERM); code != 0 {
		t.Errorf("the copy ended with exit code %d, want 0", code)
	}
	b.start()
	saysOldCopy(t, b, "")
	b.end(syscall.SIGTERM)

	undo()
	b.start()
	whole(t, c)
	if got := rowsOf(t, c); got != 20 {
		t.Errorf("%d rows, 20 were acknowledged", got)
	}
	sameDigests(t, c, a, b, 20)
}

// TestOldCopyMetByArbitrator: the copy was made of a running host, as a volume
// snapshot is, so it calls its next start by a number that nobody has seen. The
// other host is down; only the arbitrator can know, from what it was told at the
// goodbye. The positions in its own log would keep this copy from leading, too,
// but not from following with votes forgotten.
func TestOldCopyMetByArbitrator(t *testing.T) {
	_, a, b, c := pairWithTable(t)
	var putBack func() func()
	b.frozen(func() { putBack = b.keep() })
	whole(t, c)
	put(t, c, 0, 10)
	b.end(syscall.SIGTERM)
	a.end(syscall.SIGKILL)

	undo := putBack()
	b.start()
	saysOldCopy(t, b, "the arbitrator")
	a.start()
	onA := dial(t, a)
	if got := rowsOf(t, onA); got != 10 {
		t.Errorf("%d rows, 10 were acknowledged", got)
	}
	saysOldCopy(t, b, "the arbitrator")
	b.end(syscall.SIGKILL)

	undo()
	b.start()
	whole(t, c)
	sameDigests(t, c, a, b, 10)
}

// TestOldCopyOfArbitrator: an arbitrator that was put back may have forgotten
// votes. The hosts refuse it, it ends its votes, and once its directory is empty
// the cluster enrols anew.
func TestOldCopyOfArbitrator(t *testing.T) {
	arb, a, b, c := pairWithTable(t)
	var putBack func() func()
	arb.frozen(func() { putBack = arb.keep() })
	whole(t, c)
	// Elections raise the generation, whatever else the cluster does.
	for i, h := range []*process{a, b} {
		h.end(syscall.SIGTERM)
		put(t, c, 5*i, 5*i+5)
		h.start()
		whole(t, c)
	}
	arb.end(syscall.SIGTERM)
	putBack()
	arb.start()
	await(t, "the hosts refuse the arbitrator", func() bool {
		rows, err := c.Query(context.Background(), "SHOW DNODES")
		return err == nil && slices.ContainsFunc(column(t, rows, "offline reason"), func(s string) bool { return strings.Contains(s, "old copy: stop it") })
	})
	await(t, "it ends its votes for the cluster", func() bool {
		st, err := arbStatus(arb)
		return err == nil && len(st.Clusters) == 1 && st.Clusters[0].Replicas > 0 && st.Clusters[0].Tainted == st.Clusters[0].Replicas
	})
	put(t, c, 10, 20) // service goes on
	arb.end(syscall.SIGTERM)
	arb.wipe()
	arb.start()
	await(t, "the cluster has enrolled anew", func() bool {
		st, err := arbStatus(arb)
		return err == nil && len(st.Clusters) == 1 && st.Clusters[0].Replicas >= 3 && st.Clusters[0].Tainted == 0
	})
	whole(t, c)
	if got := rowsOf(t, c); got != 20 {
		t.Errorf("%d rows, 20 were acknowledged", got)
	}
}

// arbStatus asks an arbitrator what it serves.
func arbStatus(p *process) (arbitrator.Status, error) {
	var st arbitrator.Status
	resp, err := http.Get("http://" + p.args[slices.Index(p.args, "--http")+1] + "/status")
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	return st, json.NewDecoder(resp.Body).Decode(&st)
}
