package peer

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tune makes the kernel notice a dead peer: data that nobody acknowledges ends
// the connection, and so does a silent one. Our own keep-alive frames do the
// same; these cover the time when this process can't run them.
func tune(nc net.Conn, giveUp time.Duration) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	// No error of these matters: the connection works without them.
	_ = tcp.SetNoDelay(true)
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: giveUp / 2, Interval: giveUp / 4, Count: 2})
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(min(giveUp, unheardWithin)/time.Millisecond))
	})
}
