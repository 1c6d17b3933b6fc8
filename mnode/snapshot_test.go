package mnode

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// copyOf gives to a finished copy of what from holds, as that of an entry.
func copyOf(t *testing.T, from, to *Mnode, index id.Index) error {
	t.Helper()
	s, err := from.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := to.Receive(consensus.SnapshotID{1}, index)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for {
		piece, next, err := s.Read(c.After())
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = c.Write(piece, next)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	digest, err := s.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.Finish(t.Context(), digest)
}

// oneMore is one more command.
func oneMore() Command {
	return CreateUser{Name: "reader", Hash: testHash}
}

// TestCopyMovesTheState: a copy shows nothing until it is installed, then it is
// the state, and the log goes on behind it.
func TestCopyMovesTheState(t *testing.T) {
	from, to := openTest(t, t.TempDir()), openTest(t, t.TempDir())
	applyAll(t, from, 2, everyCommand()[:3]...)
	applyAll(t, to, 2, everyCommand()[:1]...)
	if err := copyOf(t, from, to, 9); err != nil { // 5 to 9 have no commands
		t.Fatal(err)
	}
	if at := to.View().Index; at != 2 {
		t.Errorf("before it is installed the state is of entry %d, want 2", at)
	}
	changed := to.Watch()
	if err := to.Install(9); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told of the new state")
	}
	applyAll(t, from, 10, oneMore())
	applyAll(t, to, 10, oneMore())
	if !reflect.DeepEqual(to.View(), from.View()) {
		t.Errorf("got %+v, want %+v", to.View(), from.View())
	}
	if left, err := to.copies(); len(left) > 0 || err != nil {
		t.Errorf("copies %v, %v are left", left, err)
	}
}

// TestLargeStateGoesInPieces cuts a state that is longer than a piece, at
// positions that give the same pieces again.
func TestLargeStateGoesInPieces(t *testing.T) {
	s := &snapshot{index: 5, encoded: []byte(strings.Repeat("0123456789", 3*pieceBytes/10+1))}
	var whole, after []byte
	for {
		piece, next, err := s.Read(after)
		if errors.Is(err, io.EOF) {
			break
		}
		again, _, _ := s.Read(after)
		if err != nil || len(piece) > pieceBytes || string(again) != string(piece) {
			t.Fatalf("at %x: %d bytes, then %d, %v", after, len(piece), len(again), err)
		}
		whole, after = append(whole, piece...), next
	}
	if string(whole) != string(s.encoded) {
		t.Errorf("got %d bytes, want %d", len(whole), len(s.encoded))
	}
	if _, _, err := s.Read([]byte("?")); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a bad position: got %v", err)
	}
}

// TestOpenByMark dies at every step of a copy: which state is opened is decided
// by the log's mark, and by how far the old state had been brought without the
// copy.
func TestOpenByMark(t *testing.T) {
	for name, c := range map[string]struct {
		mark       id.Index
		checkpoint bool // the old state passes the copy, at entry 12
		want       id.Index
	}{
		"the log has not named it": {mark: 2, want: 2},
		"the log has named it":     {mark: 9, want: 9},
		"the log has overtaken it": {mark: 12, checkpoint: true, want: 12},
		"not yet in its mark":      {mark: 9, checkpoint: true, want: 12},
	} {
		t.Run(name, func(t *testing.T) {
			from, dir := openTest(t, t.TempDir()), t.TempDir()
			to := openTest(t, dir)
			applyAll(t, from, 2, everyCommand()[:3]...)
			applyAll(t, to, 2, everyCommand()[:1]...)
			if _, err := to.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := copyOf(t, from, to, 9); err != nil {
				t.Fatal(err)
			}
			if c.checkpoint {
				applyAll(t, to, 12, oneMore())
				if _, err := to.Checkpoint(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			m, err := Open(dir, c.mark, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			if m.Applied() != c.want || m.View().Index != c.want {
				t.Errorf("opened at entry %d, want %d", m.Applied(), c.want)
			}
			if err := m.Install(c.mark); c.mark <= c.want && err != nil {
				t.Errorf("installed once more: %v", err)
			}
			if left, err := m.copies(); len(left) > 0 || err != nil {
				t.Errorf("copies %v, %v are left", left, err)
			}
		})
	}
}

// TestBrokenCopyIsNotTaken: a copy that is not what was sent leaves no trace.
func TestBrokenCopyIsNotTaken(t *testing.T) {
	from, to := openTest(t, t.TempDir()), openTest(t, t.TempDir())
	applyAll(t, from, 2, everyCommand()[:3]...)
	s, err := from.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	piece, next, err := s.Read(nil)
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := s.Digest(t.Context())
	for name, bad := range map[string]string{
		"changed": strings.Replace(string(piece), "6030", "6031", 1),
		"short":   string(piece[:len(piece)-1]),
	} {
		c, err := to.Receive(consensus.SnapshotID{1}, 9)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Write([]byte(bad), next); err != nil {
			t.Fatal(err)
		}
		if err := c.Finish(t.Context(), digest); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := copyOf(t, from, to, 3); err == nil { // it holds entry 4
		t.Error("a copy that holds more than its index is taken")
	}
	if err := to.Install(9); err == nil {
		t.Error("a copy that is not there is installed")
	}
	names, err := os.ReadDir(to.dir)
	if err != nil || len(names) != 0 {
		t.Errorf("%v, %v are left in %s", names, err, filepath.Base(to.dir))
	}
}

// TestEveryFieldTravels: whatever there is in a View is in a checkpoint and in a
// copy, also a field that is added tomorrow.
func TestEveryFieldTravels(t *testing.T) {
	want := new(View)
	fill(t, reflect.ValueOf(want).Elem(), "View")
	b, err := EncodeView(want)
	if err != nil {
		t.Fatal(err)
	}
	got := new(View)
	if err := decodeStrict(b, got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// fill gives every part of a value something that is not zero.
func fill(t *testing.T, v reflect.Value, name string) {
	t.Helper()
	if at, ok := v.Addr().Interface().(*time.Time); ok {
		*at = birth
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if !field.IsExported() {
				t.Fatalf("%s.%s is in no checkpoint: its name begins with a small letter", name, field.Name)
			}
			fill(t, v.Field(i), name+"."+field.Name)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0), name+"[]")
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), name+"[]")
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), name)
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	default:
		t.Fatalf("%s is a %s: say here how to fill it", name, v.Kind())
	}
}

// TestNewerStateIsNamed: whoever goes back to an older version is told what to do.
func TestNewerStateIsNamed(t *testing.T) {
	m := openTest(t, t.TempDir())
	applyAll(t, m, 2, everyCommand()[:1]...)
	b, err := EncodeView(m.View())
	if err != nil {
		t.Fatal(err)
	}
	newer := append(bytes.TrimSuffix(b, []byte("}")), `,"Racks":[]}`...)
	if _, err := DecodeView(newer); !errors.Is(err, ErrNewer) {
		t.Errorf("got %v, want ErrNewer", err)
	}
}
