package main

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
)

// gcPercent lets the heap grow to three times what is alive before it is
// collected. At the default of 100 a host that takes 30,000 rows a second, most
// of whose memory is the stores' memtables, marked them over and over: a tenth
// of its time.
const gcPercent = 200

// tuneMemory sets how much memory is traded for processor time, unless the
// environment says it (GOGC, GOMEMLIMIT). As the heap nears half of what this
// process may have it is collected as often as needed to stay below.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		if most := memory(); most < math.MaxInt64 {
			debug.SetMemoryLimit(most / 2)
		}
	}
}

// memory is how many bytes this process may have: those of the machine, or of
// the control group that it runs in. What can't be read sets no limit.
func memory() int64 {
	most := int64(math.MaxInt64)
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err == nil {
		most = int64(info.Totalram) * int64(info.Unit)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return most
	}
	// Of version 2 there is one line: 0::/path. A group is also bound by those
	// above it.
	for line := range bytes.Lines(own) {
		path, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("0::/"))
		if !ok {
			continue
		}
		for at := "/" + string(path); ; at = filepath.Dir(at) {
			text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", at, "memory.max"))
			if n, bad := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64); err == nil && bad == nil {
				most = min(most, n) // "max" is no number, and no limit
			}
			if at == "/" {
				break
			}
		}
	}
	return most
}
