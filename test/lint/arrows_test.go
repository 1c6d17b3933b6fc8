package lint

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tarbitrator/tarbitrator/"

// floors lists the packages from the ground up. A package imports packages on
// lower floors only, never its neighbours. A name that ends in /... stands for
// everything below it; packages of one such family may import each other.
var floors = [][]string{
	{"internal/id", "internal/hlc", "internal/conf", "internal/sql", "internal/alarm", "internal/version", "balance", "client"},
	{"internal/checkfile", "internal/logqueue", "vnode/repeat"},
	{"internal/wal/...", "internal/membership", "consensus/peer"},
	{"consensus", "arbitrator"},
	{"mnode", "vnode"},
	{"node/host"},
	{"node/query", "replication"},
	{"node/api"},
	{"node/api/rest", "node/api/ws", "node/api/line", "node/api/console"},
	{"node"},
	{"internal/cli/..."},
	{"cmd/tnode", "cmd/tarbitrator"},
}

// ground lists the arrows that stay inside floor 0: names are used by all of
// it.
var ground = []string{"internal/id"}

// never holds promises that outlive any reshuffle of the floors: the package on
// the left depends on none of those on the right, not even through others.
var never = map[string][]string{
	"cmd/tarbitrator": {
		module + "node", module + "mnode", module + "vnode", module + "internal/sql",
		"github.com/dgraph-io/badger/v4",
	},
	"arbitrator":     {module + "consensus", module + "vnode", module + "mnode"},
	"consensus":      {module + "arbitrator"},
	"vnode":          {module + "mnode"},
	"mnode":          {module + "vnode"},
	"consensus/peer": {module + "consensus"},
	"client":         {module},
	"balance":        {module + "internal/wal", module + "internal/sql", module + "internal/conf"},
}

// only names the packages that may import an engine directly.
var only = map[string][]string{
	"github.com/dgraph-io/badger/": {"vnode", "mnode"},
	"github.com/hashicorp/serf":    {"internal/membership"},
	"github.com/hashicorp/member":  {"internal/membership"},
	"go.etcd.io/raft/":             {"consensus", "consensus/peer", "arbitrator"},
}

type pkg struct {
	ImportPath, Name, Doc string
	Imports, Deps         []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Doc,Imports,Deps", "./...")
	cmd.Dir = "../.."
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(out); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		pkgs = append(pkgs, p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return pkgs
}

// place is where a package stands: its floor and, if its name was given by
// /..., the family it belongs to.
type place struct {
	floor  int
	family string
}

func stand(name string) (place, bool) {
	for i, names := range floors {
		for _, n := range names {
			if n == name {
				return place{floor: i}, true
			}
			if family, ok := strings.CutSuffix(n, "/..."); ok && (name == family || strings.HasPrefix(name, family+"/")) {
				return place{i, family}, true
			}
		}
	}
	return place{}, false
}

// outside reports packages that the floors do not bind: tests and programs of
// tests look at everything.
func outside(name string) bool { return name == "test" || strings.HasPrefix(name, "test/") }

func TestArrows(t *testing.T) {
	for _, p := range list(t) {
		if outside(p.ImportPath) {
			continue
		}
		mine, ok := stand(p.ImportPath)
		if !ok {
			t.Errorf("%s stands on no floor: add it to floors", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			name, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			its, ok := stand(name)
			sameFamily := its.family != "" && its.family == mine.family
			fromGround := mine.floor == 0 && slices.Contains(ground, name)
			if !ok || (its.floor >= mine.floor && !sameFamily && !fromGround) {
				t.Errorf("%s must not import %s: imports point down", p.ImportPath, name)
			}
		}
	}
}

func TestForbiddenLinks(t *testing.T) {
	for _, p := range list(t) {
		for _, bad := range never[p.ImportPath] {
			for _, dep := range p.Deps {
				if dep == bad || strings.HasPrefix(dep, strings.TrimSuffix(bad, "/")+"/") && !isChild(bad, dep) {
					t.Errorf("%s must never depend on %s", p.ImportPath, dep)
				}
			}
		}
		if outside(p.ImportPath) {
			continue
		}
		for engine, users := range only {
			for _, imp := range p.Imports {
				if strings.HasPrefix(imp, engine) && !slices.Contains(users, p.ImportPath) {
					t.Errorf("%s must not import %s: only %s may", p.ImportPath, imp, strings.Join(users, ", "))
				}
			}
		}
	}
}

// isChild reports the one package below a forbidden one that is shared by
// design: the carrier, which consensus and the arbitrator both speak through.
func isChild(bad, dep string) bool {
	return bad == module+"consensus" && dep == module+"consensus/peer"
}

func TestPackageDocs(t *testing.T) {
	for _, p := range list(t) {
		program := outside(p.ImportPath) && p.Name == "main"
		if p.Doc == "" && !program {
			t.Errorf("package %s has no doc comment", p.ImportPath)
		}
	}
}
