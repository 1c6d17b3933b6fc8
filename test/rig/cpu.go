package rig

import (
	"bytes"
	"fmt"
	"os"
	"time"
)

// clockTick is the unit of the times in /proc: USER_HZ, 100 on every Linux.
const clockTick = 10 * time.Millisecond

// CPUTime is what a machine's process has used of the processors so far, its
// own time and the kernel's on its behalf.
func (r *Rig) CPUTime(name string) (time.Duration, error) { return cpuTime(r.Pid(name)) }

// OwnCPUTime is the same of this process.
func OwnCPUTime() (time.Duration, error) { return cpuTime(os.Getpid()) }

func cpuTime(pid int) (time.Duration, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	stat, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	// The name, the second field, may hold spaces but ends the last bracket.
	// Of what follows, the 12th and the 13th are utime and stime.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	var user, system int64
	if len(fields) < 13 {
		return 0, fmt.Errorf("read processor time: %s has %d fields", path, len(fields))
	}
	if _, err := fmt.Sscan(string(fields[11])+" "+string(fields[12]), &user, &system); err != nil {
		return 0, fmt.Errorf("read processor time in %s: %w", path, err)
	}
	return time.Duration(user+system) * clockTick, nil
}
