//go:build !linux

package demo

import "syscall"

// attributes keep a Ctrl-C on the terminal from a child, which the demo ends in
// order.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
