package peer

import (
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is sent on a dead connection ends it within seconds, also on one to an
// arbitrator, whose keep-alives are far between.
func TestUnconfirmedDataEndsTheConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, round := range []time.Duration{keepAlive, keepAliveArbitrator, keepAlive / 10} {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		tune(nc, silentRounds*round)
		raw, err := nc.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		if err := raw.Control(func(fd uintptr) {
			got, err = unix.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		}); err != nil {
			t.Fatal(err)
		}
		if want := min(silentRounds*round, 4*time.Second); err != nil || time.Duration(got)*time.Millisecond != want {
			t.Errorf("keep-alives every %v: %d ms, %v; want %v", round, got, err, want)
		}
	}
}
