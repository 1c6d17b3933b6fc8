package peer

import (
	"encoding/binary"
	"net"
	"testing"
	"testing/synctest"
)

// stranger is a guest that keeps to the wire format and to nothing else.
type stranger struct {
	net.Conn
	session
	calls uint64
}

func (n *fakeNet) stranger(t *testing.T, addr string) *stranger {
	t.Helper()
	nc, err := n.dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	s, err := dialHandshake(nc, hello{class: classCalls, uuid: uuidOf(99)}, Secret{}, false, gate{})
	if err != nil {
		t.Fatal(err)
	}
	return &stranger{Conn: nc, session: s}
}

// ask sends the first pieces of a call whose body will have so many bytes.
func (s *stranger) ask(method string, want, sent int) error {
	s.calls++
	o := outgoing{kind: frameRequest, id: s.calls, method: method, body: make([]byte, want)}
	c := conn{session: s.session}
	for o.sent < sent || !o.begun {
		if _, err := s.Write(c.appendChunk(nil, &o)); err != nil {
			return err
		}
	}
	return nil
}

// A guest has proved nothing, so what it can make this side hold is small: of
// answers that it does not read, of bodies that it does not complete, and of
// frames that it announces.
func TestGuestHoldsLittle(t *testing.T) {
	frame := func(s *stranger) error {
		if s.calls++; s.calls > 1 {
			_, err := s.Write(make([]byte, 1<<10))
			return err
		}
		header, _ := begin(nil, frameRequest)
		binary.LittleEndian.PutUint32(header[4:], maxFrame)
		_, err := s.Write(header)
		return err
	}
	for name, again := range map[string]func(*stranger) error{
		"answers that it does not read":  func(s *stranger) error { return s.ask("no such call", 0, 0) },
		"bodies that it does not finish": func(s *stranger) error { return s.ask("hello", maxGuestBody, maxGuestBody/2) },
		"long frames":                    frame,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet()
				a := n.join(t, 1, Identity{Cluster: testCluster, Secret: testSecret}, nil)
				s := n.stranger(t, a.addr)
				defer s.Close()
				times := 0
				for ; times < 1000; times++ {
					if again(s) != nil {
						break
					}
				}
				if times == 1000 {
					t.Errorf("%d times, and the connection still stands", times)
				}
				a.stop()
			})
		})
	}
}
