//go:build !linux

package demo

import "syscall"

// attributes keep a Ctrl-C on the terminal from a child, which the demo ends in
// order, and let one that is to be kept outlive the terminal.
func attributes(keep bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: !keep, Setsid: keep}
}
