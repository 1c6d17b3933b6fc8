package mnode

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/checkfile"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

var rewriteGolden = flag.Bool("golden", false, "rewrite golden files")

const testHash = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

var (
	uuidA = id.UUID{0xa}
	uuidB = id.UUID{0xb}
	uuidC = id.UUID{0xc}
	uuidW = id.UUID{0xee}
	birth = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
)

// everyCommand is one of each kind, with every field set.
func everyCommand() []Command {
	o := DefaultOptions()
	o.Replica, o.Others = 2, []Option{{Name: "comp", Value: "2"}}
	return []Command{
		Found{Cluster: 7, Name: "plant", Secret: Secret{1, 2}, EndPoint: "a:6030", UUID: uuidA, Arbitrator: "w:6042", Witness: uuidW, RootHash: testHash},
		CreateDnode{EndPoint: "b:6030"},
		AdmitDnode{EndPoint: "b:6030", UUID: uuidB},
		MoveDnode{UUID: uuidB, EndPoint: "b2:6030"},
		DropDnode{Dnode: 2},
		RemoveDnode{Dnode: 2},
		CreateUser{Name: "u", Hash: testHash},
		AlterUser{Name: "u", Hash: testHash},
		DropUser{Name: "u"},
		Recover{Survivor: 2, Replicas: []Renumbered{{Group: 1, From: 2, To: 1004}}},
		NoteFailover{Failover{
			Name: consensus.Leadership{Group: 1, Term: 7}, Groups: 2, Ended: []consensus.Leadership{{Group: 1, Term: 6}}, From: 1, To: 2,
			At: birth, Heard: birth, Cause: consensus.CauseFrozen, Mode: consensus.ModeAsync,
			Detection: 1, Vote: 2, FirstWrite: 3, Stood: 4, Boot: 5, Told: true,
		}},
		CreateDatabase{Name: "demo", Options: o, Candidates: []id.Host{1, 2}},
		DropDatabase{Name: "demo"},
		FormGroup{Group: 2, Epoch: 10},
		RemoveGroup{Group: 2, Epoch: 10},
		SetArbitrator{EndPoint: "w:6042", UUID: uuidW},
		AddMember{Group: 1, Dnode: 2, UUID: uuidB},
		SetVoters{Group: 1, Voters: []id.Replica{1, 2, 3}},
		ForgetMember{Group: 1, Replica: 3},
		SetArbitrator{EndPoint: "w2:6042", UUID: uuidW, Configured: "w:6042"},
		RestoreDnode{Dnode: 2},
		KeepDnode{Dnode: 2},
		MarkOffline{Dnode: 2, Since: birth},
		AlterReplica{Name: "demo", Replica: 2},
	}
}

func TestEveryKindIsTestedAndRoundTrips(t *testing.T) {
	seen := map[kind]bool{}
	for _, c := range everyCommand() {
		want := Envelope{Request: Request{Boot: 3, Seq: 4}, At: birth, Command: c}
		b, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeEnvelope(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%T: got %+v, %v, want %+v", c, got, err, want)
		}
		seen[c.kind()] = true
	}
	for k := range kinds {
		if !seen[k] {
			t.Errorf("kind %d is in no test", k)
		}
	}
}

// The log is read by later versions: these bytes may never change.
func TestGoldenCommands(t *testing.T) {
	var b bytes.Buffer
	for _, c := range everyCommand() {
		raw, err := Envelope{Request: Request{Boot: 3, Seq: 4}, At: birth, Command: c}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "version %d kind %d header %x body %s\n", raw[0], raw[1], raw[2:commandHeader], raw[commandHeader:])
	}
	golden(t, "commands.golden", b.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewriteGolden {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test ./mnode -golden rewrites it): got\n%s", name, got)
	}
}

func TestUnknownCommandsStopTheReplica(t *testing.T) {
	good, _ := Envelope{At: birth, Command: CreateDnode{EndPoint: "b:6030"}}.Encode()
	newer := bytes.Clone(good)
	newer[0] = 2
	kindless := bytes.Clone(good)
	kindless[1] = 200
	field := append(bytes.Clone(good[:commandHeader]), `{"EndPoint":"b:6030","Rack":"r1"}`...)
	for name, b := range map[string][]byte{"version": newer, "kind": kindless, "field": field} {
		if _, err := DecodeEnvelope(b); !errors.Is(err, ErrNewer) {
			t.Errorf("newer %s: got %v, want ErrNewer", name, err)
		}
	}
	m := openTest(t, t.TempDir())
	if _, err := m.Apply([]consensus.Entry{{Index: 2, Term: 1, Data: field}}); err == nil {
		t.Error("a command that is not understood was applied")
	}
}

func openTest(t *testing.T, dir string) *Mnode {
	t.Helper()
	m, err := Open(dir, 0, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// applyAll applies commands from index first on and returns their results.
func applyAll(t *testing.T, m *Mnode, first id.Index, commands ...Command) []Result {
	t.Helper()
	var out []Result
	for i, c := range commands {
		b, err := Envelope{At: birth.Add(time.Duration(i) * time.Second), Command: c}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		results, err := m.Apply([]consensus.Entry{{Index: first + id.Index(i), Term: 1, Data: b}})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, results[0].(Result))
	}
	return out
}

func TestRestartReplaysOverTheCheckpoint(t *testing.T) {
	dir := t.TempDir()
	all := everyCommand()
	m := openTest(t, dir)
	applyAll(t, m, 2, all[:5]...)
	if at, err := m.Checkpoint(t.Context()); err != nil || at != 6 {
		t.Fatalf("checkpoint: got %d, %v, want 6", at, err)
	}
	applyAll(t, m, 7, all[5:]...)
	want := m.View()

	again := openTest(t, dir)
	if got := again.View().Index; got != 6 {
		t.Fatalf("after restart: got index %d, want 6", got)
	}
	applyAllReplayed(t, again, all)
	if got := again.View(); !reflect.DeepEqual(got, want) {
		t.Errorf("replayed state differs: got %+v, want %+v", got, want)
	}
	b, err := EncodeView(want)
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeView(b)
	if err != nil {
		t.Fatal(err)
	}
	if twice, _ := EncodeView(back); !bytes.Equal(twice, b) {
		t.Error("a view that was read is written differently")
	}
}

func applyAllReplayed(t *testing.T, m *Mnode, commands []Command) {
	t.Helper()
	var entries []consensus.Entry
	for i, c := range commands {
		at := birth.Add(time.Duration(i) * time.Second)
		if i >= 5 {
			at = birth.Add(time.Duration(i-5) * time.Second)
		}
		b, err := Envelope{At: at, Command: c}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, consensus.Entry{Index: id.Index(i) + 2, Term: 1, Data: b})
	}
	if _, err := m.Apply(entries); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedCheckpointIsRefused(t *testing.T) {
	dir := t.TempDir()
	m := openTest(t, dir)
	applyAll(t, m, 2, everyCommand()[:2]...)
	if _, err := m.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fileName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, 0, slog.New(slog.DiscardHandler)); !errors.Is(err, checkfile.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}

func TestViewsAreNeverChanged(t *testing.T) {
	m := openTest(t, t.TempDir())
	var views []*View
	var bytesOf [][]byte
	for i, c := range everyCommand() {
		applyAll(t, m, id.Index(i)+2, c)
		b, err := EncodeView(m.View())
		if err != nil {
			t.Fatal(err)
		}
		views, bytesOf = append(views, m.View()), append(bytesOf, b)
	}
	for i, v := range views {
		if b, _ := EncodeView(v); !bytes.Equal(b, bytesOf[i]) {
			t.Errorf("view %d was changed after it was published", v.Index)
		}
	}
}

func TestRepeatedRequestIsAnsweredNotRun(t *testing.T) {
	v := &View{}
	Envelope{At: birth, Command: everyCommand()[0]}.apply(v, 2, 1)
	e := Envelope{Request: Request{Boot: 9, Seq: 1}, At: birth, Command: CreateDnode{EndPoint: "b:6030"}}
	first := e.apply(v, 3, 1)
	if again := e.apply(v, 4, 2); again != first || first.Number != 2 {
		t.Errorf("got %+v, then %+v, want dnode 2 twice", first, again)
	}
	for i := range keptAnswers + 10 {
		Envelope{Request: Request{Boot: 9, Seq: uint64(i) + 2}, Command: DropUser{Name: "nobody"}}.apply(v, id.Index(i)+5, 2)
	}
	if len(v.Recent) != keptAnswers {
		t.Errorf("got %d remembered answers, want %d", len(v.Recent), keptAnswers)
	}
}

func TestPasswords(t *testing.T) {
	h, err := HashPassword("taosdata")
	if err != nil {
		t.Fatal(err)
	}
	v := &View{Users: []User{{Name: "root", Hash: h}}}
	if _, err := v.Verify("root", "taosdata"); err != nil {
		t.Errorf("right password: got %v", err)
	}
	for _, c := range [][2]string{{"root", "taosdatb"}, {"root", ""}, {"boot", "taosdata"}, {"", ""}, {"root", strings.Repeat("x", 1000)}} {
		if _, err := v.Verify(c[0], c[1]); !errors.Is(err, &Error{Code: CodeAuthFailure}) {
			t.Errorf("%q with %q: got %v, want an authentication failure", c[0], c[1], err)
		}
	}
	if _, err := HashPassword(""); err == nil {
		t.Error("an empty password was hashed")
	}
	if strings.Contains(slog.AnyValue(Secret{1}).String(), "1") {
		t.Error("a secret is printed")
	}
}

func TestDealSpreadsAndNeverDoubles(t *testing.T) {
	var hosts []Dnode
	for n := id.Host(1); n <= 4; n++ {
		hosts = append(hosts, Dnode{ID: n})
	}
	load := map[id.Host]int{1: 3}
	for range 100 {
		got := deal(hosts, load, 3)
		for i, d := range got {
			if slices.ContainsFunc(got[:i], func(x Dnode) bool { return x.ID == d.ID }) {
				t.Fatalf("dnode %d twice in %v", d.ID, got)
			}
		}
	}
	for _, d := range hosts {
		if load[d.ID] < 75 || load[d.ID] > 77 {
			t.Errorf("dnode %d has %d replicas of 303, want about a quarter", d.ID, load[d.ID])
		}
	}
}

func TestDatabaseNames(t *testing.T) {
	v := &View{Dnodes: []Dnode{{ID: 1, UUID: uuidA}}, NextGroup: firstVgroup}
	for name, ok := range map[string]bool{
		"plant": true, strings.Repeat("x", maxDatabase): true, "schema": true,
		"": false, "a.b": false, "a/b": false, strings.Repeat("x", maxDatabase+1): false,
		"information_schema": false, "Information_Schema": false, "performance_schema": false,
	} {
		r := CreateDatabase{Name: name, Options: DefaultOptions()}.apply(v.clone(), birth)
		if got := r.Err == nil; got != ok {
			t.Errorf("create database %q: got %v, want it taken: %v", name, r.Err, ok)
		}
	}
}

// The whole state is in one file and goes to every host: whatever an operator may
// create, and a script in a loop, has a bound.
func TestUsersAreBounded(t *testing.T) {
	v := &View{}
	for i := range maxUsers {
		if r := (CreateUser{Name: fmt.Sprint("u", i), Hash: testHash}).apply(v, birth); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if r := (CreateUser{Name: "more", Hash: testHash}).apply(v, birth); r.Err == nil || len(v.Users) != maxUsers {
		t.Errorf("got %d users, %v; want %d and a refusal", len(v.Users), r.Err, maxUsers)
	}
}

// Whatever DecodeEnvelope accepts can be encoded again and applied.
func FuzzDecodeEnvelope(f *testing.F) {
	for _, c := range everyCommand() {
		b, _ := Envelope{Request: Request{1, 2}, At: birth, Command: c}.Encode()
		f.Add(b)
	}
	base := &View{}
	for i, c := range everyCommand()[:3] {
		Envelope{At: birth, Command: c}.apply(base, id.Index(i)+2, 1)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEnvelope(b)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil {
			t.Fatalf("decoded %+v can't be encoded: %v", e, err)
		}
		twice, err := DecodeEnvelope(again)
		if err != nil || !reflect.DeepEqual(normalise(e), normalise(twice)) {
			t.Fatalf("got %+v, %v, want %+v", twice, err, e)
		}
		v := base.clone()
		e.apply(v, 9, 1)
		if err := v.check(); err != nil {
			t.Fatalf("%+v made a state that breaks %v", e, err)
		}
	})
}

// normalise makes nil and empty lists equal, as JSON does.
func normalise(e Envelope) string {
	b, _ := e.Encode()
	return string(b)
}

// Whatever DecodeView accepts is a state that commands can be applied to.
func FuzzDecodeView(f *testing.F) {
	v := &View{}
	for i, c := range everyCommand()[:3] {
		Envelope{At: birth, Command: c}.apply(v, id.Index(i)+2, 1)
	}
	b, _ := EncodeView(v)
	f.Add(b)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := DecodeView(b)
		if err != nil {
			return
		}
		for i, c := range everyCommand() {
			Envelope{At: birth, Command: c}.apply(v, id.Index(i), 1)
		}
		f := Facts{NumOfMnodes: 3, Interval: time.Second}
		Plan(birth, v, &f)
	})
}
