package peer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// shake lets two sides shake hands over a pipe.
func shake(t *testing.T, dialler, acceptor Secret, v verdict, introduce bool) (d, a session, dialErr, acceptErr error) {
	t.Helper()
	x, y := net.Pipe()
	defer x.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer y.Close()
		a, acceptErr = acceptHandshake(y, hello{uuid: uuidOf(2)}, func(*hello) (verdict, Secret) { return v, acceptor }, offered(22))
	}()
	d, dialErr = dialHandshake(x, hello{class: Bulk, cluster: testCluster, uuid: uuidOf(1), meant: uuidOf(2), host: 1, addr: "a:1"}, dialler, introduce, offered(11))
	x.Close()
	<-done
	return d, a, dialErr, acceptErr
}

// offered lets everybody in and offers a first start.
func offered(nonce uint64) gate { return gate{own: Offer{Start: Start{Boot: 1, Nonce: nonce}}} }

func TestHandshake(t *testing.T) {
	d, a, err1, err2 := shake(t, testSecret, testSecret, verdictMember, false)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if want := (Remote{Cluster: testCluster, UUID: uuidOf(1), Host: 1, Addr: "a:1", Start: Start{Boot: 1, Nonce: 11}, Secret: testSecret}); a.remote != want || a.class != Bulk {
		t.Errorf("the acceptor sees %+v, want %+v", a.remote, want)
	}
	if d.remote.UUID != uuidOf(2) || d.remote.Start.Nonce != 22 {
		t.Errorf("the dialler sees %+v", d.remote)
	}
	if _, _, err, _ := shake(t, testSecret, Secret{9}, verdictMember, false); !errors.Is(err, errSecret) {
		t.Errorf("with another secret: %v", err)
	}
	// An arbitrator that says it does not know us is told only if we allow it.
	if _, a, err, _ := shake(t, testSecret, Secret{}, verdictIntroduce, true); err != nil || a.remote.Secret != testSecret || !a.remote.Introduced {
		t.Errorf("introduction: %v, %+v", err, a.remote)
	}
	if _, a, err, _ := shake(t, testSecret, Secret{}, verdictIntroduce, false); err == nil || a.remote.Secret == testSecret {
		t.Errorf("introduction that was not wished: %v", err)
	}
	// A claim to be a guest's host does not pass for a member's.
	if _, _, err, _ := shake(t, testSecret, Secret{}, verdictGuest, true); err == nil {
		t.Error("a member took the part of a guest")
	}
}

// A frame opens once, in its place, unchanged.
func TestFramesAreSealed(t *testing.T) {
	d, a, _, _ := shake(t, testSecret, testSecret, verdictMember, false)
	frame := func(text string) []byte {
		b, start := begin(nil, frameMessages)
		return d.seal.end(append(b, text...), start)
	}
	first, second := frame("first"), frame("second")
	read := func(b []byte) (string, error) {
		s := *a.open // each case starts at the same place
		_, payload, err := s.readFrame(bufio.NewReader(bytes.NewReader(b)), 100)
		return string(payload), err
	}
	if got, err := read(first); err != nil || got != "first" {
		t.Errorf("the first frame: %q, %v", got, err)
	}
	if bytes.Contains(first, []byte("first")) {
		t.Error("a frame can be read on the wire")
	}
	if _, err := read(second); err == nil {
		t.Error("a frame opened out of turn")
	}
	for i := range first {
		broken := bytes.Clone(first)
		broken[i] ^= 1
		if _, err := read(broken); err == nil {
			t.Errorf("a frame with a flipped bit in byte %d opened", i)
		}
	}
	if _, err := read(frame(string(make([]byte, 101)))); err == nil {
		t.Error("a frame above the limit was read")
	}
}

// FuzzAccept: whatever a stranger says, he proves nothing.
func FuzzAccept(f *testing.F) {
	f.Add((&hello{class: Beats, cluster: testCluster, uuid: uuidOf(1)}).append(nil))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		rw := struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(said), io.Discard}
		n := NewNet(Config{UUID: id.UUID{2}}, Identity{}, quiet())
		self := Identity{Cluster: testCluster, Secret: testSecret}
		if s, err := acceptHandshake(rw, hello{uuid: uuidOf(2)}, func(h *hello) (verdict, Secret) { return n.judge(h, self) }, offered(2)); err == nil {
			t.Errorf("%x became %+v", said, s.remote)
		}
	})
}

// FuzzReadFrame: bytes that were not sealed for this connection do not open.
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 1, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := newSealer(make([]byte, keyBytes))
		if err != nil {
			t.Fatal(err)
		}
		if kind, payload, err := s.readFrame(bufio.NewReader(bytes.NewReader(b)), maxBeatsFrame); err == nil {
			t.Errorf("a frame of kind %d opened: %x", kind, payload)
		}
	})
}

// FuzzCallFrame: no piece of a call makes a connection panic or hold more than
// its bound.
func FuzzCallFrame(f *testing.F) {
	f.Add(byte(frameRequest), []byte{1, pieceFirst | pieceLast, 4, 'e', 'c', 'h', 'o', 2, 'h', 'i'}, []byte{})
	f.Add(byte(frameReply), []byte{1, pieceFirst, 0, 4, 'h', 'i'}, []byte{1, pieceLast, 'h', 'o'})
	f.Add(byte(frameCancel), []byte{1}, []byte{})
	f.Fuzz(func(t *testing.T, kind byte, first, second []byte) {
		n := NewNet(Config{UUID: uuidOf(1)}, Identity{}, quiet())
		x, y := net.Pipe()
		defer y.Close()
		c := newConn(n, x, session{class: classCalls, remote: Remote{Cluster: testCluster}}, "", false)
		defer c.fail(errClosed)
		for _, payload := range [][]byte{first, second} {
			if c.callFrame(frameType(kind), payload) != nil {
				break
			}
		}
		if c.calls.bytes > maxArriving {
			t.Errorf("%d bytes are held", c.calls.bytes)
		}
	})
}
