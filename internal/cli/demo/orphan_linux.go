package demo

import "syscall"

// attributes keep a Ctrl-C on the terminal from a child, which the demo ends in
// order, and end the child with the demo if that is killed. The kernel looks at
// the thread that started it, so that must live as long as the child.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
