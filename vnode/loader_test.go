package vnode

import (
	"errors"
	"fmt"
	"testing"
)

// TestCopyBrokenOffOften: Badger puts what each loader makes one level above
// what the one before has made, and moves everything down when it runs out of
// levels.
func TestCopyBrokenOffOften(t *testing.T) {
	const index, breaks = 120, 18
	from := openTest(t, testConfig(t.TempDir()), nil)
	applyCuts(t, from, 1, index)
	v, n := openTest(t, testConfig(t.TempDir()), nil), mustSnapshot(t, from)
	for i := range breaks {
		c := mustReceive(t, v, 1, index)
		if i > 0 && c.After() == nil {
			t.Fatalf("the copy begins again after break %d", i)
		}
		if pieces(t, n, c, 1) {
			t.Fatalf("the copy is whole after %d pieces", i)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	finish(t, n, mustReceive(t, v, 1, index))
	if err := v.Install(index); err != nil {
		t.Fatal(err)
	}
	applyCuts(t, from, index+1, index+20)
	applyCuts(t, v, index+1, index+20)
	if got, want := mustDigest(t, v), mustDigest(t, from); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestCopyWrittenTwice: tables that were synced and not noted before the process
// died are fetched again.
func TestCopyWrittenTwice(t *testing.T) {
	const index = 120
	from := openTest(t, testConfig(t.TempDir()), nil)
	applyCuts(t, from, 1, index)
	v, n := openTest(t, testConfig(t.TempDir()), nil), mustSnapshot(t, from)
	c := mustReceive(t, v, 1, index)
	in := c.(*incoming)
	pieces(t, n, c, 3)
	for in.kept == nil {
		in.load.bytes = loadTableBytes // so that the next piece ends a table
		pieces(t, n, c, 1)
	}
	in.load.bytes = loadTableBytes
	pieces(t, n, c, 1)
	kept := fmt.Sprintf("%x", in.kept)
	// The tables reach the disk, the note of them does not.
	if err := in.load.flush(); err != nil {
		t.Fatal(err)
	}
	if err := in.db.Sync(); err != nil {
		t.Fatal(err)
	}
	die(t, v, 0, func(left *Vnode) {
		c := mustReceive(t, left, 1, index)
		if got := fmt.Sprintf("%x", c.After()); got != kept {
			t.Errorf("the copy goes on from %s, noted is %s", got, kept)
		}
		finish(t, n, c)
		if err := left.Install(index); err != nil {
			t.Fatal(err)
		}
		if got, want := mustDigest(t, left), mustDigest(t, from); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLoaderNotesInOrder: a table counts when those before it are durable, too.
func TestLoaderNotesInOrder(t *testing.T) {
	v := openTest(t, testConfig(t.TempDir()), nil)
	c := mustReceive(t, v, 1, 1)
	defer c.Close()
	l := c.(*incoming).load
	for _, key := range []string{"a", "b", "c"} {
		if err := l.add([]byte(key), []byte("value")); err != nil {
			t.Fatal(err)
		}
		if err := l.cut([]byte("after " + key)); err != nil {
			t.Fatal(err)
		}
	}
	lost := loading{last: []byte("aa"), after: []byte("after aa")} // of which there is no table
	l.pending = append(l.pending[:1:1], append([]loading{lost}, l.pending[1:]...)...)
	eventually(t, "the first table is durable", func() bool { return string(l.durable()) == "after a" })
	eventually(t, "the last table is durable", func() bool { return len(l.db.Tables()) == 3 })
	if after := l.durable(); after != nil {
		t.Errorf("durable up to %q, a table before that is not", after)
	}
	l.pending = l.pending[1:]
	if after := l.durable(); string(after) != "after c" {
		t.Errorf("durable up to %q, want the end", after)
	}
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	// Another loader may make a longer table with the same last key.
	l = newLoader(l.db)
	defer l.close()
	if err := errors.Join(l.add([]byte("d"), []byte("value")), l.cut([]byte("after d"))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its table is durable", func() bool { return len(l.db.Tables()) == 4 })
	l.pending[0].last = []byte("c")
	if after := l.durable(); after != nil {
		t.Errorf("durable up to %q by a table of another loader", after)
	}
}
