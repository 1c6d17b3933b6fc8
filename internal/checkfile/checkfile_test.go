package checkfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

var testMagic = Magic{'t', 'e', 's', 't', 'f', 'i', 'l', '1'}

func TestWriteThenRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if _, err := Read(path, testMagic); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("reading nothing: got %v, want fs.ErrNotExist", err)
	}
	for _, want := range []string{"one", "", "a longer third"} {
		if err := Write(path, testMagic, []byte(want)); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path, testMagic)
		if err != nil || string(got) != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
}

// A crash before the rename leaves the temporary file; the old content stays.
func TestHalfWrittenFileIsNotSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := Write(path, testMagic, []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", Encode(testMagic, []byte("new"))[:5], 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(path, testMagic); err != nil || string(got) != "old" {
		t.Fatalf("got %q, %v, want the old content", got, err)
	}
	if err := Write(path, testMagic, []byte("newer")); err != nil {
		t.Fatal(err)
	}
	if got, _ := Read(path, testMagic); string(got) != "newer" {
		t.Fatalf("got %q after the next write, want newer", got)
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	good := Encode(testMagic, []byte("some content"))
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := Decode(testMagic, bad); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("bit %d flipped: got %v, want ErrCorrupt", i, err)
		}
	}
}

// What Decode accepts, Encode writes back byte for byte.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(Encode(testMagic, nil))
	f.Add(Encode(testMagic, []byte("content")))
	f.Fuzz(func(t *testing.T, b []byte) {
		content, err := Decode(testMagic, b)
		if err != nil {
			return
		}
		if !bytes.Equal(Encode(testMagic, content), b) {
			t.Fatalf("decoded %x does not encode to %x", content, b)
		}
	})
}
