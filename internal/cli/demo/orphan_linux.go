package demo

import "syscall"

// attributes keep a Ctrl-C on the terminal from a child, which the demo ends in
// order, and end the child with the demo if that is killed. The kernel looks at
// the thread that started it, so that must live as long as the child.
//
// A child that is to be kept has a session of its own instead, so that it stays
// when the demo has ended and the terminal is closed.
func attributes(keep bool) *syscall.SysProcAttr {
	if keep {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
